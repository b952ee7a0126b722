"""Fusion by BN statistics: the four cells of one two by two."""

from __future__ import annotations

import numpy as np

from h2t.base.tables import number
from h2t.metrics import label
from h2t.plots.style import METHODS, TEXT, figure_of, new_axes, styled, title

__all__ = ["plot_control"]

_LOOKS = {False: ("no fusion (DR)", METHODS[1], "o"), True: ("fusion (H2T)", METHODS[2], "s")}
_PLACES = {"balanced": 0.0, "both": 1.0}
_PARTS = {
    "DR to H2T": (True, "both"),
    "the statistics alone": (False, "both"),
    "fusion alone": (True, "balanced"),
}


@styled
def plot_control(rows, effects):
    """The two by two of one setting: what BN sees from left to right, fusion from line to line.

    Where the lines climb, the statistics work; where they lie apart, fusion does; where they are
    not parallel, one depends on the other. Small marks are single stage 2s.

    Arguments: ``rows`` and ``effects`` of ``h2t.study.compare.control.Control`` within one setting
    and ratio. Returns: an array of Axes, a measure each; empty groups are left out.
    """
    shown = [m for m in ("all", "many", "medium", "few") if rows[m].notna().any()]
    axes = new_axes(3.2 * len(shown) + 0.8, 5.2, columns=len(shown))
    # as many points in all panels, so that slopes compare
    span = 1.25 * max(np.ptp(rows[m].dropna()) for m in shown) or 1
    for ax, measure in zip(axes, shown, strict=True):
        for fusion, (name, colour, marker) in _LOOKS.items():
            part = rows[rows["fusion"] == fusion]
            mean = part.groupby(["statistics", "unit"])[measure].mean().groupby("statistics").mean()
            if len(part) > len(mean):
                at = part["statistics"].map(_PLACES) + (0.06 if fusion else -0.06)
                ax.scatter(at, part[measure], s=16, color=colour, marker=marker, alpha=0.5, lw=0)
            look = dict(marker=marker, color=colour, lw=3, ms=10, mec="white", label=name)
            ax.plot([_PLACES[s] for s in mean.index], mean, **look)
        middle = (rows[measure].max() + rows[measure].min()) / 2
        ax.set(xlim=(-0.35, 1.35), ylim=(middle - span / 2, middle + span / 2))
        ax.set_xticks([0, 1], ["balanced", "both"])
        ax.set_title("\n".join([label(measure), *_said(effects, measure)]), color=TEXT[measure])
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend(loc="best")
    note = "  (★: p < 0.05 after Holm)" if effects["p"].notna().any() else ""
    figure_of(axes).supxlabel(f"streams that the BN statistics see{note}", fontsize=12)
    title(axes, ", ".join(filter(None, [rows["setting"].iloc[0], _headline(rows)])))
    return axes


def _headline(rows) -> str:
    """How much of the published difference, DR to H2T, either change makes by itself."""
    mean = rows.groupby(["fusion", "statistics"])["all"].mean()
    start, n = mean.get((False, "balanced")), rows["unit"].nunique()
    there = {name: cell for name, cell in _PARTS.items() if cell in mean.index}
    if start is None or not there:
        return "Fusion by BN statistics"
    moved = [f"{name} {number(mean[cell] - start, 1, sign=True)}" for name, cell in there.items()]
    rests = "one stage 1, not tested" if n == 1 else f"{n} stage 1s"
    return f"In the total ({rests}): {', '.join(moved)} points"


def _said(effects, measure: str) -> list[str]:
    """A line for each effect on a measure, with a star where a test supports it."""
    part = effects[(effects["measure"] == measure) & (effects["effect"] != "interaction")]
    return [
        f"{row.effect} {number(row.difference, 1, sign=True)}{' ★' * (row.p_holm < 0.05)}"
        for row in part.sort_values("effect", ascending=False).itertuples()
    ]
