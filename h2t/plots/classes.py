"""What becomes of the classes: accuracy, confusion, weight norms, calibration."""

from __future__ import annotations

import itertools

import numpy as np

from h2t.plots.style import (
    COLOURS,
    MARKERS,
    TEXT,
    empties,
    legend_below,
    method_colours,
    new_ax,
    new_axes,
    plain_log,
    styled,
    title,
)

__all__ = ["plot_class_accuracy", "plot_confusion_groups", "plot_reliability", "plot_weight_norms"]


def _spans(counts: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """From where to where each group reaches on an axis of training images, apart if they are."""
    there = {g: counts[c] for g, c in groups.items() if len(c)}
    spans = {g: [n.min() / 1.06, n.max() * 1.06] for g, n in there.items()}
    for low, high in itertools.pairwise(sorted(spans, key=spans.get)):
        below, above = there[low].max(), there[high].min()
        if below < above and spans[low][1] > spans[high][0]:
            spans[low][1] = spans[high][0] = np.sqrt(below * above)
    return spans


@styled
def plot_class_accuracy(table, groups: dict[str, np.ndarray]):
    """Accuracy of every class against its training images, by method, with the groups' means.

    Arguments: ``table`` with columns method, class, count (1 or more), accuracy (%); ``groups`` to
    class indices. Returns: Axes.
    """
    from matplotlib import patheffects

    ax = new_ax(9.5, 5.2)
    by_class = table.drop_duplicates("class").set_index("class")["count"]
    counts = by_class.reindex(range(int(by_class.index.max()) + 1)).to_numpy()
    spans = _spans(counts, groups)
    dots = dict(s=32, alpha=0.8, lw=0.5, zorder=5, edgecolor="white")
    if len(by_class) > 300:
        dots = dict(s=10, alpha=0.3, lw=0, zorder=3)
    colours = method_colours(table["method"].unique())
    for m, (method, rows) in enumerate(table.groupby("method", sort=False)):
        look = dict(color=colours[m], marker=MARKERS[m % len(MARKERS)], label=method)
        ax.scatter(rows["count"], rows["accuracy"], **look, **dots)
        accuracy = rows.set_index("class")["accuracy"]
        for g, span in spans.items():
            mean = [accuracy.reindex(groups[g]).mean()] * 2
            bar = dict(color=colours[m], lw=3.2, solid_capstyle="butt", zorder=4)
            outline = patheffects.withStroke(linewidth=5.5, foreground="white")
            ax.plot(span, mean, path_effects=[outline, patheffects.Normal()], **bar)
    for g, span in spans.items():
        ax.axvspan(*span, color=COLOURS[g], alpha=0.08, lw=0)
        middle, how = np.sqrt(span[0] * span[1]), dict(ha="center", va="bottom", weight="bold")
        ax.text(middle, 104, g, color=TEXT[g], **how)
    low, high = min(s[0] for s in spans.values()), max(s[1] for s in spans.values())
    ax.set(xscale="log", xlim=(low / 1.03, high * 1.03), ylim=(-3, 103))
    ax.set(xlabel="training images of the class", ylabel="test accuracy, %")
    plain_log(ax.xaxis, low, high)
    empty = empties([g for g in groups if g not in spans])
    ax.set_title(f"Accuracy by class (dots) and group means (bars){empty}", pad=26)
    legend_below(ax, ncols=min(4, table["method"].nunique()))
    for handle in ax.get_legend().legend_handles:
        handle.set(alpha=1, sizes=[40])
    return ax


@styled
def plot_confusion_groups(confusions: dict[str, np.ndarray], groups: dict[str, np.ndarray]):
    """Where each group's test images went, in percent of the true group, one panel a method.

    Arguments: ``confusions`` method to (C, C) counts, rows true; ``groups`` to class indices.
    Returns: an array of Axes.
    """
    import seaborn as sns

    width = max(6.2, 3.9 * len(confusions) + 0.8)
    axes = new_axes(width, 4.6, columns=len(confusions), sharey=True)
    names, lost = list(groups), []
    number = len(next(iter(confusions.values())))
    inside = np.stack([np.isin(np.arange(number), groups[g]) for g in names]).astype(int)
    how = dict(fmt="", cmap="Blues", vmin=0, vmax=100, cbar=False, linewidths=1.5)
    for ax, (method, confusion) in zip(axes, confusions.items(), strict=True):
        cells, right = inside @ confusion @ inside.T, inside @ np.diag(confusion)
        total = cells.sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):  # of an empty group
            share, kept = 100 * cells / total, 100 * right / total[:, 0]
        lost.append(share[names.index("few"), names.index("many")])
        notes = [[f"{s:.1f} %" if s == s else "" for s in row] for row in share]
        for i in np.flatnonzero(total[:, 0]):
            notes[i][i] += f"\n{kept[i]:.1f} % right"
        sns.heatmap(share, ax=ax, annot=notes, xticklabels=names, yticklabels=names, **how)
        for i in np.flatnonzero(total[:, 0] == 0):
            ax.text(len(names) / 2, i + 0.5, "empty", ha="center", va="center", color="#555555")
        ax.set(title=method, xlabel="predicted group")
        ax.grid(False)
        ax.tick_params(axis="both", rotation=0, length=0)
    axes[0].set_ylabel("true group")
    if len(groups["many"]) and not np.isnan(lost).all():
        percents = " → ".join("empty" if np.isnan(x) else f"{x:.0f}" for x in lost)
        title(axes, f"Few taken for many: {percents} % of the few-class test images")
    return axes


