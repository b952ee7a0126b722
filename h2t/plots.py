"""Figures: each ``plot_x(table, ax=None)`` draws one, returns its Axes, and changes no global setting.

Many, medium and few have the same three colours everywhere, told apart by the colour-blind (Okabe and Ito) as well, and
nothing else has them. All accuracies are in percent; a group without classes is named as empty.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import numpy as np

from h2t.errors import Error
from h2t.files import write_atomic

COLOURS = {"many": "#0072B2", "medium": "#E69F00", "few": "#D55E00", "all": "#333333"}
TEXT = {**COLOURS, "medium": "#8F6300", "few": "#B34F00"}  # the same hues, dark enough to be read as letters on white
METHODS = ("#8C8C8C", "#56B4E9", "#009E73", "#CC79A7", "#5D3A9B")
# the steps of a run: their names in figures, and one colour each everywhere
STEPS = {"stage1": "stage 1", "stage2-dr": "DR", "stage2-dr-both": "DR, BN sees both", "stage2-h2t": "DR + H2T"}
_STEP_COLOURS = {"stage 1": METHODS[0], "DR": METHODS[1], "DR + H2T": METHODS[2], "DR, BN sees both": METHODS[3]}
MARKERS = ("o", "s", "D", "^", "v")
BEFORE, AFTER, FUSED = "#8C8C8C", "#009E73", "#222222"
STYLE = {
    "font.size": 12, "axes.titlesize": 13, "axes.labelsize": 12, "legend.fontsize": 10.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#E5E5E5", "axes.axisbelow": True, "legend.frameon": False,
    "axes.titlelocation": "left", "savefig.dpi": 110, "figure.dpi": 100,
}  # fmt: skip
# for the figures of this module, which fit their margins to the letters: larger, for the projector
_LARGE = {
    "font.size": 13, "axes.titlesize": 14, "axes.labelsize": 13, "legend.fontsize": 12,
    "figure.constrained_layout.h_pad": 0.08, "figure.constrained_layout.w_pad": 0.1,
}  # fmt: skip


def _styled(plot: Callable) -> Callable:
    """Draw in the style of this module, whatever the global one is."""

    @wraps(plot)
    def drawn(*args, **kwargs):
        import matplotlib.style

        with matplotlib.style.context(["default", STYLE, _LARGE]):
            return plot(*args, **kwargs)

    return drawn


def _axes(ax, rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 4.2), **how):
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(rows, columns, figsize=size, layout="constrained", **how)[1]
    if np.size(ax) != rows * columns:
        raise Error(f"this figure has {rows * columns} panels, but {np.size(ax)} axes were given")
    return ax


def _colours(methods) -> list[str]:
    """A colour for each method: a step of a run has its own, the others take what is left."""
    methods = list(methods)
    left = [c for c in METHODS if c not in {_STEP_COLOURS.get(m) for m in methods}] or list(METHODS)
    others = [m for m in methods if m not in _STEP_COLOURS]
    return [_STEP_COLOURS[m] if m in _STEP_COLOURS else left[others.index(m) % len(left)] for m in methods]


def _empties(groups: dict) -> str:
    """`` (many: empty)`` for a title, where a group has no classes."""
    names = [g for g, classes in groups.items() if not len(classes)]
    return f"  ({', '.join(names)}: empty)" if names else ""


def _below(ax, points: float = 46, **how) -> None:
    """The legend under the axis and its labels, ``points`` below, where it can hide nothing."""
    from matplotlib.transforms import ScaledTranslation

    under = ax.transAxes + ScaledTranslation(0, -points / 72, figure_of(ax).dpi_scale_trans)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=under, columnspacing=1.4, borderaxespad=0, **how)


def _short(name: str, letters: int = 14) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def figure_of(axes):
    """The figure that an Axes, or an array of them, belongs to."""
    return (axes if hasattr(axes, "figure") else np.ravel(axes)[0]).figure


def save(axes, path: str | Path) -> list[Path]:
    """Save a figure as PNG and PDF. Arguments: ``axes`` as a plot returns them; ``path`` without ending."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")]
    for file in files:
        write_atomic(file, lambda f, kind=file.suffix[1:]: figure_of(axes).savefig(f, format=kind, dpi=150))
    return files


def _group_of(num_classes: int, groups: dict[str, np.ndarray]) -> np.ndarray:
    of = np.full(num_classes, "all", dtype=object)
    for g, classes in groups.items():
        of[classes] = g
    return of


