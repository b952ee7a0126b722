"""The figure of notebook 00: two classes in the plane, and the two forces on the boundary between them.

One figure that is redrawn in place, outside pyplot, so that a slider can drive it without flicker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from torch import Tensor

from h2t.base import rng
from h2t.base.errors import Error
from h2t.lab.toy.classes import MEASURES, forces, fused_draws, position, regions, train
from h2t.plots.canvas import Canvas
from h2t.train.device import threads

if TYPE_CHECKING:
    import ipywidgets as widgets

HEAD, TAIL, INK = (
    "#0072B2",
    "#D55E00",
    "#222222",
)  # Okabe and Ito's blue and vermilion: apart for colour-blind readers
COLOURS = {"head": HEAD, "tail": TAIL, "balanced": INK}
REACH, ARROW = 5.0, 10.0  # half the width of the plane; length of an arrow of force 1


def plane_figure(
    points: Tensor,
    labels: Tensor,
    test_points: Tensor,
    test_labels: Tensor,
    weight_decay: float,
    seed: int = 0,
) -> Callable[[float], tuple[bytes, pd.DataFrame]]:
    """Two classes in the plane, three boundaries and the forces on them, in one figure that is redrawn in place.

    Arguments: training and test points (N, 2) with labels; ``seed`` of the draws.
    Returns: ``redraw(fusion_ratio)``, which trains, moves what has to move, and returns the figure as the bytes of a
    PNG file and the table of ``regions`` for stage 1, DR (no fusion) and the classifier at this ratio.
    Raises: ``h2t.Error`` where the points are not in two dimensions.
    """
    if points.shape[1] != 2:
        raise Error(f"plane_figure draws points in 2 dimensions; these have {points.shape[1]}")

    def draws(p: float) -> tuple[Tensor, Tensor]:
        return fused_draws(points, labels, p, rng.torch_generator(seed, "toy/draws"))

    stage1, dr = train(points, labels, weight_decay), train(*draws(0.0), weight_decay)
    slide = torch.linspace(-3, 3, 121, dtype=torch.float64)
    canvas = Canvas(11, 6.2, 1, 2, style={})
    plane, balance = canvas.axes
    canvas.figure.subplots_adjust(left=0.06, right=0.985, top=0.8, bottom=0.1, wspace=0.17)
    moving = _plane(plane, points, labels, stage1, dr)
    curves = _balance(balance)
    title = [
        canvas.figure.text(x, 0.985, "", va="top", fontsize=size)
        for x, size in ((0.045, 18), (0.54, 13))
    ]
    inside = [a for ax in canvas.axes for a in (*ax.patches, *ax.lines, *ax.spines.values())]
    for artist in [*sorted(inside, key=lambda artist: artist.get_zorder()), *title]:
        canvas.move(artist)

    @threads()
    def redraw(fusion_ratio: float) -> tuple[bytes, pd.DataFrame]:
        x, y = draws(fusion_ratio)
        now = train(x, y, weight_decay)
        grafted = x[y == 1][:: max(1, int(y.sum()) // 250)].numpy()
        moving["fused"].set_data(grafted[:, 0], grafted[:, 1])
        moving["now"].set_data(*_line(*now).numpy().T)
        moving["region"].set_xy(_half_plane(*now).numpy())
        measured = {}
        for name, classifier, along in (("at DR", dr, -2.4), ("now", now, 2.4)):
            pull, push = measured[name] = forces(*classifier, x, y)
            _arrow(moving[f"pull {name}"], classifier, along, -pull)
            _arrow(moving[f"push {name}"], classifier, along, push)
        for name, force in zip(
            ("pull", "push"), forces(now[0], -slide * now[0].norm(), x, y), strict=True
        ):
            curves[name].set_data(slide.numpy(), force.numpy())
        for name, classifier in (("DR", dr), ("now", now)):
            curves[name].set_xdata([position(*classifier)] * 2)
        curves["cross"].set_data([position(*now)], [float(measured["now"][0])])
        title[0].set_text(f"fusion ratio p = {fusion_ratio:.2f}")
        title[1].set_text(
            "on the dashed line (DR): pull {:.2f}, push {:.2f}\non the solid line (H2T): pull {:.2f}, push {:.2f}".format(
                *measured["at DR"], *measured["now"]
            )
        )
        rows = {"stage 1": stage1, "DR (p = 0)": dr, f"H2T (p = {fusion_ratio:.2f})": now}
        return canvas.paint(), pd.DataFrame(
            {name: regions(*c, test_points, test_labels) for name, c in rows.items()}
        ).T

    return redraw


def slider(
    redraw: Callable[[float], tuple[bytes, pd.DataFrame]], fusion_ratio: float
) -> widgets.VBox:
    """A slider for the fusion ratio above the numbers and the picture that follow it.

    The browser holds back what is dragged past while the kernel draws and then sends the newest value alone, so that
    there is no backlog.

    Arguments: ``redraw`` of ``plane_figure``; ``fusion_ratio`` to start from.
    Returns: a box of the slider, the table as HTML, and the picture.
    """
    import ipywidgets as widgets

    wide = widgets.Layout(width="1100px", max_width="100%")
    control = widgets.FloatSlider(
        fusion_ratio,
        min=0,
        max=1,
        step=0.01,
        description="fusion ratio p",
        layout=wide,
        style={"description_width": "initial"},
    )
    numbers, picture = widgets.HTML(), widgets.Image(format="png", layout=wide)

    def follow(change: dict) -> None:
        picture.value, table = redraw(change["new"])
        numbers.value = as_html(table)

    follow({"new": control.value})
    control.observe(follow, "value")
    return widgets.VBox([control, numbers, picture])


def show(box: widgets.VBox) -> None:
    """Show ``slider``'s box, and its picture where there is no kernel to drag with: on paper, under papermill."""
    from h2t.lab.books.live import show_box

    show_box(
        box,
        box.children[-1].value,
        "a slider for the fusion ratio; run the notebook in JupyterLab to drag it",
    )


