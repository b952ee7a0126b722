"""Fusion by BN statistics: the four cells of one stage 1, and the effects of many settings."""

from __future__ import annotations

import numpy as np

from h2t.base.errors import Error
from h2t.metrics import label
from h2t.plots.style import METHODS, TEXT, figure_of, new_axes, styled, title

__all__ = ["plot_control", "plot_effects"]

_LOOKS = {False: ("no fusion (DR)", METHODS[1], "o"), True: ("fusion (H2T)", METHODS[2], "s")}
_EFFECTS = {
    "statistics": (METHODS[3], "D"),
    "fusion": (METHODS[2], "s"),
    "interaction": (METHODS[0], "^"),
}
_PLACES = {"balanced": 0.0, "both": 1.0}
_SHOWN = ("all", "many", "medium", "few")


def _name(ax, measure: str, lines) -> None:
    ax.set_title("\n".join([label(measure), *lines]), color=TEXT.get(measure, "#222222"))


def _evidence(stage1s: int) -> str:
    return "one stage 1, not tested" if stage1s == 1 else f"{stage1s} stage 1s"


@styled
def plot_control(rows, effects=None, measures=_SHOWN, axes=None):
    """The two by two of one setting: what BN sees from left to right, fusion from line to line.

    Where the lines climb, the statistics work; where they lie apart, fusion does; where they are
    not parallel, one depends on the other. All panels span as many points, so that slopes compare.
    Small marks are single stage 2s.

    Arguments: ``rows`` of ``h2t.study.compare.control.Control`` within one setting and ratio;
    ``effects`` alike, for the titles. Returns: an array of Axes, a measure each; empty groups are
    left out.
    """
    shown = [m for m in measures if rows[m].notna().any()]
    axes = np.ravel(new_axes(axes, 1, len(shown), (3.2 * len(shown) + 0.8, 5.2)))
    span = 1.25 * max((np.ptp(rows[m].dropna()) for m in shown), default=1) or 1
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
        _name(ax, measure, _said(effects, measure))
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("test accuracy, %")
    tested = effects is not None and effects["p"].notna().any()
    note = "  (★: p < 0.05 after Holm)" if tested else ""
    figure_of(axes).supxlabel(f"streams that the BN statistics see{note}", fontsize=12)
    axes[0].legend(loc="best")
    title(axes, _headline(rows))
    return axes


def _headline(rows, measure: str = "all") -> str:
    """How much of the published difference, DR to H2T, either change makes by itself."""
    mean = rows.groupby(["fusion", "statistics"])[measure].mean()
    start = mean.get((False, "balanced"))
    parts = {
        "DR to H2T": (True, "both"),
        "the statistics alone": (False, "both"),
        "fusion alone": (True, "balanced"),
    }
    there = {name: cell for name, cell in parts.items() if cell in mean.index}
    if start is None or not there:
        return "Fusion by BN statistics"
    said = ", ".join(f"{name} {mean[cell] - start:+.1f}" for name, cell in there.items())
    return f"In the total ({_evidence(rows['unit'].nunique())}): {said} points"


def _said(effects, measure: str) -> list[str]:
    """A line for each effect on a measure."""
    if effects is None:
        return []
    part = effects[(effects["measure"] == measure) & (effects["effect"] != "interaction")]
    part = part.sort_values("effect", ascending=False)
    stars = np.where(part["p_holm"] < 0.05, " ★", "")
    effects = zip(part["effect"], part["difference"], stars, strict=True)
    return [f"{effect} {difference:+.1f}{star}" for effect, difference, star in effects]


@styled
def plot_effects(effects, measures=_SHOWN, axes=None):
    """What fusion and the statistics do in every setting: points with 95 % intervals.

    Filled marks are beyond the noise after Holm's correction, hollow ones are not; right of the
    line is better. Arguments: ``effects`` of ``h2t.study.compare.control.Control``.
    Returns: an array of Axes, a measure each. Raises: ``h2t.Error`` for no full two by two.
    """
    from matplotlib.lines import Line2D

    effects = effects[effects["effect"].isin(_EFFECTS)]
    if effects.empty:
        raise Error(
            "no setting has all four cells of fusion by BN statistics; train with `-p control true`"
        )
    name = effects["setting"]
    if effects["ratio"].nunique() > 1:
        name = name + ", p = " + effects["ratio"].map("{:g}".format)
    effects = effects.assign(name=name.str.removeprefix(", "))
    settings = list(dict.fromkeys(effects["name"]))
    shown = [m for m in measures if m in set(effects["measure"])]
    size = (3.6 + 2.9 * len(shown), 2.2 + 0.85 * len(settings))
    axes = np.ravel(new_axes(axes, 1, len(shown), size, sharey=True, sharex=True))
    for ax, measure in zip(axes, shown, strict=True):
        part = effects[effects["measure"] == measure]
        for row in part.itertuples():
            colour, marker = _EFFECTS[row.effect]
            at = settings.index(row.name) + (list(_EFFECTS).index(row.effect) - 1) * 0.25
            ax.plot([row.low, row.high], [at, at], color=colour, lw=3, solid_capstyle="butt")
            face = colour if row.p_holm < 0.05 else "white"
            look = dict(color=colour, mfc=face, mec=colour, mew=2, ms=9, zorder=4)
            ax.plot(row.difference, at, marker, **look)
        ax.axvline(0, color="#555555", lw=1.4, zorder=0)
        means = part.groupby("effect")["difference"].mean()
        both = [e for e in ("statistics", "fusion") if e in means]
        _name(ax, measure, [f"{e} {means[e]:+.1f}" for e in both])
        ax.set(ylim=(len(settings) - 0.5, -0.5))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(settings)), [s or "all runs" for s in settings])
    figure, rests = figure_of(axes), _evidence(int(effects["units"].min()))
    how = f"{rests}; bar: 95 % interval; filled: p < 0.05 after Holm"
    figure.supxlabel(f"change in test accuracy, points ({how})", fontsize=12)
    marks = [
        Line2D([], [], color=colour, marker=marker, lw=3, ms=9, label=effect)
        for effect, (colour, marker) in _EFFECTS.items()
    ]
    figure.legend(handles=marks, loc="outside upper right", ncols=3)
    return axes