@_styled
def plot_counts(counts: np.ndarray, groups: dict[str, np.ndarray], ax=None):
    """The long tail: training images per class, largest class first, coloured by group.

    Arguments: ``counts`` (C,); ``groups`` many, medium and few to class indices. Returns: Axes.
    """
    counts = np.asarray(counts)
    ax = _axes(ax, size=(9, 5))
    order = np.argsort(-counts, kind="stable")
    of = _group_of(len(counts), groups)[order]
    for g, classes in groups.items():
        where = np.flatnonzero(of == g)
        label = f"{g}: {len(classes)} class{'es' * (len(classes) > 1)}, {100 * counts[classes].sum() / counts.sum():.0f} % of the images" if len(classes) else f"{g}: empty"
        ax.bar(where, counts[order][where], width=1 if len(counts) > 30 else 0.85, color=COLOURS[g], label=label)
    ax.set(yscale="log", ylabel="training images", xlabel="class, by size", ylim=(0.8, counts.max() * 1.6), xlim=(-0.7, len(counts) - 0.3))
    _plain_log(ax.yaxis, 0.8, counts.max() * 1.6)
    if len(counts) <= 12:
        ax.set_xticks(range(len(counts)), [str(c) for c in order])
    ax.grid(axis="x", visible=False)
    head = int(np.ceil(len(counts) / 5))
    share = 100 * counts[order][:head].sum() / counts.sum()
    ax.set_title(f"The {head} largest of {len(counts)} classes own {share:.0f} % of {counts.sum():,} training images")
    _below(ax, ncols=1)
    return ax


