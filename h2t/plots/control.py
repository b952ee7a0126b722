"""Fusion by BN statistics: the four cells of one stage 1, and the effects of many settings."""

from __future__ import annotations

import numpy as np

from h2t.base.errors import Error
from h2t.plots.style import METHODS, TEXT, figure_of, new_axes, styled

_LOOKS = {False: ("no fusion (DR)", METHODS[1], "o"), True: ("fusion (H2T)", METHODS[2], "s")}
_EFFECTS = {
    "statistics": (METHODS[3], "D"),
    "fusion": (METHODS[2], "s"),
    "interaction": (METHODS[0], "^"),
}
_PLACES = {"balanced": 0.0, "both": 1.0}


@styled
def plot_control(rows, effects=None, measures=("all", "many", "medium", "few"), axes=None):
    """The two by two of one setting: what BN sees goes from left to right, fusion from one line to the other.

    Where the lines climb, the statistics work; where they lie apart, fusion does; where they are not parallel, one depends on the
    other. All panels span as many points, so that slopes compare. Small marks are single runs.

    Arguments: ``rows`` of ``h2t.study.compare.control.Control`` within one setting and ratio; ``effects`` alike, for the titles.
    Returns: an array of Axes, one a measure; empty groups are left out.
    """
    shown = [m for m in measures if rows[m].notna().any()]
    axes = np.ravel(new_axes(axes, 1, len(shown), (3.2 * len(shown) + 0.8, 5.2)))
    span = 1.25 * max((rows[m].max() - rows[m].min() for m in shown), default=1) or 1
    for ax, measure in zip(axes, shown, strict=True):
        for fusion, (name, colour, marker) in _LOOKS.items():
            part = rows[rows["fusion"] == fusion]
            mean = part.groupby("statistics")[measure].mean()
            x = np.array([_PLACES[s] for s in mean.index])
            place = part["statistics"].map(_PLACES)
            if len(part) > len(mean):
                ax.scatter(
                    place + (0.06 if fusion else -0.06),
                    part[measure],
                    s=16,
                    color=colour,
                    alpha=0.5,
                    lw=0,
                )
            ax.plot(x, mean, marker=marker, color=colour, lw=3, ms=10, mec="white", label=name)
        middle = (rows[measure].max() + rows[measure].min()) / 2
        ax.set(xlim=(-0.35, 1.35), ylim=(middle - span / 2, middle + span / 2))
        ax.set_xticks([0, 1], ["balanced", "both"])
        ax.set_title(
            "\n".join([measure, *_said(effects, measure)]), color=TEXT.get(measure, "#222222")
        )
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("test accuracy, %")
    figure = figure_of(axes)
    figure.supxlabel(
        "streams that the BN statistics see"
        + (
            "  (★: p < 0.05 after Holm)"
            if effects is not None and effects["p"].notna().any()
            else ""
        ),
        fontsize=12,
    )
    axes[0].legend(loc="best")
    figure.suptitle(_headline(rows), x=0.01, ha="left", fontsize=14, weight="bold")
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
    said = [
        f"{name} {mean[cell] - start:+.1f}"
        for name, cell in parts.items()
        if start is not None and cell in mean.index
    ]
    seeds = rows["unit"].nunique()
    return (
        f"In the total ({seeds} seed{'s' * (seeds > 1)}): {', '.join(said)} points"
        if said
        else "Fusion by BN statistics"
    )


def _said(effects, measure: str) -> list[str]:
    """A line for each effect on a measure."""
    if effects is None:
        return []
    part = effects[(effects["measure"] == measure) & (effects["effect"] != "interaction")]
    return [
        f"{r.effect} {r.difference:+.1f}{' ★' if r.p_holm < 0.05 else ''}"
        for r in part.sort_values("effect", ascending=False).itertuples()
    ]


@styled
def plot_effects(effects, measures=("all", "many", "medium", "few"), axes=None):
    """What fusion and the statistics do in every setting: differences in points with 95 % intervals, one panel a measure.

    Filled marks are beyond the noise after Holm's correction, hollow ones are not; right of the line is better.
    Arguments: ``effects`` of ``h2t.study.compare.control.Control``. Returns: an array of Axes. Raises: ``h2t.Error`` for no full two by two.
    """
    from matplotlib.lines import Line2D

    effects = effects[effects["effect"].isin(_EFFECTS)]
    if effects.empty:
        raise Error(
            "no setting has all four cells of fusion by BN statistics; train with `-p control true`"
        )
    several = effects["ratio"].nunique() > 1
    name = effects["setting"] + (", p = " + effects["ratio"].map("{:g}".format) if several else "")
    effects = effects.assign(name=name.str.removeprefix(", "))
    settings, shown = (
        list(dict.fromkeys(effects["name"])),
        [m for m in measures if m in set(effects["measure"])],
    )
    axes = np.ravel(
        new_axes(
            axes,
            1,
            len(shown),
            (3.6 + 2.9 * len(shown), 2.2 + 0.85 * len(settings)),
            sharey=True,
            sharex=True,
        )
    )
    for ax, measure in zip(axes, shown, strict=True):
        for k, (effect, (colour, marker)) in enumerate(_EFFECTS.items()):
            part = effects[
                (effects["measure"] == measure) & (effects["effect"] == effect)
            ].set_index("name")
            for y, setting in enumerate(settings):
                if setting in part.index:
                    row, at = part.loc[setting], y + (k - 1) * 0.25
                    ax.plot(
                        [row["low"], row["high"]],
                        [at, at],
                        color=colour,
                        lw=3,
                        solid_capstyle="butt",
                    )
                    sure = row["p_holm"] < 0.05
                    ax.plot(
                        row["difference"],
                        at,
                        marker,
                        color=colour,
                        mfc=colour if sure else "white",
                        mec=colour,
                        mew=2,
                        ms=9,
                        zorder=4,
                    )
        ax.axvline(0, color="#555555", lw=1.4, zorder=0)
        means = effects[effects["measure"] == measure].groupby("effect")["difference"].mean()
        ax.set_title(
            "\n".join(
                [measure, *(f"{e} {means[e]:+.1f}" for e in ("statistics", "fusion") if e in means)]
            ),
            color=TEXT.get(measure, "#222222"),
        )
        ax.set(ylim=(len(settings) - 0.5, -0.5))
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(settings)), [s or "all runs" for s in settings])
    n = int(effects["pairs"].min())
    figure_of(axes).supxlabel(
        f"change in test accuracy, points ({n} pair{'s' * (n > 1)} each; bar: 95 % interval; filled: p < 0.05 after Holm)",
        fontsize=12,
    )
    marks = [
        Line2D([], [], color=colour, marker=marker, lw=3, ms=9, label=effect)
        for effect, (colour, marker) in _EFFECTS.items()
    ]
    figure_of(axes).legend(handles=marks, loc="outside upper right", ncols=3)
    return axes
