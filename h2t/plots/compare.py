"""Many runs in one figure: means with intervals, ratio curves, cost and accuracy.

``n`` counts stage 1s; the stage 2s on one of them are averaged first.
"""

from __future__ import annotations

import numpy as np

from h2t.base.errors import Error
from h2t.metrics import label
from h2t.plots.style import (
    COLOURS,
    KINDS,
    MARKERS,
    METHODS,
    TEXT,
    band,
    figure_of,
    legend_below,
    measured,
    method_colours,
    name_ends,
    new_ax,
    new_axes,
    plain_log,
    short,
    styled,
)
from h2t.recipes.names import place

__all__ = ["plot_cost", "plot_means", "plot_ratio_curves"]

MOST = 12  # groups that a figure tells apart
# light to dark, for values that have an order
_IN_ORDER = ("#56B4E9", "#0072B2", "#5D3A9B", "#000000")


def looks(groups) -> dict[str, dict]:
    """A colour and a marker for each group, such as ``DR + H2T, p = 0.3``.

    Those of a method have shades of its colour. Where there are more methods than colours, each
    kind (RIDE, RIDE + DR, RIDE + H2T) has a colour, and each step a marker. Raises: ``h2t.Error``
    for more groups than can be told apart.
    """
    by_method: dict[str, list[str]] = {}
    for group in dict.fromkeys(groups):
        by_method.setdefault(group.split(", p = ")[0], []).append(group)
    if (number := sum(map(len, by_method.values()))) > MOST:
        what = f"choose at most {MOST} of them"
        raise Error(f"{number} groups cannot be told apart in one figure; {what}")
    colours, first = method_colours(by_method), range(len(by_method))
    if len(by_method) > len(METHODS):
        kinds, first, _ = zip(*map(place, by_method), strict=True)
        rank = {kind: k for k, kind in enumerate(dict.fromkeys(kinds))}
        colours = [KINDS[rank[kind] % len(KINDS)] for kind in kinds]
    found = {}
    for own, colour, marker in zip(by_method.values(), colours, first, strict=True):
        for k, group in enumerate(own):
            shade = _shaded(colour, k / (len(own) - 1)) if len(own) > 1 else colour
            found[group] = {"color": shade, "marker": MARKERS[(marker + k) % len(MARKERS)]}
    return found


def _shaded(colour: str, place: float) -> str:
    """A colour between a lighter one (place 0) and a darker one (place 1) of the same hue."""
    from matplotlib.colors import to_hex, to_rgb

    share, end = (0.45 - 0.9 * place, 1.0) if place < 0.5 else (1.1 * place - 0.55, 0.0)
    return to_hex([(1 - share) * c + share * end for c in to_rgb(colour)])


def _best(means, measure: str):
    """Where a Series of means is best."""
    return means.idxmin() if measure == "ece" else means.idxmax()


@styled
def plot_means(summary, rows, measures=("many", "medium", "few", "all")):
    """Mean and 95 % confidence interval of every group, one panel a measure.

    Intervals that do not overlap are not a test, nor is overlap the absence of one.
    Arguments: ``summary`` of ``h2t.study.compare.groups.summary`` within one setting; ``rows`` of
    ``grouped``, whose single networks are small dots. Returns: an array of Axes.
    """
    groups = list(dict.fromkeys(summary["group"]))
    look = looks(groups)
    by_measure = {m: summary[summary["measure"] == m].set_index("group") for m in measures}
    by_measure = {m: part for m, part in by_measure.items() if part["mean"].notna().any()}
    if not by_measure:
        raise Error("there is nothing to show: no group has any of these measures")
    width, height = 3.4 + 2.7 * len(by_measure), 2.3 + 0.55 * len(groups)
    axes = new_axes(width, height, columns=len(by_measure), sharey=True)
    for ax, (measure, part) in zip(axes, by_measure.items(), strict=True):
        for y, g in enumerate(groups):
            of, colour = part.loc[g], look[g]["color"]
            if of["repeats"] > 1:
                own = rows[rows["group"] == g][measure]
                ax.scatter(own, [y + 0.24] * len(own), s=14, color=colour, alpha=0.6, lw=0)
            if of["n"] > 1:
                bar = dict(color=colour, lw=3.2, alpha=0.75, solid_capstyle="butt")
                ax.plot([of["low"], of["high"]], [y, y], **bar)
            if of["n"]:
                ax.plot(of["mean"], y, look[g]["marker"], color=colour, ms=9, mec="white", zorder=4)
        best = _best(part["mean"], measure)
        ax.axvline(part.loc[best, "mean"], color="#BBBBBB", lw=1.2, zorder=0)
        said = f"{label(measure)}: {part.loc[best, 'mean']:.1f}"
        said += f"\n{short(best, 22)}" if len(groups) > 1 else ""
        ax.set_title(said, color=TEXT.get(measure, "#222222"))
        ax.set_xlabel(f"{label(measure)}, %" + (" (low is good)" if measure == "ece" else ""))
        ax.set_ylim(len(groups) - 0.4, -0.6)
        ax.margins(x=0.08)
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, -3), min(high, 103))
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="y", visible=False)
    n = summary.groupby("group")["n"].max()
    axes[0].set_yticks(range(len(groups)), [f"{g}  (n = {n[g]})" for g in groups])
    if n.max() > 1:
        bars = "large: mean over n stage 1s; bar: its 95 % confidence interval"
        said = f"{bars}; small dots: single networks; title: the best mean"
        figure_of(axes).supxlabel(said, fontsize=11, color="#555555")
    return axes