def as_html(table: pd.DataFrame) -> str:
    """The table of ``regions`` with columns that keep their width while the numbers change."""
    cell = "<t{0} style='padding:2px 12px; text-align:right; white-space:nowrap; font-size:14px'>{1}</t{0}>".format
    rows = [cell("h", "") + "".join(cell("h", MEASURES[c]) for c in table)]
    rows += [
        cell("h", name) + "".join(cell("d", f"{v:.1f}") for v in row)
        for name, row in table.iterrows()
    ]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def plot_curve(
    ax: Axes,
    table: pd.DataFrame,
    y: str,
    by: pd.Series,
    label: str,
    *,
    level: float | None = None,
    palette="colorblind",
) -> Axes:
    """A measure against the fusion ratio: the mean over data sets as a line, their standard deviation as a band.

    Arguments: ``table`` of ``ratio_curve``; ``y`` its column to draw; ``by`` the name of each row's line; ``label`` of
    the vertical axis, with its unit; ``level`` draws a dashed line to compare with.
    """
    import seaborn as sns

    style = dict(
        errorbar="sd", linewidth=2.5, markers=True, markersize=9, dashes=False, palette=palette
    )
    sns.lineplot(table, x="fusion_ratio", y=y, hue=by, style=by, ax=ax, **style)
    if level is not None:
        ax.axhline(level, color=INK, linestyle="--")
    ax.set_xlabel("fusion ratio p", fontsize=14)
    ax.set_ylabel(label, fontsize=14)
    ax.tick_params(labelsize=12)
    ax.grid(alpha=0.4)
    ax.legend(title="", fontsize=12)
    return ax


def _line(weight: Tensor, bias: Tensor, reach: float = 20.0) -> Tensor:
    """Two points (2, 2) of the boundary of a classifier in the plane, far outside the figure on either side."""
    normal = weight / weight.norm()
    along = torch.stack([-normal[1], normal[0]])
    return -bias / weight.norm() * normal + along * torch.tensor(
        [[-reach], [reach]], dtype=weight.dtype
    )


def _half_plane(weight: Tensor, bias: Tensor, reach: float = 40.0) -> Tensor:
    """Corners (4, 2) of the tail's side of the plane."""
    line = _line(weight, bias, reach)
    return torch.cat([line, (line + reach * weight / weight.norm()).flip(0)])


