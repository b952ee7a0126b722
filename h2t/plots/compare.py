"""Many runs in one figure: means with intervals, overlaid learning curves, ratio curves, cost against accuracy."""

from __future__ import annotations

import numpy as np

from h2t.base.errors import Error
from h2t.plots.style import (
    COLOURS,
    KINDS,
    MARKERS,
    METHODS,
    TEXT,
    figure_of,
    legend_below,
    method_colours,
    new_axes,
    place,
    plain_log,
    short,
    styled,
)

MOST = 12  # groups that a figure tells apart
_LINES = ("-", "--", ":")
_STEP_LINES = (
    0,
    1,
    1,
    2,
    0,
)  # of the steps of ``place``: whole for stage 1 and H2T, dotted for the control
_IN_ORDER = (
    "#56B4E9",
    "#0072B2",
    "#5D3A9B",
    "#000000",
)  # light to dark, for values that have an order


def looks(groups) -> dict[str, dict]:
    """A colour, a marker and a line for each group: those of the same method have shades of its colour, light to dark. Where there are
    more methods than colours, each kind of them (RIDE, RIDE + DR, RIDE + H2T) has a colour, and each step a marker.

    Raises: ``h2t.Error`` for more groups than can be told apart.
    """
    groups = list(dict.fromkeys(groups))
    if len(groups) > MOST:
        raise Error(
            f"{len(groups)} groups cannot be told apart in one figure; choose at most {MOST}, by methods or a narrower choose"
        )
    of = {g: g.split(", p = ")[0] for g in groups}
    methods, found = list(dict.fromkeys(of.values())), {}
    colours = dict(zip(methods, method_colours(methods), strict=True))
    first, line = (
        {method: k for k, method in enumerate(methods)},
        dict.fromkeys(methods, 0),
    )  # marker and line of a method's first group
    if len(methods) > len(METHODS):
        kinds = list(dict.fromkeys(place(m)[0] for m in methods))
        colours = {m: KINDS[kinds.index(place(m)[0]) % len(KINDS)] for m in methods}
        first = {m: place(m)[1] for m in methods}
        line = {m: _STEP_LINES[step] for m, step in first.items()}
    for method, colour in colours.items():
        own = [g for g in groups if of[g] == method]
        for k, g in enumerate(own):
            shade = _shaded(colour, k / (len(own) - 1)) if len(own) > 1 else colour
            found[g] = {
                "color": shade,
                "marker": MARKERS[(k + first[method]) % len(MARKERS)],
                "ls": _LINES[(k + line[method]) % len(_LINES)],
            }
    found = {g: found[g] for g in groups}
    return found


def _shaded(colour: str, place: float) -> str:
    """A colour between a lighter one (place 0) and a darker one (place 1) of the same hue."""
    from matplotlib.colors import to_hex, to_rgb

    share, end = (0.45 - 0.9 * place, 1.0) if place < 0.5 else (1.1 * place - 0.55, 0.0)
    return to_hex([(1 - share) * c + share * end for c in to_rgb(colour)])


@styled
def plot_means(summary, rows=None, measures=("many", "medium", "few", "all"), axes=None):
    """Mean and 95 % confidence interval of every group, one panel a measure; single runs as small dots.

    Arguments: ``summary`` of ``compare.summary`` within one setting; ``rows`` of ``compare.grouped`` for the dots.
    Intervals that do not overlap are not a test, nor is overlap the absence of one. Returns: an array of Axes.
    """
    groups = list(dict.fromkeys(summary["group"]))
    look = looks(groups)
    measures = [m for m in measures if summary[summary["measure"] == m]["mean"].notna().any()]
    if not measures:
        raise Error("there is nothing to show: no group has any of these measures")
    given = axes
    axes = np.ravel(
        new_axes(
            axes,
            1,
            len(measures),
            (3.4 + 2.7 * len(measures), 2.3 + 0.55 * len(groups)),
            sharey=True,
        )
    )
    for ax, measure in zip(axes, measures, strict=True):
        part = summary[summary["measure"] == measure].set_index("group")
        for y, g in enumerate(groups):
            of = part.loc[g]
            if np.isnan(of["mean"]):
                continue
            if rows is not None and of["n"] > 1:
                ax.scatter(
                    rows[rows["group"] == g][measure],
                    np.full((rows["group"] == g).sum(), y + 0.24),
                    s=14,
                    color=look[g]["color"],
                    alpha=0.6,
                    lw=0,
                )
            if of["n"] > 1:
                ax.plot(
                    [of["low"], of["high"]],
                    [y, y],
                    color=look[g]["color"],
                    lw=3.2,
                    alpha=0.75,
                    solid_capstyle="butt",
                )
            ax.plot(
                of["mean"],
                y,
                look[g]["marker"],
                color=look[g]["color"],
                ms=9,
                mec="white",
                zorder=4,
            )
        best = part["mean"].idxmin() if measure == "ece" else part["mean"].idxmax()
        ax.axvline(part.loc[best, "mean"], color="#BBBBBB", lw=1.2, zorder=0)
        ax.set_title(
            f"{measure}: {part.loc[best, 'mean']:.1f}"
            + (f"\n{short(best, 22)}" if len(groups) > 1 else ""),
            color=TEXT.get(measure, "#222222"),
        )
        ax.set(
            xlabel=f"{measure}, %" + (" (low is good)" if measure == "ece" else ""),
            ylim=(len(groups) - 0.4, -0.6),
        )
        ax.margins(x=0.08)
        low, high = ax.get_xlim()
        ax.set_xlim(
            max(low, -3), min(high, 103)
        )  # the interval of two runs may go far beyond what there is
        ax.locator_params(axis="x", nbins=4)
        ax.grid(axis="y", visible=False)
    n = summary.groupby("group")["n"].max()
    axes[0].set_yticks(range(len(groups)), [f"{g}  (n = {n[g]})" for g in groups])
    if given is None and n.max() > 1:
        figure_of(axes).supxlabel(
            "large: mean; bar: its 95 % confidence interval; small dots: single runs; title: the best mean",
            fontsize=11,
            color="#555555",
        )
    return axes


