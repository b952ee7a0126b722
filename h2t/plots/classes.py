"""What becomes of the classes: accuracy, confusion, weight norms, calibration."""

from __future__ import annotations

import numpy as np

from h2t.plots.style import (
    COLOURS,
    MARKERS,
    TEXT,
    empties,
    figure_of,
    legend_below,
    method_colours,
    new_axes,
    plain_log,
    short,
    styled,
)


def _spans(counts: np.ndarray, groups: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """From where to where each group reaches on an axis of training images, without overlap where their counts have none."""
    ends = {
        g: [counts[c].min() / 1.06, counts[c].max() * 1.06] for g, c in groups.items() if len(c)
    }
    rising = sorted(ends, key=lambda g: ends[g][0])
    for low, high in zip(rising, rising[1:], strict=False):
        if counts[groups[low]].max() < counts[groups[high]].min() and ends[low][1] > ends[high][0]:
            ends[low][1] = ends[high][0] = np.sqrt(
                counts[groups[low]].max() * counts[groups[high]].min()
            )
    return {g: tuple(ends[g]) for g in ends}


@styled
def plot_class_accuracy(table, groups: dict[str, np.ndarray], ax=None):
    """Accuracy of every class against its training images, by method, with the mean of each group.

    Arguments: ``table`` with columns method, class, count (1 or more), accuracy (%); ``groups`` many, medium and few to
    class indices. Returns: Axes.
    """
    from matplotlib import patheffects

    ax = new_axes(ax, size=(9.5, 5.2))
    by_class = table.drop_duplicates("class").set_index("class")["count"]
    counts = by_class.reindex(range(int(by_class.index.max()) + 1)).to_numpy()
    spans, crowded = _spans(counts, groups), len(by_class) > 300
    colours = method_colours(table["method"].unique())
    for m, (method, rows) in enumerate(table.groupby("method", sort=False)):
        colour = colours[m]
        ax.scatter(
            rows["count"],
            rows["accuracy"],
            s=10 if crowded else 32,
            color=colour,
            marker=MARKERS[m % len(MARKERS)],
            alpha=0.3 if crowded else 0.8,
            lw=0 if crowded else 0.5,
            edgecolor="white",
            label=method,
            zorder=3 if crowded else 5,
        )
        accuracy = rows.set_index("class")["accuracy"]
        for g, span in spans.items():
            line = ax.plot(
                span,
                [accuracy.reindex(groups[g]).mean()] * 2,
                color=colour,
                lw=3.2,
                solid_capstyle="butt",
                zorder=4,
            )[0]
            line.set_path_effects([patheffects.withStroke(linewidth=5.5, foreground="white")])
    for g, span in spans.items():
        ax.axvspan(*span, color=COLOURS[g], alpha=0.08, lw=0)
        ax.text(
            np.sqrt(span[0] * span[1]),
            104,
            g,
            color=TEXT[g],
            ha="center",
            va="bottom",
            weight="bold",
        )
    low, high = min(s[0] for s in spans.values()), max(s[1] for s in spans.values())
    ax.set(
        xscale="log",
        xlabel="training images of the class",
        ylabel="test accuracy, %",
        ylim=(-3, 103),
        xlim=(low / 1.03, high * 1.03),
    )
    plain_log(ax.xaxis, low, high)
    ax.set_title("Accuracy by class (dots) and group means (bars)" + empties(groups), pad=26)
    legend_below(ax, ncols=min(4, table["method"].nunique()))
    for handle in ax.get_legend().legend_handles:
        handle.set(alpha=1, sizes=[40])
    return ax


@styled
def plot_confusion_groups(
    confusions: dict[str, np.ndarray] | np.ndarray, groups: dict[str, np.ndarray], axes=None
):
    """Where each group's test images went, in percent of the true group, one panel a method.

    Arguments: ``confusions`` method to (C, C) counts, rows true, or one such array; ``groups`` many, medium and few to
    class indices. The row of an empty group says so. Returns: an array of Axes.
    """
    import seaborn as sns

    confusions = confusions if isinstance(confusions, dict) else {"": confusions}
    given, axes = (
        axes,
        np.ravel(
            new_axes(
                axes, 1, len(confusions), (max(6.2, 3.9 * len(confusions) + 0.8), 4.6), sharey=True
            )
        ),
    )
    names, lost = list(groups), []
    for ax, (method, confusion) in zip(axes, confusions.items(), strict=True):
        cells = np.array(
            [[confusion[np.ix_(groups[a], groups[b])].sum() for b in names] for a in names], float
        )
        right = np.array([np.trace(confusion[np.ix_(groups[a], groups[a])]) for a in names])
        total = cells.sum(1, keepdims=True)
        share = np.divide(100 * cells, total, out=np.full_like(cells, np.nan), where=total > 0)
        lost.append(share[names.index("few"), names.index("many")])
        notes = [
            [
                f"{share[i, j]:.1f} %"
                + (f"\n{100 * right[i] / total[i, 0]:.1f} % right" if i == j else "")
                if total[i]
                else ""
                for j in range(len(names))
            ]
            for i in range(len(names))
        ]
        sns.heatmap(
            share,
            ax=ax,
            annot=notes,
            fmt="",
            cmap="Blues",
            vmin=0,
            vmax=100,
            cbar=False,
            linewidths=1.5,
            xticklabels=names,
            yticklabels=names,
            annot_kws={"fontsize": 12},
        )
        for i in np.flatnonzero(total[:, 0] == 0):
            ax.text(
                len(names) / 2,
                i + 0.5,
                "empty",
                ha="center",
                va="center",
                color="#555555",
                fontsize=12,
            )
        ax.set(title=method, xlabel="predicted group")
        ax.grid(False)
        ax.tick_params(axis="both", rotation=0, length=0)
    axes[0].set_ylabel("true group")
    percents = " → ".join("empty" if np.isnan(x) else f"{x:.0f}" for x in lost)
    if given is None and len(groups["many"]) and not np.isnan(lost).all():
        figure_of(axes).suptitle(
            f"Few taken for many: {percents} % of the few-class test images",
            x=0.01,
            ha="left",
            fontsize=14,
        )
    return axes


@styled
def plot_confusion(confusion: np.ndarray, classes: tuple[str, ...] = (), ax=None):
    """The full confusion matrix in percent of each row; names are shown for up to 20 classes.

    The colours are in steps of the square root, so that single errors among many classes are visible; above 200 classes,
    neighbouring ones are drawn as one cell, with the mean share of its rows.
    Arguments: ``confusion`` (C, C) counts, rows true; ``classes`` names. A class without test images is blank. Returns: Axes.
    """
    import seaborn as sns
    from matplotlib.colors import PowerNorm

    ax = new_axes(ax, size=(7.6, 6.4))
    total = confusion.sum(1, keepdims=True)
    share = np.divide(100 * confusion, total, out=np.full(confusion.shape, np.nan), where=total > 0)
    c, block = len(share), -(-len(share) // 100) if len(share) > 200 else 1
    if block > 1:
        tested = np.add.reduceat((total > 0).ravel().astype(float), range(0, c, block))[:, None]
        summed = np.add.reduceat(
            np.add.reduceat(np.nan_to_num(share), range(0, c, block), 0), range(0, c, block), 1
        )
        share = np.divide(summed, tested, out=np.full(summed.shape, np.nan), where=tested > 0)
    sns.heatmap(
        share,
        ax=ax,
        cmap="Blues",
        norm=PowerNorm(0.5, 0, 100),
        xticklabels=False,
        yticklabels=False,
        rasterized=c > 20,
        cbar_kws={
            "label": "% of the true class's test images",
            "ticks": [0, 1, 5, 10, 25, 50, 75, 100],
        },
    )
    ax.set_box_aspect(1)
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#BBBBBB")
    if c <= 20:
        names = [short(n) for n in classes] or [str(k) for k in range(c)]
        ax.set_xticks(np.arange(c) + 0.5, names, rotation=90 if classes else 0)
        ax.set_yticks(np.arange(c) + 0.5, names)
    else:
        ticks = np.arange(0, c, 10 ** int(np.log10(c)) // 5 if c < 500 else 200)
        for set_ticks in (ax.set_xticks, ax.set_yticks):
            set_ticks(ticks / block + 0.5, [str(t) for t in ticks])
    cells = f", a cell is {block} x {block} classes" if block > 1 else ""
    kept = (
        np.nanmean(
            np.divide(
                100 * np.diag(confusion), total[:, 0], out=np.full(c, np.nan), where=total[:, 0] > 0
            )
        )
        if total.any()
        else np.nan
    )
    ax.set(
        xlabel=f"predicted class{cells}",
        ylabel="true class",
        title=f"Confusion: {kept:.1f} % right in the mean class",
    )
    return ax


@styled
def plot_weight_norms(norms: dict[str, np.ndarray], counts: np.ndarray, ax=None):
    """Length of each class's row of the classifier, largest class first.

    Above 30 classes a line of running means goes through the classes' dots.
    Arguments: ``norms`` method to (C,); ``counts`` (C,) training images. Returns: Axes.
    """
    counts = np.asarray(counts)
    ax = new_axes(ax, size=(9, 4.8))
    order, seen, width = np.argsort(-counts, kind="stable"), counts > 0, len(counts) // 10 + 1
    colours = method_colours(norms)
    for m, (method, values) in enumerate(norms.items()):
        values, colour, marker = np.asarray(values), colours[m], MARKERS[m % len(MARKERS)]
        slope = (
            np.polyfit(np.log10(counts[seen]), values[seen], 1)[0] if np.ptp(counts[seen]) else 0.0
        )
        label = f"{method} ({slope:+.2f} per tenfold images)"
        if len(counts) <= 30:
            ax.plot(values[order], color=colour, marker=marker, ms=6, lw=1.8, label=label)
            continue
        ax.plot(
            values[order],
            color=colour,
            marker=marker,
            ms=3 if len(counts) <= 300 else 1.5,
            lw=0,
            alpha=0.4,
        )
        mean = np.convolve(values[order], np.ones(width) / width, "valid")
        ax.plot(np.arange(len(mean)) + (width - 1) / 2, mean, color=colour, lw=2.6, label=label)
    highest = max(float(np.max(v)) for v in norms.values())
    ax.set(
        xlabel="class, by size",
        ylabel="weight norm (no unit)",
        title="Does the classifier favour large classes?",
        ylim=(0, 1.08 * highest),
    )
    if len(counts) <= 12:
        ax.set_xticks(range(len(counts)), [str(c) for c in order])
    legend_below(ax, ncols=2)
    return ax


@styled
def plot_reliability(tables: dict, axes=None):
    """Reliability diagrams: accuracy against confidence in 15 bins, one panel a method, ECE in the title.

    Above the diagonal a classifier is better than it believes. The dark bars are the share of the test images in a bin.
    Arguments: ``tables`` method to the result of ``metrics.calibration``, or one such table. Returns: an array of Axes.
    """
    tables = tables if isinstance(tables, dict) else {"": tables}
    axes = np.ravel(new_axes(axes, 1, len(tables), (3.9 * len(tables) + 0.6, 4.6), sharey=True))
    for colour, ax, (method, table) in zip(
        method_colours(tables), axes, tables.items(), strict=True
    ):
        full = table[table["count"] > 0]
        share = full["count"] / full["count"].sum()
        gap = full["accuracy"] - full["confidence"]
        width, middle = full["upper"] - full["lower"], (full["lower"] + full["upper"]) / 2
        ax.bar(middle, full["accuracy"], width * 0.92, color=colour, alpha=0.8)
        ax.plot([0, 100], [0, 100], color="#333333", ls="--", lw=1.4)
        ax.bar(middle, 100 * share, width * 0.3, color="#222222")
        tendency = "under-confident" if (gap * share).sum() > 0 else "over-confident"
        ax.set_title(
            (f"{method}: " if method else "")
            + f"ECE {(gap.abs() * share).sum():.1f} %,\n{tendency}"
        )
        ax.set(xlabel="confidence, %", xlim=(0, 100), ylim=(0, 100), xticks=range(0, 81, 20))
    axes[0].set_ylabel("accuracy, %\n(dark: share of test images, %)")
    return axes