@_styled
def plot_strip(images: np.ndarray, labels: np.ndarray, counts: np.ndarray, groups: dict, classes: tuple[str, ...], columns: int = 10, axes=None):
    """What the groups look like: a strip of images per group, from the first, middle and last of its classes.

    Arguments: ``images`` (N, H, W, C) uint8, grey or RGB; ``labels`` (N,); ``counts`` (C,); ``classes`` names.
    Returns: an array of Axes, one a class shown, and one for each empty group, which says so.
    """
    chosen = []
    for g, members in groups.items():
        by_size = members[np.argsort(-counts[members], kind="stable")] if len(members) else []
        picks = sorted({0, len(by_size) // 2, len(by_size) - 1}) if len(by_size) else []
        chosen += [(g, int(by_size[k])) for k in picks] or [(g, None)]
    heights = [1 if k is not None else 0.35 for _, k in chosen]
    axes = np.atleast_1d(_axes(axes, len(chosen), 1, (9, 0.95 * sum(heights) + 0.6), height_ratios=heights))
    h, w, c = images.shape[1:]
    gap, named = max(1, w // 16), set()
    for ax, (g, k) in zip(axes, chosen, strict=True):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
        if g not in named:
            ax.set_title(g if k is not None else f"{g}: empty", color=TEXT[g], fontsize=13, weight="bold")
        named.add(g)
        if k is None:
            continue
        strip = np.full((h, columns * (w + gap) - gap, 3), 255, np.uint8)
        for j, i in enumerate(np.flatnonzero(labels == k)[:columns]):
            strip[:, j * (w + gap) : j * (w + gap) + w] = images[i] if c == 3 else images[i].repeat(3, axis=2)
        ax.imshow(strip, interpolation="nearest")
        ax.set_ylabel(f"{_short(classes[k])}\nn = {counts[k]}", rotation=0, ha="right", va="center", color=TEXT[g], fontsize=12)
    return axes


@_styled
def plot_learning_curves(table, axes=None):
    """Test accuracy by group, and loss, over the epochs.

    Arguments: ``table`` rows of metrics.jsonl; epochs without an evaluation have no accuracy. Returns: two Axes.
    """
    from matplotlib.ticker import MaxNLocator

    left, right = axes = np.ravel(_axes(axes, 1, 2, (11.5, 5)))
    seen = table[table["top1"].notna()] if "top1" in table else table.iloc[:0]
    marker, empty = "o" if len(seen) <= 30 else None, {}
    for column, g in (("many", "many"), ("medium", "medium"), ("few", "few"), ("top1", "all")):
        values = seen[column].astype(float) if column in seen else seen["epoch"] * np.nan
        if values.notna().any():
            left.plot(seen["epoch"], values, color=COLOURS[g], marker=marker, ms=4, lw=2, ls="--" if g == "all" else "-", label=f"{g} {values.iloc[-1]:.1f} %")
        else:
            empty[g] = ()
    left.set(xlabel="epoch", ylabel="test accuracy, %", ylim=(0, 103), title="Accuracy by group" if len(seen) else "Accuracy by group: none yet")
    if len(seen):
        left.set_title(f"Accuracy at epoch {seen['epoch'].iloc[-1]:.0f}: {seen['top1'].iloc[-1]:.1f} % over all" + (f"\n{_empties(empty).strip()}" if empty else ""))
        _below(left, ncols=2)
    right.plot(table["epoch"], table["loss"], color=COLOURS["all"], lw=2)
    right.set(xlabel="epoch", ylabel="training loss", title="Loss (line) and learning rate (grey steps)", ylim=(0, None))
    rate = right.twinx()
    rate.step(table["epoch"], table["lr"], where="mid", color="#999999", lw=1.8)
    rate.set(yscale="log", ylabel="learning rate")
    rate.yaxis.label.set_color("#6E6E6E")
    rate.tick_params(axis="y", which="both", colors="#6E6E6E")
    rate.grid(False)
    rate.spines["right"].set_visible(True)
    for ax in (left, right):
        ax.set_xlim(0, max(float(table["epoch"].max()), 2))
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return axes


@_styled
def plot_mask(fused: np.ndarray, fusing: np.ndarray, mask: np.ndarray, axes=None):
    """How fusion mixes two branches, channel by channel.

    Arguments: ``fused`` and ``fusing`` features (D,); ``mask`` (D,) bool, True where the fusing branch is taken.
    Returns: three Axes. Raises: ``h2t.Error`` where the shapes differ.
    """
    fused, fusing, mask = np.asarray(fused), np.asarray(fusing), np.asarray(mask, bool)
    if not fused.shape == fusing.shape == mask.shape or mask.ndim != 1:
        raise Error(f"features and mask must all be (D,); got {fused.shape}, {fusing.shape} and {mask.shape}")
    axes = np.ravel(_axes(axes, 3, 1, (11, 5.6), sharex=True, sharey=True))
    x = np.arange(len(mask))
    result = np.where(mask, fusing, fused)
    tail, head = METHODS[3], METHODS[1]
    rows = [("Fused branch: keeps its label; pale channels are given up", fused, np.where(mask, "#F0D5E3", tail)),
            ("Fusing branch: lends its channels; pale ones are not used", fusing, np.where(mask, head, "#D3EAF8")),
            (f"Result: {mask.sum()} of {len(mask)} channels come from the fusing branch", result, np.where(mask, head, tail))]  # fmt: skip
    for ax, (title, values, colours) in zip(axes, rows, strict=True):
        ax.bar(x, values, color=list(colours), width=0.85)
        ax.set_title(title)
        ax.set_ylabel("activation")
        ax.grid(axis="x", visible=False)
    axes[-1].set(xlabel="feature channel", xlim=(-0.8, len(mask) - 0.2))
    return axes


def _spans(counts: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """From where to where each group reaches on an axis of training images, without overlap where their counts have none."""
    ends = {g: [counts[c].min() / 1.06, counts[c].max() * 1.06] for g, c in groups.items() if len(c)}
    rising = sorted(ends, key=lambda g: ends[g][0])
    for low, high in zip(rising, rising[1:], strict=False):
        if counts[groups[low]].max() < counts[groups[high]].min() and ends[low][1] > ends[high][0]:
            ends[low][1] = ends[high][0] = np.sqrt(counts[groups[low]].max() * counts[groups[high]].min())
    return {g: tuple(ends[g]) for g in ends}


@_styled
def plot_class_accuracy(table, groups: dict[str, np.ndarray], ax=None):
    """Accuracy of every class against its training images, by method, with the mean of each group.

    Arguments: ``table`` with columns method, class, count (1 or more), accuracy (%); ``groups`` many, medium and few to
    class indices. Returns: Axes.
    """
    from matplotlib import patheffects

    ax = _axes(ax, size=(9.5, 5.2))
    by_class = table.drop_duplicates("class").set_index("class")["count"]
    counts = by_class.reindex(range(int(by_class.index.max()) + 1)).to_numpy()
    spans, crowded = _spans(counts, groups), len(by_class) > 300
    colours = _colours(table["method"].unique())
    for m, (method, rows) in enumerate(table.groupby("method", sort=False)):
        colour = colours[m]
        ax.scatter(rows["count"], rows["accuracy"], s=10 if crowded else 32, color=colour, marker=MARKERS[m % len(MARKERS)],
                   alpha=0.3 if crowded else 0.8, lw=0 if crowded else 0.5, edgecolor="white", label=method, zorder=3 if crowded else 5)  # fmt: skip
        accuracy = rows.set_index("class")["accuracy"]
        for g, span in spans.items():
            line = ax.plot(span, [accuracy.reindex(groups[g]).mean()] * 2, color=colour, lw=3.2, solid_capstyle="butt", zorder=4)[0]
            line.set_path_effects([patheffects.withStroke(linewidth=5.5, foreground="white")])
    for g, span in spans.items():
        ax.axvspan(*span, color=COLOURS[g], alpha=0.08, lw=0)
        ax.text(np.sqrt(span[0] * span[1]), 104, g, color=TEXT[g], ha="center", va="bottom", weight="bold")
    low, high = min(s[0] for s in spans.values()), max(s[1] for s in spans.values())
    ax.set(xscale="log", xlabel="training images of the class", ylabel="test accuracy, %", ylim=(-3, 103), xlim=(low / 1.03, high * 1.03))
    _plain_log(ax.xaxis, low, high)
    ax.set_title("Accuracy by class (dots) and group means (bars)" + _empties(groups), pad=26)
    _below(ax, ncols=min(4, table["method"].nunique()))
    for handle in ax.get_legend().legend_handles:
        handle.set(alpha=1, sizes=[40])
    return ax


def _plain_log(axis, low: float, high: float) -> None:
    """Whole numbers instead of powers of ten on a logarithmic axis, about one or three to a decade."""
    from matplotlib.ticker import NullFormatter

    steps = (1, 2, 5) if high / low < 3000 else (1,)
    ticks = [t for t in (s * 10**k for k in range(8) for s in steps) if low <= t <= high]
    axis.set_ticks(ticks, [f"{t:,}" for t in ticks])
    axis.set_minor_formatter(NullFormatter())


@_styled
def plot_confusion_groups(confusions: dict[str, np.ndarray] | np.ndarray, groups: dict[str, np.ndarray], axes=None):
    """Where each group's test images went, in percent of the true group, one panel a method.

    Arguments: ``confusions`` method to (C, C) counts, rows true, or one such array; ``groups`` many, medium and few to
    class indices. The row of an empty group says so. Returns: an array of Axes.
    """
    import seaborn as sns

    confusions = confusions if isinstance(confusions, dict) else {"": confusions}
    given, axes = axes, np.ravel(_axes(axes, 1, len(confusions), (max(6.2, 3.9 * len(confusions) + 0.8), 4.6), sharey=True))
    names, lost = list(groups), []
    for ax, (method, confusion) in zip(axes, confusions.items(), strict=True):
        cells = np.array([[confusion[np.ix_(groups[a], groups[b])].sum() for b in names] for a in names], float)
        right = np.array([np.trace(confusion[np.ix_(groups[a], groups[a])]) for a in names])
        total = cells.sum(1, keepdims=True)
        share = np.divide(100 * cells, total, out=np.full_like(cells, np.nan), where=total > 0)
        lost.append(share[names.index("few"), names.index("many")])
        notes = [[f"{share[i, j]:.1f} %" + (f"\n{100 * right[i] / total[i, 0]:.1f} % right" if i == j else "") if total[i] else "" for j in range(len(names))] for i in range(len(names))]
        sns.heatmap(share, ax=ax, annot=notes, fmt="", cmap="Blues", vmin=0, vmax=100, cbar=False, linewidths=1.5,
                    xticklabels=names, yticklabels=names, annot_kws={"fontsize": 12})  # fmt: skip
        for i in np.flatnonzero(total[:, 0] == 0):
            ax.text(len(names) / 2, i + 0.5, "empty", ha="center", va="center", color="#555555", fontsize=12)
        ax.set(title=method, xlabel="predicted group")
        ax.grid(False)
        ax.tick_params(axis="both", rotation=0, length=0)
    axes[0].set_ylabel("true group")
    percents = " → ".join("empty" if np.isnan(x) else f"{x:.0f}" for x in lost)
    if given is None and len(groups["many"]) and not np.isnan(lost).all():
        figure_of(axes).suptitle(f"Few taken for many: {percents} % of the few-class test images", x=0.01, ha="left", fontsize=14)
    return axes


@_styled
def plot_confusion(confusion: np.ndarray, classes: tuple[str, ...] = (), ax=None):
    """The full confusion matrix in percent of each row; names are shown for up to 20 classes.

    The colours are in steps of the square root, so that single errors among many classes are visible; above 200 classes,
    neighbouring ones are drawn as one cell, with the mean share of its rows.
    Arguments: ``confusion`` (C, C) counts, rows true; ``classes`` names. A class without test images is blank. Returns: Axes.
    """
    import seaborn as sns
    from matplotlib.colors import PowerNorm

    ax = _axes(ax, size=(7.6, 6.4))
    total = confusion.sum(1, keepdims=True)
    share = np.divide(100 * confusion, total, out=np.full(confusion.shape, np.nan), where=total > 0)
    c, block = len(share), -(-len(share) // 100) if len(share) > 200 else 1
    if block > 1:
        tested = np.add.reduceat((total > 0).ravel().astype(float), range(0, c, block))[:, None]
        summed = np.add.reduceat(np.add.reduceat(np.nan_to_num(share), range(0, c, block), 0), range(0, c, block), 1)
        share = np.divide(summed, tested, out=np.full(summed.shape, np.nan), where=tested > 0)
    sns.heatmap(share, ax=ax, cmap="Blues", norm=PowerNorm(0.5, 0, 100), xticklabels=False, yticklabels=False, rasterized=c > 20,
                cbar_kws={"label": "% of the true class's test images", "ticks": [0, 1, 5, 10, 25, 50, 75, 100]})  # fmt: skip
    ax.set_box_aspect(1)
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#BBBBBB")
    if c <= 20:
        names = [_short(n) for n in classes] or [str(k) for k in range(c)]
        ax.set_xticks(np.arange(c) + 0.5, names, rotation=90 if classes else 0)
        ax.set_yticks(np.arange(c) + 0.5, names)
    else:
        ticks = np.arange(0, c, 10 ** int(np.log10(c)) // 5 if c < 500 else 200)
        for set_ticks in (ax.set_xticks, ax.set_yticks):
            set_ticks(ticks / block + 0.5, [str(t) for t in ticks])
    cells = f", a cell is {block} x {block} classes" if block > 1 else ""
    kept = np.nanmean(np.divide(100 * np.diag(confusion), total[:, 0], out=np.full(c, np.nan), where=total[:, 0] > 0)) if total.any() else np.nan
    ax.set(xlabel=f"predicted class{cells}", ylabel="true class", title=f"Confusion: {kept:.1f} % right in the mean class")
    return ax


@_styled
def plot_weight_norms(norms: dict[str, np.ndarray], counts: np.ndarray, ax=None):
    """Length of each class's row of the classifier, largest class first.

    Above 30 classes a line of running means goes through the classes' dots.
    Arguments: ``norms`` method to (C,); ``counts`` (C,) training images. Returns: Axes.
    """
    counts = np.asarray(counts)
    ax = _axes(ax, size=(9, 4.8))
    order, seen, width = np.argsort(-counts, kind="stable"), counts > 0, len(counts) // 10 + 1
    colours = _colours(norms)
    for m, (method, values) in enumerate(norms.items()):
        values, colour, marker = np.asarray(values), colours[m], MARKERS[m % len(MARKERS)]
        slope = np.polyfit(np.log10(counts[seen]), values[seen], 1)[0] if np.ptp(counts[seen]) else 0.0
        label = f"{method} ({slope:+.2f} per tenfold images)"
        if len(counts) <= 30:
            ax.plot(values[order], color=colour, marker=marker, ms=6, lw=1.8, label=label)
            continue
        ax.plot(values[order], color=colour, marker=marker, ms=3 if len(counts) <= 300 else 1.5, lw=0, alpha=0.4)
        mean = np.convolve(values[order], np.ones(width) / width, "valid")
        ax.plot(np.arange(len(mean)) + (width - 1) / 2, mean, color=colour, lw=2.6, label=label)
    highest = max(float(np.max(v)) for v in norms.values())
    ax.set(xlabel="class, by size", ylabel="weight norm (no unit)", title="Does the classifier favour large classes?", ylim=(0, 1.08 * highest))
    if len(counts) <= 12:
        ax.set_xticks(range(len(counts)), [str(c) for c in order])
    _below(ax, ncols=2)
    return ax


@_styled
def plot_reliability(tables: dict, axes=None):
    """Reliability diagrams: accuracy against confidence in 15 bins, one panel a method, ECE in the title.

    Above the diagonal a classifier is better than it believes. The dark bars are the share of the test images in a bin.
    Arguments: ``tables`` method to the result of ``metrics.calibration``, or one such table. Returns: an array of Axes.
    """
    tables = tables if isinstance(tables, dict) else {"": tables}
    axes = np.ravel(_axes(axes, 1, len(tables), (3.9 * len(tables) + 0.6, 4.6), sharey=True))
    for colour, ax, (method, table) in zip(_colours(tables), axes, tables.items(), strict=True):
        full = table[table["count"] > 0]
        share = full["count"] / full["count"].sum()
        gap = full["accuracy"] - full["confidence"]
        width, middle = full["upper"] - full["lower"], (full["lower"] + full["upper"]) / 2
        ax.bar(middle, full["accuracy"], width * 0.92, color=colour, alpha=0.8)
        ax.plot([0, 100], [0, 100], color="#333333", ls="--", lw=1.4)
        ax.bar(middle, 100 * share, width * 0.3, color="#222222")
        tendency = "under-confident" if (gap * share).sum() > 0 else "over-confident"
        ax.set_title((f"{method}: " if method else "") + f"ECE {(gap.abs() * share).sum():.1f} %,\n{tendency}")
        ax.set(xlabel="confidence, %", xlim=(0, 100), ylim=(0, 100), xticks=range(0, 81, 20))
    axes[0].set_ylabel("accuracy, %\n(dark: share of test images, %)")
    return axes


@_styled
def plot_group_bars(table, spread=None, ax=None):
    """Accuracy of many, medium, few and all for each method, as grouped bars with their numbers.

    Arguments: ``table`` a row per method, columns many, medium, few, all (%); ``spread`` the same rows and columns,
    standard deviations for error bars. An empty group says so, once. Returns: Axes.
    """
    values = table.astype(float)
    ax = _axes(ax, size=(10, 5))
    width = 0.84 / len(values)
    spread = None if spread is None else spread.astype(float).reindex(index=values.index, columns=values.columns)
    named = [STEPS.get(str(method), str(method)) for method in values.index]
    colours = _colours(named)
    for m, (method, row) in enumerate(values.iterrows()):
        x = np.arange(len(row)) + (m - (len(values) - 1) / 2) * width
        error = np.zeros(len(row)) if spread is None else np.nan_to_num(spread.loc[method].to_numpy())
        there = row.notna().to_numpy()
        ax.bar(x[there], row[there], width * 0.94, color=colours[m], label=named[m])
        if spread is not None:
            ax.errorbar(x[there], row[there], error[there], fmt="none", ecolor="#222222", capsize=3, lw=1.4)
        for k in range(len(row)):
            if not there[k]:
                if m == 0 and values.iloc[:, k].isna().all():
                    ax.text(k, 1, "empty", ha="center", va="bottom", color="#555555", style="italic")
                continue
            ax.text(x[k], row.iloc[k] + error[k] + 1, f"{row.iloc[k]:.1f}", ha="center", va="bottom",
                    fontsize=11 if len(values) <= 3 else 9.5, rotation=90 if len(values) > 5 else 0)  # fmt: skip
    ax.set_xticks(range(values.shape[1]), values.columns)
    highest = float(np.nanmax(values.to_numpy() + (0 if spread is None else np.nan_to_num(spread.to_numpy()))))
    ax.set(xlabel="classes, by training images", ylabel="test accuracy, %", xlim=(-0.55, values.shape[1] - 0.45), ylim=(0, max(100, highest + (14 if len(values) > 5 else 8))))
    if len(values) > 1:
        moved = ", ".join(f"{g} {change:+.1f}" for g, change in (values.iloc[-1] - values.iloc[0]).dropna().items())
        ax.set_title(f"From {named[0]} to {named[-1]}: {moved} points")
    else:
        ax.set_title(f"Accuracy by group: {named[0]}")
    ax.grid(axis="x", visible=False)
    _below(ax, ncols=min(len(values), 4))
    return ax


# Li et al., AAAI 2024, slide 10 of the authors' talk: DR + H2T on CIFAR-100-LT, IF 100, one run each
_SLIDE_10 = {
    "all": (45.68, 47.11, 47.58, 47.73, 47.59, 47.17, 46.50, 46.05, 45.52, 44.39, 43.57),
    "many": (63.81, 63.08, 61.86, 62.00, 59.58, 56.31, 53.89, 51.92, 49.36, 47.94, 44.31),
    "medium": (46.37, 48.69, 50.00, 50.17, 50.74, 51.34, 52.06, 50.63, 52.91, 50.46, 51.51),
    "few": (22.35, 25.38, 26.93, 27.07, 28.90, 30.79, 30.62, 33.24, 31.83, 32.66, 33.07),
}


def published_curve():
    """The published ratio curve as a table: ratio, group, accuracy (%)."""
    import pandas as pd

    return pd.DataFrame([{"ratio": k / 10, "group": g, "accuracy": a} for g, row in _SLIDE_10.items() for k, a in enumerate(row)])


@_styled
def plot_ratio_curve(table, published=None, current: float | None = None, ax=None):
    """Accuracy against the fusion ratio: mean over seeds with a band of one standard deviation, by group.

    Arguments: ``table`` with columns ratio, seed, group, accuracy (%); ``published`` with ratio, group, accuracy, drawn
    as hollow markers; ``current`` a ratio to mark. Groups may be called head and tail, as the papers do. Returns: Axes.
    """
    field = {"head": "many", "tail": "few"}
    table = table.assign(group=table["group"].replace(field))
    ax = _axes(ax, size=(9.5, 5))
    ends, empty = [], {}
    for g in ("many", "medium", "few", "all"):
        rows = table[table["group"] == g].dropna(subset=["accuracy"])
        if rows.empty:
            empty[g] = ()
            continue
        by = rows.groupby("ratio")["accuracy"]
        mean, std = by.mean(), by.std().fillna(0)
        ax.fill_between(mean.index, mean - std, mean + std, color=COLOURS[g], alpha=0.25, lw=0)
        ax.plot(mean.index, mean, color=COLOURS[g], lw=2.6, ls="--" if g == "all" else "-", label=g)
        ends.append((mean.iloc[-1], g))
        if published is not None:
            dots = published[published["group"].replace(field) == g]
            ax.plot(dots["ratio"], dots["accuracy"], color=COLOURS[g], marker="o", mfc="white", ms=6, lw=0, clip_on=False, zorder=5)
    ax.margins(y=0.1)  # not set_ylim: drawn again into the same axes, the limits follow the new curve
    low, high = ax.get_ylim()
    placed = -np.inf
    for y, g in sorted(ends):  # name the lines at their right end, kept apart
        placed = max(y, placed + 0.06 * (high - low))
        ax.text(1.015, placed, g, color=TEXT[g], va="center", weight="bold", fontsize=12)
    if current is not None:
        ax.axvline(current, color="#333333", lw=1.8, ls=":")
        ax.text(current, 1.0, f" p = {current:.2f} " , transform=ax.get_xaxis_transform(), ha="left" if current < 0.85 else "right", va="top")
    seeds = table["seed"].nunique()
    note = (f"{seeds} seeds, band: ± 1 std" if seeds > 1 else "1 seed") + ("; circles: published" if published is not None else "")
    overall = table[table["group"] == "all"].groupby("ratio")["accuracy"].mean().dropna()
    best = f"Best overall at p = {overall.idxmax():g}: {overall.max():.1f} %" if len(overall) else "Accuracy against the fusion ratio"
    ax.set(xlabel="fusion ratio p (share of channels swapped)", ylabel="test accuracy, %", xlim=(0, 1))
    ax.set_title(f"{best}  ({note}){_empties(empty)}")
    return ax


SETS = {  # colour, marker, size, opacity; head and tail in their groups' hues, darker for the test images
    "train head": (COLOURS["many"], "o", 18, 0.35), "train tail": (COLOURS["few"], "o", 60, 0.95), "fused": (FUSED, "x", 34, 0.7),
    "test head": ("#004C77", "s", 24, 0.6), "test tail": ("#7F3800", "s", 26, 0.8),
}  # fmt: skip


@_styled
def plot_boundary(points: dict[str, np.ndarray], lines: dict[str, tuple[np.ndarray, float]], names: tuple[str, str] = ("head", "tail"), ax=None, limits=None):
    """Two decision boundaries in the plane that they span, exact (``h2t.boundary.plane``).

    Arguments: ``points`` set name (train head, train tail, fused, test head, test tail) to (n, 2); ``lines`` name to
    ``(a (2,), b)``, positive on the tail's side: the first is drawn grey, the last in colour and with the tail's side
    shaded; ``names`` of the head and the tail class; ``limits`` ((x low, x high), (y low, y high)) to hold the view still.
    The legend gives each set's share on the tail's side of both lines. Returns: Axes.
    Raises: ``h2t.Error`` for an unknown set, no points at all, or no line.
    """
    if unknown := set(points) - set(SETS):
        raise Error(f"there is no style for the points {sorted(unknown)}; choose from {', '.join(SETS)}")
    points = {name: np.reshape(xy, (-1, 2)) for name, xy in points.items()}
    if not lines or not sum(map(len, points.values())):
        raise Error("a boundary needs at least one line and one point; choose classes that have images")
    ax = _axes(ax, size=(9.5, 7))
    everything = np.concatenate(list(points.values()))
    low, high = everything.min(0), everything.max(0)
    pad = 0.06 * np.where(high > low, high - low, 1.0)
    (x0, x1), (y0, y1) = limits or np.stack([low - pad, high + pad], 1)
    first, last = list(lines)[0], list(lines)[-1]
    corners = np.stack(np.meshgrid([x0, x1], [y0, y1]), -1)  # a score is linear: its contour between four corners is exact
    score = corners @ np.asarray(lines[last][0]) + lines[last][1]
    if score.max() > 0:
        ax.contourf(corners[..., 0], corners[..., 1], score, levels=[0, score.max() * 1.01], colors=[COLOURS["few"]], alpha=0.1, zorder=0)
    for name, colour, style in [(first, BEFORE, "--"), (last, AFTER, "-")][-len(lines) :]:
        a, b = np.asarray(lines[name][0], float), lines[name][1]
        foot = -b * a / (a @ a)  # the line's point next to the origin
        ax.axline(foot, foot + [-a[1], a[0]], color=colour, ls=style, lw=2.8, label=f"boundary, {name}")
    for name, xy in points.items():
        colour, marker, size, alpha = SETS[name]
        shares = [f"{100 * np.mean(xy @ lines[n][0] + lines[n][1] > 0):.0f}" for n in dict.fromkeys((first, last))] if len(xy) else []
        label = f"{name}: {' → '.join(shares)} % on the tail's side" if shares else f"{name}: none"
        fill = {"facecolor": "none", "edgecolor": colour, "lw": 1.3} if marker == "s" else {"color": colour, "lw": 1.4 if marker == "x" else 0}
        ax.scatter(*xy.T, marker=marker, s=size, alpha=alpha, label=label, zorder=4 if name == "train tail" else 3, **fill)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xlabel=f"along w(tail) - w(head) of {first} (feature units)", ylabel="perpendicular to it (feature units)")
    ax.set_title(f"{_short(names[0], 20)} (head) or {_short(names[1], 20)} (tail)?\nShaded: decided for the tail, {last}")
    _below(ax, ncols=2)
    return ax


@_styled
def plot_embedding(xy: np.ndarray, labels: np.ndarray, names: dict[int, str] | tuple[str, ...], fused: np.ndarray | None = None, ax=None):
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
        raise Error(f"{len(names)} classes cannot be told apart on one map; choose at most {len(palette) * len(MARKERS)}")
    if len(names) <= 2:
        palette = (COLOURS["many"], COLOURS["few"])  # head and tail
    ax = _axes(ax, size=(8, 6.8 + 0.22 * max(0, len(names) - 9) / 3))
    for k, (c, name) in enumerate(names.items()):
        here = xy[labels == c]
        ax.scatter(*here.T, s=26, color=palette[k % len(palette)], marker=MARKERS[k // len(palette)], alpha=0.75, lw=0, label=f"{_short(name)} ({len(here)})")
    drawn = xy[np.isin(labels, list(names))]
    if len(drawn):
        low, high = drawn.min(0), drawn.max(0)
        pad = 0.06 * np.where(high > low, high - low, 1.0)
        ax.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
    outside = 0
    if fused is not None and len(fused):
        fused = np.reshape(fused, (-1, 2))
        (x0, x1), (y0, y1) = (ax.get_xlim(), ax.get_ylim()) if len(drawn) else ((-np.inf, np.inf),) * 2
        outside = int(((fused < (x0, y0)) | (fused > (x1, y1))).any(1).sum())
        ax.scatter(*fused.T, s=44, marker="x", color=FUSED, lw=1.6, label=f"fused ({len(fused)})", zorder=4)
    title = "Where fused features fall among the real ones" if fused is not None and len(fused) else "Which classes lie close together"
    title += f" ({outside} outside)" if outside else ""
    ax.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)", title=title)
    _below(ax, 26, ncols=3)
    return ax
