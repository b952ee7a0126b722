"""What training does: learning curves, accuracy by group, accuracy against the fusion ratio."""

from __future__ import annotations

import numpy as np

from h2t.plots.style import (
    COLOURS,
    STEPS,
    TEXT,
    empties,
    legend_below,
    method_colours,
    new_axes,
    styled,
)


@styled
def plot_learning_curves(table, axes=None):
    """Test accuracy by group, and loss, over the epochs.

    Arguments: ``table`` rows of metrics.jsonl; epochs without an evaluation have no accuracy. Returns: two Axes.
    """
    from matplotlib.ticker import MaxNLocator

    left, right = axes = np.ravel(new_axes(axes, 1, 2, (11.5, 5)))
    seen = table[table["all"].notna()] if "all" in table else table.iloc[:0]
    marker, empty = "o" if len(seen) <= 30 else None, {}
    for column, g in (("many", "many"), ("medium", "medium"), ("few", "few"), ("all", "all")):
        values = seen[column].astype(float) if column in seen else seen["epoch"] * np.nan
        if values.notna().any():
            left.plot(
                seen["epoch"],
                values,
                color=COLOURS[g],
                marker=marker,
                ms=4,
                lw=2,
                ls="--" if g == "all" else "-",
                label=f"{g} {values.iloc[-1]:.1f} %",
            )
        else:
            empty[g] = ()
    left.set(
        xlabel="epoch",
        ylabel="test accuracy, %",
        ylim=(0, 103),
        title="Accuracy by group" if len(seen) else "Accuracy by group: none yet",
    )
    if len(seen):
        left.set_title(
            f"Accuracy at epoch {seen['epoch'].iloc[-1]:.0f}: {seen['all'].iloc[-1]:.1f} % over all"
            + (f"\n{empties(empty).strip()}" if empty else "")
        )
        legend_below(left, ncols=2)
    right.plot(table["epoch"], table["loss"], color=COLOURS["all"], lw=2)
    right.set(
        xlabel="epoch",
        ylabel="training loss",
        title="Loss (line) and learning rate (grey steps)",
        ylim=(0, None),
    )
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


@styled
def plot_group_bars(table, spread=None, ax=None):
    """Accuracy of many, medium, few and all for each method, as grouped bars with their numbers.

    Arguments: ``table`` a row per method, columns many, medium, few, all (%); ``spread`` the same rows and columns,
    standard deviations for error bars. An empty group says so, once. Returns: Axes.
    """
    values = table.astype(float)
    ax = new_axes(ax, size=(10, 5))
    width = 0.84 / len(values)
    spread = (
        None
        if spread is None
        else spread.astype(float).reindex(index=values.index, columns=values.columns)
    )
    named = [STEPS.get(str(method), str(method)) for method in values.index]
    colours = method_colours(named)
    for m, (method, row) in enumerate(values.iterrows()):
        x = np.arange(len(row)) + (m - (len(values) - 1) / 2) * width
        error = (
            np.zeros(len(row)) if spread is None else np.nan_to_num(spread.loc[method].to_numpy())
        )
        there = row.notna().to_numpy()
        ax.bar(x[there], row[there], width * 0.94, color=colours[m], label=named[m])
        if spread is not None:
            ax.errorbar(
                x[there], row[there], error[there], fmt="none", ecolor="#222222", capsize=3, lw=1.4
            )
        for k in range(len(row)):
            if not there[k]:
                if m == 0 and values.iloc[:, k].isna().all():
                    ax.text(
                        k, 1, "empty", ha="center", va="bottom", color="#555555", style="italic"
                    )
                continue
            ax.text(
                x[k],
                row.iloc[k] + error[k] + 1,
                f"{row.iloc[k]:.1f}",
                ha="center",
                va="bottom",
                fontsize=11 if len(values) <= 3 else 9.5,
                rotation=90 if len(values) > 5 else 0,
            )
    ax.set_xticks(range(values.shape[1]), values.columns)
    highest = float(
        np.nanmax(values.to_numpy() + (0 if spread is None else np.nan_to_num(spread.to_numpy())))
    )
    ax.set(
        xlabel="classes, by training images",
        ylabel="test accuracy, %",
        xlim=(-0.55, values.shape[1] - 0.45),
        ylim=(0, max(100, highest + (14 if len(values) > 5 else 8))),
    )
    if len(values) > 1:
        moved = ", ".join(
            f"{g} {change:+.1f}"
            for g, change in (values.iloc[-1] - values.iloc[0]).dropna().items()
        )
        ax.set_title(f"From {named[0]} to {named[-1]}: {moved} points")
    else:
        ax.set_title(f"Accuracy by group: {named[0]}")
    ax.grid(axis="x", visible=False)
    legend_below(ax, ncols=min(len(values), 4))
    return ax


