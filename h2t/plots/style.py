"""What every figure shares: colours, style, axes, legends, saving. Changes no global setting."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

import numpy as np

from h2t.base.files import write_atomic
from h2t.metrics import label
from h2t.recipes.names import STEPS

__all__ = ["AFTER", "BEFORE", "COLOURS", "METHODS", "STYLE", "TEXT"]
__all__ += ["figure_of", "fonts", "save", "short", "title"]

COLOURS = {"many": "#0072B2", "medium": "#E69F00", "few": "#D55E00", "all": "#333333"}
# the same hues, dark enough to be read as letters on white
TEXT = {**COLOURS, "medium": "#8F6300", "few": "#B34F00"}
# one colour each for the steps of a run everywhere; told apart by deuteranopes too (a test)
METHODS = ("#4D4D4D", "#56B4E9", "#117733", "#CC79A7", "#5D3A9B")
_STEP_COLOURS = {name: METHODS[k] for name, k in zip(STEPS.values(), (0, 1, 3, 4, 2), strict=True)}
# of methods, where there are many
KINDS = ("#117733", "#0072B2", "#D55E00", "#CC79A7", "#5D3A9B", "#E69F00", "#56B4E9", "#8C8C8C")
KINDS += ("#222222",)
MARKERS = ("o", "s", "D", "^", "v")
BEFORE, AFTER = METHODS[0], METHODS[2]
STYLE = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "legend.fontsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    "savefig.dpi": 110,
    "figure.dpi": 100,
}
# for the figures of this module, which fit their margins to the letters: larger, for the projector
_LARGE = {"font.size": 13, "axes.titlesize": 14, "axes.labelsize": 13, "legend.fontsize": 12}
_LARGE |= {f"figure.constrained_layout.{side}_pad": pad for side, pad in (("h", 0.08), ("w", 0.1))}
# fonts with the letters of Chinese, Japanese and Korean names
_WIDE = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),  # macOS
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei"),  # Windows
)


@cache
def fonts() -> list[str]:
    """The fonts of a figure: the usual one, then those there are for letters that it lacks."""
    from matplotlib import font_manager

    there = {f.name for f in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(f for f in _WIDE if f in there)]


def styled(plot: Callable) -> Callable:
    """Draw in the style of this module, whatever the global one is."""

    @wraps(plot)
    def drawn(*args, **kwargs):
        import matplotlib
        import matplotlib.style

        with matplotlib.style.context(["default", STYLE, _LARGE, {"font.family": fonts()}]):
            axes = plot(*args, **kwargs)
            shown = matplotlib.is_interactive()
        # Jupyter turns it on with the first figure; leaving the style must not turn it off
        matplotlib.interactive(shown)
        return axes

    return drawn


def new_axes(width: float, height: float, rows: int = 1, columns: int = 1, **how) -> np.ndarray:
    """The axes of a new figure of this size in inches: an array of them, row by row."""
    import matplotlib.pyplot as plt

    how |= {"figsize": (width, height), "layout": "constrained", "squeeze": False}
    return plt.subplots(rows, columns, **how)[1].ravel()


def new_ax(width: float, height: float):
    """The axes of a new figure of one panel."""
    return new_axes(width, height)[0]


def method_colours(methods) -> list[str]:
    """A colour for each method: a step of a run has its own, the others take what is left."""
    methods = list(methods)
    taken = {_STEP_COLOURS.get(m) for m in methods}
    left = itertools.cycle([c for c in METHODS if c not in taken] or METHODS)
    return [_STEP_COLOURS.get(m) or next(left) for m in methods]


def measured(measure: str) -> str:
    """The label of an axis of a measure on the test set."""
    if measure == "ece":
        return "test ECE, %"
    return "test accuracy, %" if measure == "all" else f"test accuracy, {label(measure)}, %"


def empties(groups) -> str:
    """`` (many: empty)`` for a title, of the names of groups without classes."""
    return f"  ({', '.join(groups)}: empty)" if len(groups) else ""


def legend_below(ax, points: float = 46, **how) -> None:
    """The legend under the axis and its labels, ``points`` below, where it can hide nothing."""
    from matplotlib.transforms import ScaledTranslation

    under = ax.transAxes + ScaledTranslation(0, -points / 72, figure_of(ax).dpi_scale_trans)
    place = dict(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=under)
    ax.legend(**place, columnspacing=1.4, borderaxespad=0, **how)


def plain_log(axis, low: float, high: float) -> None:
    """Whole numbers instead of powers of ten on a logarithmic axis, one or three to a decade."""
    from matplotlib.ticker import NullFormatter

    steps = (1, 2, 5) if high / low < 3000 else (1,)
    ticks = [t for t in (s * 10**k for k in range(8) for s in steps) if low <= t <= high]
    axis.set_ticks(ticks, [f"{t:,}" for t in ticks])
    axis.set_minor_formatter(NullFormatter())


def band(ax, by, colour: str, **look):
    """Draw the mean of grouped values as a curve, one standard deviation as a band around it.

    Arguments: ``by`` a Series, grouped by x. Returns: the means.
    """
    mean, std = by.mean(), by.std().fillna(0)
    ax.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.2, lw=0)
    ax.plot(mean, color=colour, lw=2.6, **look)
    return mean


def name_ends(ax, ends) -> None:
    """Name curves at their right ends, kept apart. Arguments: ``ends`` (y, x, name, colour)."""
    low, high = ax.get_ylim()
    placed = -np.inf
    how = dict(xytext=(8, 0), textcoords="offset points", va="center", weight="bold")
    for y, x, name, colour in sorted(ends):
        placed = max(y, placed + 0.06 * (high - low))
        ax.annotate(name, (x, placed), color=colour, annotation_clip=False, **how)


def short(name: str, letters: int = 14) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def figure_of(axes):
    """The figure that an Axes, or an array of them, belongs to."""
    return np.ravel(axes)[0].figure


def title(axes, text: str) -> None:
    """Name what a figure is about, above its panels; nothing for an empty text."""
    if text:
        figure_of(axes).suptitle(text, x=0.01, ha="left", fontsize=14, weight="bold")


def save(axes, path: str | Path) -> list[Path]:
    """Save a figure as PNG and PDF, or as what ``$H2T_FIGURES`` lists.

    Arguments: ``path`` without ending. Returns: the files.
    """
    import matplotlib

    path, figure = Path(path), figure_of(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        fixed = {"figure.autolayout": False, "figure.constrained_layout.use": False}
        with matplotlib.rc_context(fixed):
            # fitting the margins costs as much as drawing: once is enough for every format
            figure.set_layout_engine(None)
    kinds = [k for k in os.environ.get("H2T_FIGURES", "png,pdf").split(",") if k]
    files = [path.with_name(f"{path.name}.{kind}") for kind in kinds]
    for file, kind in zip(files, kinds, strict=True):
        write_atomic(file, lambda f, kind=kind: figure.savefig(f, format=kind, dpi=150))
    return files
