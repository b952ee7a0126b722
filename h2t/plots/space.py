"""Feature space: the channels that fusion swaps, decision boundaries, embeddings."""

from __future__ import annotations

import numpy as np

from h2t.base.errors import Error
from h2t.plots.style import (
    AFTER,
    BEFORE,
    COLOURS,
    FUSED,
    MARKERS,
    METHODS,
    legend_below,
    new_axes,
    short,
    styled,
)

SETS = {  # colour, marker, size, opacity; head and tail in their groups' hues, darker for the test images
    "train head": (COLOURS["many"], "o", 18, 0.35),
    "train tail": (COLOURS["few"], "o", 60, 0.95),
    "fused": (FUSED, "x", 34, 0.7),
    "test head": ("#004C77", "s", 24, 0.6),
    "test tail": ("#7F3800", "s", 26, 0.8),
}


@styled
def plot_mask(fused: np.ndarray, fusing: np.ndarray, mask: np.ndarray, axes=None):
    """How fusion mixes two branches, channel by channel.

    Arguments: ``fused`` and ``fusing`` features (D,); ``mask`` (D,) bool, True where the fusing branch is taken.
    Returns: three Axes. Raises: ``h2t.Error`` where the shapes differ.
    """
    fused, fusing, mask = np.asarray(fused), np.asarray(fusing), np.asarray(mask, bool)
    if not fused.shape == fusing.shape == mask.shape or mask.ndim != 1:
        raise Error(
            f"features and mask must all be (D,); got {fused.shape}, {fusing.shape} and {mask.shape}"
        )
    axes = np.ravel(new_axes(axes, 3, 1, (11, 5.6), sharex=True, sharey=True))
    x = np.arange(len(mask))
    result = np.where(mask, fusing, fused)
    tail, head = METHODS[3], METHODS[1]
    rows = [
        (
            "Fused branch: keeps its label; pale channels are given up",
            fused,
            np.where(mask, "#F0D5E3", tail),
        ),
        (
            "Fusing branch: lends its channels; pale ones are not used",
            fusing,
            np.where(mask, head, "#D3EAF8"),
        ),
        (
            f"Result: {mask.sum()} of {len(mask)} channels come from the fusing branch",
            result,
            np.where(mask, head, tail),
        ),
    ]
    for ax, (title, values, colours) in zip(axes, rows, strict=True):
        ax.bar(x, values, color=list(colours), width=0.85)
        ax.set_title(title)
        ax.set_ylabel("activation")
        ax.grid(axis="x", visible=False)
    axes[-1].set(xlabel="feature channel", xlim=(-0.8, len(mask) - 0.2))
    return axes


@styled
def plot_boundary(
    points: dict[str, np.ndarray],
    lines: dict[str, tuple[np.ndarray, float]],
    names: tuple[str, str] = ("head", "tail"),
    ax=None,
    limits=None,
):
    """Two decision boundaries in the plane that they span, exact (``h2t.lab.explorer.boundary.plane``).

    Arguments: ``points`` set name (train head, train tail, fused, test head, test tail) to (n, 2); ``lines`` name to
    ``(a (2,), b)``, positive on the tail's side: the first is drawn grey, the last in colour and with the tail's side
    shaded; ``names`` of the head and the tail class; ``limits`` ((x low, x high), (y low, y high)) to hold the view still.
    The legend gives each set's share on the tail's side of both lines. Returns: Axes.
    Raises: ``h2t.Error`` for an unknown set, no points at all, or no line.
    """
    if unknown := set(points) - set(SETS):
        raise Error(
            f"there is no style for the points {sorted(unknown)}; choose from {', '.join(SETS)}"
        )
    points = {name: np.reshape(xy, (-1, 2)) for name, xy in points.items()}
    if not lines or not sum(map(len, points.values())):
        raise Error(
            "a boundary needs at least one line and one point; choose classes that have images"
        )
    ax = new_axes(ax, size=(9.5, 7))
    everything = np.concatenate(list(points.values()))
    low, high = everything.min(0), everything.max(0)
    pad = 0.06 * np.where(high > low, high - low, 1.0)
    (x0, x1), (y0, y1) = limits or np.stack([low - pad, high + pad], 1)
    first, last = list(lines)[0], list(lines)[-1]
    corners = np.stack(
        np.meshgrid([x0, x1], [y0, y1]), -1
    )  # a score is linear: its contour between four corners is exact
    score = corners @ np.asarray(lines[last][0]) + lines[last][1]
    if score.max() > 0:
        ax.contourf(
            corners[..., 0],
            corners[..., 1],
            score,
            levels=[0, score.max() * 1.01],
            colors=[COLOURS["few"]],
            alpha=0.1,
            zorder=0,
        )
    for name, colour, style in [(first, BEFORE, "--"), (last, AFTER, "-")][-len(lines) :]:
        a, b = np.asarray(lines[name][0], float), lines[name][1]
        foot = -b * a / (a @ a)  # the line's point next to the origin
        ax.axline(
            foot, foot + [-a[1], a[0]], color=colour, ls=style, lw=2.8, label=f"boundary, {name}"
        )
    for name, xy in points.items():
        colour, marker, size, alpha = SETS[name]
        shares = (
            [
                f"{100 * np.mean(xy @ lines[n][0] + lines[n][1] > 0):.0f}"
                for n in dict.fromkeys((first, last))
            ]
            if len(xy)
            else []
        )
        label = f"{name}: {' → '.join(shares)} % on the tail's side" if shares else f"{name}: none"
        fill = (
            {"facecolor": "none", "edgecolor": colour, "lw": 1.3}
            if marker == "s"
            else {"color": colour, "lw": 1.4 if marker == "x" else 0}
        )
        ax.scatter(
            *xy.T,
            marker=marker,
            s=size,
            alpha=alpha,
            label=label,
            zorder=4 if name == "train tail" else 3,
            **fill,
        )
    ax.set(
        xlim=(x0, x1),
        ylim=(y0, y1),
        xlabel=f"along w(tail) - w(head) of {first} (feature units)",
        ylabel="perpendicular to it (feature units)",
    )
    ax.set_title(
        f"{short(names[0], 20)} (head) or {short(names[1], 20)} (tail)?\nShaded: decided for the tail, {last}"
    )
    legend_below(ax, ncols=2)
    return ax


