"""Feature space: the channels that fusion swaps, decision boundaries, embeddings."""

from __future__ import annotations

import numpy as np

from h2t.base.errors import Error
from h2t.plots.style import (
    AFTER,
    BEFORE,
    COLOURS,
    MARKERS,
    METHODS,
    legend_below,
    new_ax,
    new_axes,
    short,
    styled,
)

__all__ = ["SETS", "plot_boundary", "plot_embedding", "plot_mask"]

# colour, marker, size, opacity; head and tail in their groups' hues, darker for the test images
SETS = {
    "train head": (COLOURS["many"], "o", 18, 0.35),
    "train tail": (COLOURS["few"], "o", 60, 0.95),
    "test head": ("#004C77", "s", 24, 0.6),
    "test tail": ("#7F3800", "s", 26, 0.8),
}


@styled
def plot_mask(fused: np.ndarray, fusing: np.ndarray, mask: np.ndarray):
    """How fusion mixes two branches, channel by channel.

    Arguments: ``fused`` and ``fusing`` features (D,); ``mask`` (D,) bool, True where the fusing
    branch is taken. Returns: three Axes.
    """
    axes = new_axes(11, 5.6, rows=3, sharex=True, sharey=True)
    x, tail, head = np.arange(len(mask)), METHODS[3], METHODS[1]
    taken = f"{mask.sum()} of {len(mask)} channels come from the fusing branch"
    # title, values, colours where the fusing branch is taken and where it is not
    rows = (
        ("Fused branch: keeps its label; pale channels are given up", fused, "#F0D5E3", tail),
        ("Fusing branch: lends its channels; pale ones are not used", fusing, head, "#D3EAF8"),
        (f"Result: {taken}", np.where(mask, fusing, fused), head, tail),
    )
    for ax, (title, values, inside, outside) in zip(axes, rows, strict=True):
        ax.bar(x, values, color=list(np.where(mask, inside, outside)), width=0.85)
        ax.set(ylabel="activation")
        ax.set_title(title)
        ax.grid(axis="x", visible=False)
    axes[-1].set(xlabel="feature channel", xlim=(-0.8, len(mask) - 0.2))
    return axes


@styled
def plot_boundary(
    points: dict[str, np.ndarray],
    lines: dict[str, tuple[np.ndarray, float]],
    names: tuple[str, str] = ("head", "tail"),
):
    """Decision boundaries in the plane that two of them span (``h2t.lab.explorer.boundary.plane``).

    The legend gives each set's share on the tail's side of every line in turn.

    Arguments: ``points`` name of one of ``SETS`` to (n, 2); ``lines`` name to ``(a (2,), b)``,
    positive on the tail's side, of stage 1, DR and H2T: the first is dashed, the last has the
    tail's side shaded; ``names`` of the head and the tail class. Returns: Axes.
    Raises: ``h2t.Error`` for no points at all.
    """
    points = {name: np.reshape(xy, (-1, 2)) for name, xy in points.items()}
    if not sum(map(len, points.values())):
        raise Error("a boundary needs a point; choose classes that have images")
    ax = new_ax(9.5, 7)
    xy = np.concatenate(list(points.values()))
    low, high = xy.min(0), xy.max(0)
    margin = 0.06 * np.where(high > low, high - low, 1.0)
    (x0, y0), (x1, y1) = low - margin, high + margin
    last = list(lines)[-1]
    # a score is linear: its contour between four corners is exact
    corners = np.stack(np.meshgrid([x0, x1], [y0, y1]), -1)
    score = corners @ np.asarray(lines[last][0]) + lines[last][1]
    if score.max() > 0:
        how = dict(levels=[0, score.max() * 1.01], colors=[COLOURS["few"]], alpha=0.1, zorder=0)
        ax.contourf(corners[..., 0], corners[..., 1], score, **how)
    looks = [(BEFORE, "--"), (METHODS[1], ":")][: len(lines) - 1] + [(AFTER, "-")]
    for (name, (a, b)), (colour, style) in zip(lines.items(), looks, strict=True):
        a = np.asarray(a, float)
        foot = -b * a / (a @ a)  # the line's point next to the origin
        how = dict(color=colour, ls=style, lw=2.8, label=f"boundary, {name}")
        ax.axline(foot, foot + [-a[1], a[0]], **how)
    for name, xy in points.items():
        colour, marker, size, alpha = SETS[name]
        shares = [f"{100 * np.mean(xy @ a + b > 0):.0f}" for a, b in lines.values() if len(xy)]
        label = f"{name}: {' → '.join(shares)} % on the tail's side" if shares else f"{name}: none"
        fill = {"color": colour, "lw": 0}
        if marker == "s":
            fill = {"facecolor": "none", "edgecolor": colour, "lw": 1.3}
        above = 4 if name == "train tail" else 3
        ax.scatter(*xy.T, marker=marker, s=size, alpha=alpha, label=label, zorder=above, **fill)
    ax.set(xlim=(x0, x1), ylim=(y0, y1))
    ax.set_xlabel(f"along w(tail) - w(head) of {next(iter(lines))} (feature units)")
    ax.set_ylabel("perpendicular to it (feature units)")
    asked = f"{short(names[0], 20)} (head) or {short(names[1], 20)} (tail)?"
    ax.set_title(f"{asked}\nShaded: decided for the tail, {last}")
    legend_below(ax, ncols=2)
    return ax


@styled
def plot_embedding(xy: np.ndarray, labels: np.ndarray, names: dict[int, str]):
    """A t-SNE map of the features of a head and a tail class.

    Arguments: ``xy`` (n, 2); ``labels`` (n,) class indices; ``names`` the head's and the tail's
    index to legend text. Returns: Axes.
    """
    ax = new_ax(8, 6.8)
    looks = zip((COLOURS["many"], COLOURS["few"]), MARKERS, strict=False)
    for (c, name), (colour, marker) in zip(names.items(), looks, strict=False):
        here, look = xy[labels == c], dict(s=26, alpha=0.75, lw=0)
        called = f"{short(name)} ({len(here)})"
        ax.scatter(*here.T, color=colour, marker=marker, label=called, **look)
    ax.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
    ax.set_title("How close the two classes lie together")
    legend_below(ax, 26, ncols=2)
    return ax
