"""What every figure shares: colours, style, axes, legends, saving. Changes no global setting."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import write_atomic
from h2t.recipes.names import STEPS, place  # noqa: F401

COLOURS = {"many": "#0072B2", "medium": "#E69F00", "few": "#D55E00", "all": "#333333"}
TEXT = {
    **COLOURS,
    "medium": "#8F6300",
    "few": "#B34F00",
}  # the same hues, dark enough to be read as letters on white
METHODS = ("#8C8C8C", "#56B4E9", "#009E73", "#CC79A7", "#5D3A9B")
# the steps of a run: their names in figures, and one colour each everywhere
KINDS = (
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#5D3A9B",
    "#E69F00",
    "#56B4E9",
    "#8C8C8C",
    "#222222",
)  # of methods, where there are many
_STEP_COLOURS = {
    "stage 1": METHODS[0],
    "DR": METHODS[1],
    "DR + H2T": METHODS[2],
    "DR, BN sees both": METHODS[3],
    "DR + H2T, BN sees balanced": METHODS[4],
}
MARKERS = ("o", "s", "D", "^", "v")
BEFORE, AFTER, FUSED = "#8C8C8C", "#009E73", "#222222"
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
_LARGE = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.labelsize": 13,
    "legend.fontsize": 12,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.1,
}


def styled(plot: Callable) -> Callable:
    """Draw in the style of this module, whatever the global one is."""

    @wraps(plot)
    def drawn(*args, **kwargs):
        import matplotlib
        import matplotlib.style

        with matplotlib.style.context(["default", STYLE, _LARGE]):
            axes = plot(*args, **kwargs)
            shown = matplotlib.is_interactive()
        matplotlib.interactive(
            shown
        )  # Jupyter turns it on with the first figure; leaving the style must not turn it off
        return axes

    return drawn


def new_axes(ax, rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 4.2), **how):
    if ax is None:
        import matplotlib.pyplot as plt

        return plt.subplots(rows, columns, figsize=size, layout="constrained", **how)[1]
    if np.size(ax) != rows * columns:
        raise Error(f"this figure has {rows * columns} panels, but {np.size(ax)} axes were given")
    return ax


def method_colours(methods) -> list[str]:
    """A colour for each method: a step of a run has its own, the others take what is left."""
    methods = list(methods)
    left = [c for c in METHODS if c not in {_STEP_COLOURS.get(m) for m in methods}] or list(METHODS)
    others = [m for m in methods if m not in _STEP_COLOURS]
    return [
        _STEP_COLOURS[m] if m in _STEP_COLOURS else left[others.index(m) % len(left)]
        for m in methods
    ]


def empties(groups: dict) -> str:
    """`` (many: empty)`` for a title, where a group has no classes."""
    names = [g for g, classes in groups.items() if not len(classes)]
    return f"  ({', '.join(names)}: empty)" if names else ""


def legend_below(ax, points: float = 46, **how) -> None:
    """The legend under the axis and its labels, ``points`` below, where it can hide nothing."""
    from matplotlib.transforms import ScaledTranslation

    under = ax.transAxes + ScaledTranslation(0, -points / 72, figure_of(ax).dpi_scale_trans)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=under,
        columnspacing=1.4,
        borderaxespad=0,
        **how,
    )


def plain_log(axis, low: float, high: float) -> None:
    """Whole numbers instead of powers of ten on a logarithmic axis, about one or three to a decade."""
    from matplotlib.ticker import NullFormatter

    steps = (1, 2, 5) if high / low < 3000 else (1,)
    ticks = [t for t in (s * 10**k for k in range(8) for s in steps) if low <= t <= high]
    axis.set_ticks(ticks, [f"{t:,}" for t in ticks])
    axis.set_minor_formatter(NullFormatter())


def short(name: str, letters: int = 14) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def figure_of(axes):
    """The figure that an Axes, or an array of them, belongs to."""
    return (axes if hasattr(axes, "figure") else np.ravel(axes)[0]).figure


def title(axes, text: str) -> None:
    """Name what a figure is about, above its panels; nothing for an empty text."""
    if text:
        figure_of(axes).suptitle(text, x=0.01, ha="left", fontsize=14, weight="bold")


def save(axes, path: str | Path) -> list[Path]:
    """Save a figure as PNG and PDF, or as what ``$H2T_FIGURES`` lists. Arguments: ``axes`` as a plot returns them; ``path``
    without ending."""
    import matplotlib

    path, figure = Path(path), figure_of(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        with matplotlib.rc_context(
            {"figure.autolayout": False, "figure.constrained_layout.use": False}
        ):
            figure.set_layout_engine(
                None
            )  # fitting the margins costs as much as drawing: once is enough for every format
    files = [
        path.with_name(f"{path.name}.{kind}")
        for kind in os.environ.get("H2T_FIGURES", "png,pdf").split(",")
        if kind
    ]
    for file in files:
        write_atomic(file, lambda f, kind=file.suffix[1:]: figure.savefig(f, format=kind, dpi=150))
    return files