@styled
def plot_embedding(
    xy: np.ndarray,
    labels: np.ndarray,
    names: dict[int, str] | tuple[str, ...],
    fused: np.ndarray | None = None,
    ax=None,
):
    """A t-SNE map of features, coloured by class, with fused features placed into it.

    The view is that of the map alone, so that new fused features do not move it.
    Arguments: ``xy`` (n, 2); ``labels`` (n,) class indices; ``names`` class index to legend text, or all classes' names,
    of which those in ``labels`` are drawn, where they are two in the colours of head and tail; ``fused`` (m, 2). Returns: Axes.
    Raises: ``h2t.Error`` for more classes than can be told apart.
    """
    xy, labels = np.reshape(xy, (-1, 2)), np.asarray(labels)
    names = names if isinstance(names, dict) else {int(k): names[k] for k in np.unique(labels)}
    palette = (*METHODS[1:], "#8C510A", METHODS[0])
    if len(names) > len(palette) * len(MARKERS):
        raise Error(
            f"{len(names)} classes cannot be told apart on one map; choose at most {len(palette) * len(MARKERS)}"
        )
    if len(names) <= 2:
        palette = (COLOURS["many"], COLOURS["few"])  # head and tail
    ax = new_axes(ax, size=(8, 6.8 + 0.22 * max(0, len(names) - 9) / 3))
    for k, (c, name) in enumerate(names.items()):
        here = xy[labels == c]
        ax.scatter(
            *here.T,
            s=26,
            color=palette[k % len(palette)],
            marker=MARKERS[k // len(palette)],
            alpha=0.75,
            lw=0,
            label=f"{short(name)} ({len(here)})",
        )
    drawn = xy[np.isin(labels, list(names))]
    if len(drawn):
        low, high = drawn.min(0), drawn.max(0)
        pad = 0.06 * np.where(high > low, high - low, 1.0)
        ax.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
    outside = 0
    if fused is not None and len(fused):
        fused = np.reshape(fused, (-1, 2))
        (x0, x1), (y0, y1) = (
            (ax.get_xlim(), ax.get_ylim()) if len(drawn) else ((-np.inf, np.inf),) * 2
        )
        outside = int(((fused < (x0, y0)) | (fused > (x1, y1))).any(1).sum())
        ax.scatter(
            *fused.T, s=44, marker="x", color=FUSED, lw=1.6, label=f"fused ({len(fused)})", zorder=4
        )
    title = (
        "Where fused features fall among the real ones"
        if fused is not None and len(fused)
        else "Which classes lie close together"
    )
    title += f" ({outside} outside)" if outside else ""
    ax.set(
        xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)", title=title
    )
    legend_below(ax, 26, ncols=3)
    return ax
