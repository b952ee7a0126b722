"""What training does: learning curves, accuracy by group, accuracy against the fusion ratio."""

from __future__ import annotations

import numpy as np

from h2t.base.tables import number
from h2t.metrics import GROUPS
from h2t.plots.style import (
    COLOURS,
    TEXT,
    band,
    empties,
    legend_below,
    method_colours,
    name_ends,
    new_ax,
    new_axes,
    styled,
)
from h2t.recipes.names import STEPS

__all__ = ["plot_agreement", "plot_group_bars", "plot_learning_curves", "plot_ratio_curve"]

_SHOWN = (*GROUPS, "all")


@styled
def plot_learning_curves(table):
    """Test accuracy by group, and loss, over the epochs.

    Arguments: ``table`` rows of metrics.jsonl; epochs without an evaluation have no accuracy.
    Returns: two Axes.
    """
    from matplotlib.ticker import MaxNLocator

    left, right = axes = new_axes(11.5, 5, columns=2)
    seen = table.reindex(columns=["epoch", *_SHOWN]).astype(float).dropna(subset="all")
    there = [g for g in _SHOWN if seen[g].notna().any()]
    for g in there:
        look = dict(color=COLOURS[g], ls="--" if g == "all" else "-", ms=4, lw=2)
        look["marker"] = "o" if len(seen) <= 30 else None
        left.plot(seen["epoch"], seen[g], label=f"{g} {seen[g].iloc[-1]:.1f} %", **look)
    left.set(xlabel="epoch", ylabel="test accuracy, %", ylim=(0, 103))
    left.set_title("Accuracy by group: none yet")
    if len(seen):
        last, missing = seen.iloc[-1], [g for g in _SHOWN if g not in there]
        said = f"Accuracy at epoch {last['epoch']:.0f}: {last['all']:.1f} % over all"
        left.set_title("\n".join(filter(None, [said, empties(missing).strip()])))
        legend_below(left, ncols=2)
    right.plot(table["epoch"], table["loss"], color=COLOURS["all"], lw=2)
    right.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    right.set_title("Loss (line) and learning rate (grey steps)")
    rate = right.twinx()
    rate.step(table["epoch"], table["lr"], where="mid", color="#999999", lw=1.8)
    rate.set(yscale="log", ylabel="learning rate")
    rate.yaxis.label.set_color("#6E6E6E")
    rate.tick_params(axis="y", which="both", colors="#6E6E6E")
    rate.grid(False)
    rate.spines["right"].set_visible(True)
    for ax in axes:
        ax.set_xlim(0, max(float(table["epoch"].max()), 2))
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return axes


@styled
def plot_group_bars(table, spread=None):
    """Accuracy of many, medium, few and all for each method, as grouped bars with their numbers.

    The title holds the last method against the best baseline there is: for H2T that is the control
    (DR, BN sees both), then DR, as the step from stage 1 is mostly that of DR.
    Arguments: ``table`` a row per method, columns many, medium, few, all (%); ``spread`` the same,
    standard deviations for error bars where there are any. Returns: Axes.
    """
    values = table.astype(float)
    ax, count = new_ax(10, 5), len(values)
    errors = values * np.nan if spread is None else spread.astype(float).reindex_like(values)
    named = [STEPS.get(str(method), str(method)) for method in values.index]
    width = 0.84 / count
    for m, colour in enumerate(method_colours(named)):
        row, error = values.iloc[m].to_numpy(), errors.iloc[m].to_numpy()
        x = np.arange(len(row)) + (m - (count - 1) / 2) * width
        there = ~np.isnan(row)
        look = dict(
            color=colour, label=named[m], error_kw=dict(ecolor="#222222", capsize=3, lw=1.4)
        )
        if not np.isnan(error[there]).all():
            look["yerr"] = np.nan_to_num(error[there])
        bars = ax.bar(x[there], row[there], width * 0.94, **look)
        size, turn = 11 if count <= 3 else 9.5, 90 if count > 5 else 0
        ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=size, rotation=turn)
    for k in np.flatnonzero(values.isna().all()):
        ax.text(k, 1, "empty", color="#555555", style="italic", ha="center", va="bottom")
    ax.set_xticks(range(values.shape[1]), values.columns)
    highest = float(np.nanmax(values + errors.fillna(0))) + (14 if count > 5 else 8)
    ax.set(xlim=(-0.55, values.shape[1] - 0.45), ylim=(0, max(100, highest)))
    ax.set(xlabel="classes, by training images", ylabel="test accuracy, %")
    ax.set_title(_moved(values.set_axis(named)))
    ax.grid(axis="x", visible=False)
    legend_below(ax, ncols=min(count, 4))
    return ax