# Li et al., AAAI 2024, slide 10 of the authors' talk: DR + H2T on CIFAR-100-LT, IF 100, one run each
_SLIDE_10 = {
    "all": (45.68, 47.11, 47.58, 47.73, 47.59, 47.17, 46.50, 46.05, 45.52, 44.39, 43.57),
    "many": (63.81, 63.08, 61.86, 62.00, 59.58, 56.31, 53.89, 51.92, 49.36, 47.94, 44.31),
    "medium": (46.37, 48.69, 50.00, 50.17, 50.74, 51.34, 52.06, 50.63, 52.91, 50.46, 51.51),
    "few": (22.35, 25.38, 26.93, 27.07, 28.90, 30.79, 30.62, 33.24, 31.83, 32.66, 33.07),
}


def published_curve(counts: np.ndarray | None = None):
    """The published ratio curve as a table: ratio, group (the reference's fixed class ranges), accuracy (%).

    Arguments: ``counts`` (C,) training images of a set, to get None for one that it does not belong to: it is of 100
    classes with the counts of CIFAR-100-LT at an imbalance factor of 100.
    """
    import pandas as pd

    if counts is not None and (len(counts) != 100 or sum(counts) != 10_847 or max(counts) != 500):
        return None
    return pd.DataFrame(
        [
            {"ratio": k / 10, "group": g, "accuracy": a}
            for g, row in _SLIDE_10.items()
            for k, a in enumerate(row)
        ]
    )


@styled
def plot_ratio_curve(table, published=None, current: float | None = None, ax=None):
    """Accuracy against the fusion ratio: mean over seeds with a band of one standard deviation, by group.

    Arguments: ``table`` with columns ratio, seed, group, accuracy (%); ``published`` with ratio, group, accuracy, drawn
    as hollow markers; ``current`` a ratio to mark. Groups may be called head and tail, as the papers do. Returns: Axes.
    """
    field = {"head": "many", "tail": "few"}
    table = table.assign(group=table["group"].replace(field))
    ax = new_axes(ax, size=(9.5, 5))
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
            ax.plot(
                dots["ratio"],
                dots["accuracy"],
                color=COLOURS[g],
                marker="o",
                mfc="white",
                ms=6,
                lw=0,
                clip_on=False,
                zorder=5,
            )
    ax.margins(
        y=0.1
    )  # not set_ylim: drawn again into the same axes, the limits follow the new curve
    low, high = ax.get_ylim()
    placed = -np.inf
    for y, g in sorted(ends):  # name the lines at their right end, kept apart
        placed = max(y, placed + 0.06 * (high - low))
        ax.text(1.015, placed, g, color=TEXT[g], va="center", weight="bold", fontsize=12)
    if current is not None:
        ax.axvline(current, color="#333333", lw=1.8, ls=":")
        ax.text(
            current,
            1.0,
            f" p = {current:.2f} ",
            transform=ax.get_xaxis_transform(),
            ha="left" if current < 0.85 else "right",
            va="top",
        )
    seeds = table["seed"].nunique()
    note = (f"{seeds} seeds, band: ± 1 std" if seeds > 1 else "1 seed") + (
        "; circles: published" if published is not None else ""
    )
    overall = table[table["group"] == "all"].groupby("ratio")["accuracy"].mean().dropna()
    best = (
        f"Best overall at p = {overall.idxmax():g}: {overall.max():.1f} %"
        if len(overall)
        else "Accuracy against the fusion ratio"
    )
    ax.set(
        xlabel="fusion ratio p (share of channels swapped)", ylabel="test accuracy, %", xlim=(0, 1)
    )
    ax.set_title(f"{best}  ({note}){empties(empty)}")
    return ax


@styled
def plot_agreement(table, axes=None):
    """How far the cached stage 2 agrees with the exact one: mean accuracy by group, bars of one standard deviation.

    Arguments: ``table`` of ``h2t.train.cached.steps.compare``: columns kind (exact, cached), ratio, seed, many, medium, few,
    all (%). Returns: an array of Axes, one a group. Empty groups are left out.
    """
    shown = [g for g in ("many", "medium", "few", "all") if table[g].notna().any()]
    axes = np.ravel(new_axes(axes, 1, len(shown), (3.1 * len(shown) + 0.6, 4.8)))
    by = table.groupby(["kind", "ratio"])[shown]
    mean, std = by.mean(), by.std().fillna(0)
    ratios = sorted(table["ratio"].unique())
    for ax, g in zip(axes, shown, strict=True):
        for shift, kind, marker in ((-0.1, "exact", "o"), (0.1, "cached", "s")):
            filled = COLOURS[g] if kind == "exact" else "white"
            ax.errorbar(
                np.arange(len(ratios)) + shift,
                mean.loc[kind, g],
                std.loc[kind, g],
                color=COLOURS[g],
                marker=marker,
                mfc=filled,
                ms=9,
                lw=0,
                elinewidth=2,
                capsize=4,
                label=kind,
            )
        off = (mean.loc["cached", g] - mean.loc["exact", g]).abs().max()
        ax.set_title(f"{g}: within {off:.1f} points", color=TEXT[g])
        ax.set(xlabel="fusion ratio p", xlim=(-0.5, len(ratios) - 0.5))
        ax.set_xticks(range(len(ratios)), [f"{r:g}" for r in ratios])
        ax.margins(y=0.25)
    axes[0].set_ylabel(f"test accuracy, % ({table['seed'].nunique()} seeds)")
    legend_below(axes[len(axes) // 2], ncols=2)
    return axes