@styled
def plot_curves(histories, measure: str = "all", axes=None):
    """Learning curves of all groups over each other: the mean over runs, with a band from the lowest to the highest.

    Arguments: ``histories`` of ``compare.histories`` within one setting. Returns: an array of Axes, one panel a stage.
    Raises: ``h2t.Error`` where no epoch has been evaluated.
    """
    from matplotlib.ticker import MaxNLocator

    seen = histories.dropna(subset=[measure]) if measure in histories else histories.iloc[:0]
    if seen.empty:
        raise Error(
            f"no learning curve has {measure}; imported steps have none, and an evaluation must be due at least once"
        )
    stages, look = sorted(seen["stage"].unique()), looks(histories["group"])
    axes = np.ravel(new_axes(axes, 1, len(stages), (1 + 5.4 * len(stages), 4.2 + 0.27 * len(look))))
    for ax, stage in zip(axes, stages, strict=True):
        ends = []
        for g, part in seen[seen["stage"] == stage].groupby("group", sort=False):
            by = part.groupby("epoch")[measure]
            mean, style = by.mean(), look[g]
            ax.fill_between(
                mean.index,
                by.min(),
                by.max(),
                color=style["color"],
                alpha=0.18 if len(look) <= 4 else 0.09,
                lw=0,
            )
            runs = part.groupby(["run", "step"]).ngroups
            ax.plot(
                mean.index,
                mean,
                color=style["color"],
                ls=style["ls"],
                lw=2.2,
                marker=style["marker"],
                ms=5,
                mec="white",
                label=f"{g} (n = {runs})",
                markevery=max(1, len(mean) // 12),
            )
            ends.append((mean.iloc[-1], g))
        best = max(ends) if measure != "ece" else min(ends)
        ax.set(
            xlabel="epoch",
            ylabel=f"test {'ece' if measure == 'ece' else 'accuracy'}{'' if measure in ('all', 'ece') else ', ' + measure}, %",
        )
        ax.set_title(
            f"Stage {stage}: {best[1]} ends {'highest' if len(ends) > 1 and measure != 'ece' else 'lowest' if len(ends) > 1 else 'alone'},\nat {best[0]:.1f} %"
            if len(ends) > 1
            else f"Stage {stage}: ends at {best[0]:.1f} %"
        )
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        legend_below(ax, ncols=1)
    return axes


@styled
def plot_ratio_curves(table, measure: str = "all", ax=None):
    """Accuracy against the fusion ratio, one curve a setting (say, each imbalance factor): mean over seeds, band of one
    standard deviation, and a ring where the curve is highest.

    Arguments: ``table`` of ``compare.ratio_table`` with columns setting, ratio and the measure. Returns: Axes.
    Raises: ``h2t.Error`` for no curve.
    """
    settings = list(dict.fromkeys(table["setting"]))
    if not settings:
        raise Error(
            "there is no ratio curve: no setting has stage 2s of two fusion ratios with BN statistics of both streams"
        )
    if len(settings) > MOST:
        raise Error(f"{len(settings)} ratio curves cannot be told apart; choose at most {MOST}")
    colours = (
        [COLOURS["all"]]
        if len(settings) == 1
        else [_IN_ORDER[round(k * 3 / (len(settings) - 1))] for k in range(len(settings))]
    )
    ax, ends, best = new_axes(ax, size=(9.5, 5)), [], []
    for k, (setting, colour) in enumerate(zip(settings, colours, strict=True)):
        by = table[table["setting"] == setting].groupby("ratio")[measure]
        mean, std = by.mean(), by.std().fillna(0)
        ax.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.18, lw=0)
        ax.plot(
            mean.index,
            mean,
            color=colour,
            lw=2.4,
            marker=MARKERS[k % len(MARKERS)],
            ms=6,
            mec="white",
            ls=_LINES[k % 3],
        )
        top = mean.idxmin() if measure == "ece" else mean.idxmax()
        ax.plot(top, mean[top], "o", ms=15, mfc="none", mec=colour, mew=2)
        ends.append((mean.iloc[-1], setting, colour, mean.index[-1]))
        best.append(f"p = {top:g}" + (f" at {setting}" if setting else ""))
    ax.margins(y=0.12)
    low, high = ax.get_ylim()
    placed = -np.inf
    for y, setting, colour, x in sorted(ends):  # name the curves at their right end, kept apart
        placed = max(y, placed + 0.06 * (high - low))
        if setting:
            ax.annotate(
                setting,
                (x, placed),
                xytext=(10, 0),
                textcoords="offset points",
                color=colour,
                va="center",
                weight="bold",
                annotation_clip=False,
            )
    n = int(table.groupby(["setting", "ratio"]).size().min())
    what = "lowest" if measure == "ece" else "highest"
    ax.set(
        xlabel="fusion ratio p (share of channels swapped)",
        ylabel=f"test {'' if measure == 'ece' else 'accuracy, '}{measure}, %",
    )
    ax.set_title(
        f"Rings, {what}: {'; '.join(best[:3])}{' …' if len(best) > 3 else ''}\n({n if n > 1 else 'one'} run{'s' * (n > 1)} a point{', band: ± 1 std' if n > 1 else ''})"
    )
    return ax