def _arrow(arrow: Polygon, classifier: tuple[Tensor, Tensor], along: float, force: Tensor) -> None:
    """Put an arrow on a boundary, ``along`` it from its middle; a positive ``force`` points to the tail's side."""
    weight, bias = classifier
    normal = weight / weight.norm()
    side = torch.stack([-normal[1], normal[0]])
    length = ARROW * force.abs()
    head = length.clamp(max=0.5)  # a weak force is a small arrow, not a full head without a shaft
    outline = torch.tensor(
        [(0, 0.12), (1, 0.12), (1, 0.36), (2, 0), (1, -0.36), (1, -0.12), (0, -0.12)],
        dtype=weight.dtype,
    )
    forward = (
        torch.tensor([0, length - head, length])[outline[:, 0].long()].to(weight.dtype)
        * force.sign()
    )
    start = -bias / weight.norm() * normal + along * side
    arrow.set_linewidth(
        1.6 * float(head)
    )  # of the white edge, which would otherwise outweigh a weak force
    arrow.set_xy(
        (start + forward[:, None] * normal + (outline[:, 1] * head / 0.5)[:, None] * side).numpy()
    )


def _plane(ax: Axes, points: Tensor, labels: Tensor, stage1, dr) -> dict:
    """Draw what stays in the plane. Returns: the artists that move, by name."""
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", facecolor="#E3EFF7")
    ax.set_xlabel("coordinate 1", fontsize=13)
    ax.set_ylabel("coordinate 2", fontsize=13)
    region = ax.add_patch(Polygon([(0, 0)], color="#FBE6D5", zorder=0))
    for label, marker, colour, size, name in (
        (0, "o", HEAD, 3.5, "head"),
        (1, "^", TAIL, 12, "tail"),
    ):
        chosen = points[labels == label]
        style = dict(
            color=colour,
            markersize=size,
            markeredgecolor="white" if label else colour,
            alpha=1 if label else 0.45,
        )
        ax.plot(*chosen.T, marker, zorder=3 + label, label=f"{name}, {len(chosen)} points", **style)
    (fused,) = ax.plot(
        [],
        [],
        "D",
        color="none",
        markeredgecolor=TAIL,
        markersize=5,
        alpha=0.6,
        zorder=2,
        label="fused tail draws",
    )
    ax.plot(*_line(*stage1).T, ":", color=INK, lw=2, label="stage 1")
    ax.plot(*_line(*dr).T, "--", color=INK, lw=2, label="DR, p = 0")
    (now,) = ax.plot([], [], "-", color=INK, lw=3.5, label="H2T, this p")
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=3,
        frameon=False,
        fontsize=11.5,
        columnspacing=1.2,
        handletextpad=0.4,
    )
    moving = {"region": region, "fused": fused, "now": now}
    for name in ("pull at DR", "push at DR", "pull now", "push now"):
        colour = TAIL if name.startswith("pull") else HEAD
        moving[name] = ax.add_patch(
            Polygon([(0, 0)], facecolor=colour, edgecolor="white", zorder=6)
        )
    return moving


def _balance(ax: Axes) -> dict[str, Line2D]:
    """Axes for the forces against the position of the boundary. Returns: the lines that move, by name."""
    ax.set(xlim=(-3, 3), ylim=(0, 0.5))
    ax.set_xlabel("the solid line slid:  − towards head,  + towards tail", fontsize=13)
    ax.set_ylabel("force: mean probability of the wrong class", fontsize=13)
    lines = {
        "pull": ax.plot([], [], color=TAIL, lw=3, label="tail's pull")[0],
        "push": ax.plot([], [], color=HEAD, lw=3, ls="-.", label="head's push")[0],
        "DR": ax.axvline(0, color=INK, ls="--", lw=2),
        "now": ax.axvline(0, color=INK, lw=3.5),
        "cross": ax.plot(
            [], [], "o", color="white", markeredgecolor=INK, markersize=11, markeredgewidth=2.5
        )[0],
    }
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, frameon=False, fontsize=11.5)
    return lines