@styled
def plot_ratio_curves(table, measure: str = "all"):
    """Accuracy against the fusion ratio, one curve a setting (say, each imbalance factor).

    Means over stage 1s, a band of one standard deviation, and a ring where the curve is best.
    Arguments: ``table`` of ``h2t.study.compare.groups.ratio_table``. Returns: Axes.
    Raises: ``h2t.Error`` for no curve, or more than ``MOST``.
    """
    settings = list(dict.fromkeys(table["setting"]))
    if not 0 < len(settings) <= MOST:
        raise Error(f"{len(settings)} ratio curves cannot be shown; choose runs of 1 to {MOST}")
    steps = np.linspace(0, 3, len(settings)).round().astype(int)
    colours = [_IN_ORDER[k] for k in steps] if len(settings) > 1 else [COLOURS["all"]]
    ax, ends, best = new_ax(9.5, 5), [], []
    means = table.groupby(["setting", "ratio", "unit"], sort=False)[measure].mean()
    for k, (setting, colour) in enumerate(zip(settings, colours, strict=True)):
        marker, style = MARKERS[k % len(MARKERS)], ("-", "--", ":")[k % 3]
        by = means[setting].groupby("ratio")
        mean = band(ax, by, colour, marker=marker, ls=style, ms=6, mec="white")
        top = _best(mean, measure)
        ax.plot(top, mean[top], "o", ms=15, mfc="none", mec=colour, mew=2)
        ends.append((mean.iloc[-1], mean.index[-1], setting, colour))
        best.append(f"p = {top:g}" + (f" at {setting}" if setting else ""))
    ax.margins(y=0.12)
    name_ends(ax, ends)
    n = int(means.groupby(["setting", "ratio"]).size().min())
    rests = f"{n} stage 1s a point, band: ± 1 std" if n > 1 else "one stage 1 a point"
    what, more = "lowest" if measure == "ece" else "highest", " …" * (len(best) > 3)
    ax.set(xlabel="fusion ratio p (share of channels swapped)", ylabel=measured(measure))
    ax.set_title(f"Rings, {what}: {'; '.join(best[:3])}{more}\n({rests})")
    return ax


@styled
def plot_cost(rows, measure: str = "all"):
    """What accuracy costs: seconds of training, stage 1 included; the means of groups are large.

    A line goes through those that none beats in both.
    Arguments: ``rows`` of ``h2t.study.compare.groups.grouped`` within one setting. Returns: Axes.
    Raises: ``h2t.Error`` without any cost.
    """
    rows = rows.dropna(subset=["total_seconds", measure])
    rows = rows[rows["total_seconds"] > 0]
    if rows.empty:
        raise Error("no run has a cost: imported and cached steps have no training time")
    ax, look, means = new_ax(9.5, 5.4), looks(rows["group"]), []
    sized = "parameters" in rows and rows["parameters"].nunique() > 1
    for g, part in rows.groupby("group", sort=False):
        ax.scatter(part["total_seconds"], part[measure], s=18, alpha=0.45, lw=0, **look[g])
        x, y = part["total_seconds"].mean(), part.groupby("unit")[measure].mean().mean()
        size = f", {part['parameters'].mean() / 1e6:.2f} M" if sized else ""
        name = f"{g} (n = {part['unit'].nunique()}{size})"
        ax.plot(x, y, ms=12, mec="white", zorder=4, ls="none", label=name, **look[g])
        means.append((x, y, g))
    sign, front = 1 if measure == "ece" else -1, []
    for x, y, g in sorted(means, key=lambda mean: (mean[0], sign * mean[1])):
        if not front or sign * y < sign * front[-1][1]:
            front.append((x, y, g))
    seconds, best, names = zip(*front, strict=True)
    ax.plot(seconds, best, color="#777777", lw=1.6, ls="--", zorder=3)
    low, high = rows["total_seconds"].min() / 1.15, rows["total_seconds"].max() * 1.15
    if high / low > 8:
        ax.set(xscale="log", xlim=(low, high))
        plain_log(ax.xaxis, low, high)
    said = f"{names[0]} is cheapest, {names[-1]} best"
    more = f",\nfor {seconds[-1] / seconds[0]:.1f} times the seconds"
    said += more if len(front) > 1 else " as well"
    devices = rows["device_name"].fillna("unknown").nunique()
    said += f"  ({devices} devices: seconds are not comparable)" if devices > 1 else ""
    ax.set_title(said)
    ax.set(xlabel="training, seconds, stage 1 included", ylabel=measured(measure))
    ax.margins(y=0.12)
    legend_below(ax, ncols=2 if max(map(len, look)) <= 32 else 1)
    return ax