@styled
def plot_cost(rows, measure: str = "all", ax=None):
    """What accuracy costs: seconds of training, stage 1 included, against accuracy; the means of the groups are large, and
    a line goes through those that none beats in both.

    Seconds of different devices are not comparable: the title says so where there are several. Where models differ in size, the legend
    has their millions of parameters.
    Arguments: ``rows`` of ``compare.grouped`` within one setting. Returns: Axes. Raises: ``h2t.Error`` without any cost.
    """
    rows = rows.dropna(subset=["total_seconds", measure])
    rows = rows[rows["total_seconds"] > 0]
    if rows.empty:
        raise Error("no run has a cost: imported and cached steps have no training time")
    ax, look, means = new_axes(ax, size=(9.5, 5.4)), looks(rows["group"]), []
    sizes = (
        rows.groupby("group")["parameters"].mean()
        if "parameters" in rows and rows["parameters"].nunique() > 1
        else {}
    )
    for g, part in rows.groupby("group", sort=False):
        style = look[g]
        ax.scatter(
            part["total_seconds"],
            part[measure],
            s=18,
            color=style["color"],
            marker=style["marker"],
            alpha=0.45,
            lw=0,
        )
        x, y = part["total_seconds"].mean(), part[measure].mean()
        ax.plot(
            x,
            y,
            style["marker"],
            color=style["color"],
            ms=12,
            mec="white",
            zorder=4,
            label=f"{g} (n = {len(part)}" + (f", {sizes[g] / 1e6:.2f} M)" if len(sizes) else ")"),
        )
        means.append((x, y if measure != "ece" else -y, g))
    front = [
        m for m in means if not any(o[0] <= m[0] and o[1] >= m[1] and o[:2] != m[:2] for o in means)
    ]
    front = sorted(front)
    ax.plot(
        [m[0] for m in front],
        [abs(m[1]) if measure == "ece" else m[1] for m in front],
        color="#777777",
        lw=1.6,
        ls="--",
        zorder=3,
    )
    low, high = rows["total_seconds"].min() / 1.15, rows["total_seconds"].max() * 1.15
    if high / low > 8:
        ax.set(xscale="log", xlim=(low, high))
        plain_log(ax.xaxis, low, high)
    devices = rows["device_name"].fillna("unknown").nunique()
    title = f"{front[0][2]} is cheapest, {front[-1][2]} best" + (
        f",\nfor {front[-1][0] / front[0][0]:.1f} times the seconds"
        if len(front) > 1
        else " as well"
    )
    ax.set_title(
        title + (f"  ({devices} devices: seconds are not comparable)" if devices > 1 else "")
    )
    ax.set(
        xlabel="training, seconds, stage 1 included",
        ylabel=f"test {'' if measure == 'ece' else 'accuracy, '}{measure}, %",
    )
    ax.margins(y=0.12)
    legend_below(ax, ncols=1 if max(map(len, look)) > (40 if len(sizes) == 0 else 32) else 2)
    return ax