@styled
def plot_weight_norms(norms: dict[str, np.ndarray], counts: np.ndarray):
    """Length of each class's row of the classifier, largest class first.

    Above 30 classes a line of running means goes through the classes' dots.
    Arguments: ``norms`` method to (C,); ``counts`` (C,) training images. Returns: Axes.
    """
    counts = np.asarray(counts)
    ax = new_ax(9, 4.8)
    order, seen, width = np.argsort(-counts, kind="stable"), counts > 0, len(counts) // 10 + 1
    for m, (method, colour) in enumerate(zip(norms, method_colours(norms), strict=True)):
        values, slope = np.asarray(norms[method]), 0.0
        if np.ptp(counts[seen]):
            slope = np.polyfit(np.log10(counts[seen]), values[seen], 1)[0]
        look = dict(color=colour, marker=MARKERS[m % len(MARKERS)])
        line = dict(label=f"{method} ({slope:+.2f} per tenfold images)")
        if len(counts) <= 30:
            ax.plot(values[order], ms=6, lw=1.8, **look, **line)
            continue
        ax.plot(values[order], ms=2.5, lw=0, alpha=0.4, **look)
        mean = np.convolve(values[order], np.ones(width) / width, "valid")
        ax.plot(np.arange(len(mean)) + (width - 1) / 2, mean, color=colour, lw=2.6, **line)
    ax.set(xlabel="class, by size", ylabel="weight norm (no unit)")
    ax.set(ylim=(0, 1.08 * max(float(np.max(v)) for v in norms.values())))
    ax.set_title("Does the classifier favour large classes?")
    if len(counts) <= 12:
        ax.set_xticks(range(len(counts)), [str(c) for c in order])
    legend_below(ax, ncols=2)
    return ax


@styled
def plot_reliability(tables: dict):
    """Reliability diagrams: accuracy against confidence in 15 bins, ECE in the title.

    Above the diagonal a classifier is better than it believes. The dark bars are the share of the
    test images in a bin.
    Arguments: ``tables`` method to the result of ``metrics.calibration``.
    Returns: an array of Axes, a method each.
    """
    axes = new_axes(3.9 * len(tables) + 0.6, 4.6, columns=len(tables), sharey=True)
    colours = method_colours(tables)
    for colour, ax, (method, table) in zip(colours, axes, tables.items(), strict=True):
        full = table[table["count"] > 0]
        share = full["count"] / full["count"].sum()
        gap = full["accuracy"] - full["confidence"]
        width, middle = full["upper"] - full["lower"], (full["lower"] + full["upper"]) / 2
        ax.bar(middle, full["accuracy"], width * 0.92, color=colour, alpha=0.8)
        ax.plot([0, 100], [0, 100], color="#333333", ls="--", lw=1.4)
        ax.bar(middle, 100 * share, width * 0.3, color="#222222")
        tendency = "under-confident" if (gap * share).sum() > 0 else "over-confident"
        ax.set_title(f"{method}: ECE {(gap.abs() * share).sum():.1f} %,\n{tendency}")
        ax.set(xlabel="confidence, %", xlim=(0, 100), ylim=(0, 100), xticks=range(0, 81, 20))
    axes[0].set_ylabel("accuracy, %\n(dark: share of test images, %)")
    return axes