def _moved(values) -> str:
    """How far the last method is from its baseline, for a title."""
    *others, last = values.index
    if not others:
        return f"Accuracy by group: {last}"
    before = next(n for n in (STEPS["stage2-dr-both"], STEPS["stage2-dr"], *others) if n in others)
    moved = (values.iloc[-1] - values.iloc[others.index(before)]).dropna()
    said = ", ".join(f"{g} {number(change, 1, sign=True)}" for g, change in moved.items())
    return f"From {before} to {last}: {said} points"


@styled
def plot_ratio_curve(table, published=None, current: float | None = None, ax=None):
    """Accuracy against the fusion ratio: mean over seeds, a band of one deviation, by group.

    Arguments: ``table`` with columns ratio, seed, group, accuracy (%); ``published`` with ratio,
    group, accuracy, drawn as hollow markers; ``current`` a ratio to mark; ``ax`` to draw into.
    Returns: Axes.
    """
    ax, ends, empty = new_ax(9.5, 5) if ax is None else ax, [], []
    for g in _SHOWN:
        rows = table[table["group"] == g].dropna(subset=["accuracy"])
        if rows.empty:
            empty.append(g)
            continue
        by, colour = rows.groupby("ratio")["accuracy"], COLOURS[g]
        mean = band(ax, by, colour, ls="--" if g == "all" else "-", label=g)
        ends.append((mean.iloc[-1], 1.0, g, TEXT[g]))
        if published is not None:
            dots = published[published["group"] == g]
            hollow = dict(marker="o", mfc="white", ms=6, lw=0, clip_on=False, zorder=5)
            ax.plot(dots["ratio"], dots["accuracy"], color=colour, **hollow)
    ax.margins(y=0.1)  # not set_ylim: drawn again into these axes, limits follow the new curve
    name_ends(ax, ends)
    if current is not None:
        ax.axvline(current, color="#333333", lw=1.8, ls=":")
        side = "left" if current < 0.85 else "right"
        how = dict(transform=ax.get_xaxis_transform(), va="top", ha=side)
        ax.text(current, 1.0, f" p = {current:.2f} ", **how)
    seeds = table["seed"].nunique()
    note = f"{seeds} seeds, band: ± 1 std" if seeds > 1 else "1 seed"
    note += "; circles: published" if published is not None else ""
    overall = table[table["group"] == "all"].groupby("ratio")["accuracy"].mean().dropna()
    best = "Accuracy against the fusion ratio"
    if len(overall):
        best = f"Best overall at p = {overall.idxmax():g}: {overall.max():.1f} %"
    ax.set(xlabel="fusion ratio p (share of channels swapped)", ylabel="test accuracy, %")
    ax.set(xlim=(0, 1), title=f"{best}  ({note}){empties(empty)}")
    return ax


@styled
def plot_agreement(table):
    """How far the cached stage 2 agrees with the exact one: means, bars of one deviation.

    Arguments: ``table`` of ``h2t.train.cached.steps.compare``. Returns: an array of Axes, one a
    group; empty ones are left out.
    """
    shown = [g for g in _SHOWN if table[g].notna().any()]
    axes = new_axes(3.1 * len(shown) + 0.6, 4.8, columns=len(shown))
    by = table.groupby(["kind", "ratio"])[shown]
    mean, std = by.mean(), by.std().fillna(0)
    ratios = sorted(table["ratio"].unique())
    for ax, g in zip(axes, shown, strict=True):
        looks = (("exact", -0.1, "o", COLOURS[g]), ("cached", 0.1, "s", "white"))
        for kind, shift, marker, fill in looks:
            at, of = np.arange(len(ratios)) + shift, (kind, g)
            look = dict(color=COLOURS[g], ms=9, lw=0, elinewidth=2, capsize=4, mfc=fill)
            ax.errorbar(at, mean.loc[of], std.loc[of], marker=marker, label=kind, **look)
        off = (mean.loc["cached", g] - mean.loc["exact", g]).abs().max()
        ax.set_title(f"{g}: within {off:.1f} points", color=TEXT[g])
        ax.set(xlabel="fusion ratio p", xlim=(-0.5, len(ratios) - 0.5))
        ax.set_xticks(range(len(ratios)), [f"{r:g}" for r in ratios])
        ax.margins(y=0.25)
    axes[0].set_ylabel(f"test accuracy, % ({table['seed'].nunique()} seeds)")
    legend_below(axes[len(axes) // 2], ncols=2)
    return axes
