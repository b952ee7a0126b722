"""The figure of notebook 00: two classes in the plane, and the two forces on their boundary.

One figure that is redrawn in place, outside pyplot, so that a slider drives it without flicker.
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

from h2t.base import rng, tables
from h2t.base.errors import Error
from h2t.lab.books.live import show_box
from h2t.lab.toy.classes import OWNED, forces, fused_draws, position, regions, train
from h2t.plots.canvas import Canvas
from h2t.plots.style import COLOURS
from h2t.train.device import threads

if TYPE_CHECKING:
    import ipywidgets as widgets

    Redraw = Callable[[float], tuple[bytes, pd.DataFrame]]
    Classifier = tuple[Tensor, Tensor]

HEAD, TAIL, INK = (COLOURS[group] for group in ("many", "few", "all"))
REACH, ARROW = 5.0, 10.0  # half the width of the plane; length of an arrow of force 1
SLIDE = torch.linspace(-3, 3, 121, dtype=torch.float64)  # where the solid line is slid to
OUTLINE = [(0, 0.12), (1, 0.12), (1, 0.36), (2, 0), (1, -0.36), (1, -0.12), (0, -0.12)]
FORCES = (
    "on the dashed line (DR): pull {:.2f}, push {:.2f}\n"
    "on the solid line (H2T): pull {:.2f}, push {:.2f}"
)


def plane_figure(
    points: Tensor,
    labels: Tensor,
    test_points: Tensor,
    test_labels: Tensor,
    weight_decay: float,
    seed: int = 0,
) -> Redraw:
    """Two classes in the plane, three boundaries and the forces on them, redrawn in place.

    Arguments: training and test points (N, 2) with labels; ``seed`` of the draws.
    Returns: ``redraw(fusion_ratio)``, which trains, moves what has to move, and returns the figure
    as the bytes of a PNG file and the table of ``regions`` for stage 1, DR and this ratio.
    Raises: ``h2t.Error`` where the points are not in two dimensions.
    """
    if points.shape[1] != 2:
        raise Error(f"plane_figure draws points in 2 dimensions; these have {points.shape[1]}")

    def draws(p: float) -> tuple[Tensor, Tensor]:
        return fused_draws(points, labels, p, rng.torch_generator(seed, "toy/draws"))

    stage1, dr = train(points, labels, weight_decay), train(*draws(0.0), weight_decay)
    canvas = Canvas(11, 6.2, 1, 2, style={})
    canvas.figure.subplots_adjust(left=0.06, right=0.985, top=0.8, bottom=0.1, wspace=0.17)
    moving = _plane(canvas.axes[0], points, labels, stage1, dr) | _balance(canvas.axes[1])
    inside = [a for ax in canvas.axes for a in (*ax.patches, *ax.lines, *ax.spines.values())]
    heading, below = (
        canvas.figure.text(x, 0.985, "", va="top", fontsize=size)
        for x, size in ((0.045, 18), (0.54, 13))
    )
    for artist in [*sorted(inside, key=lambda artist: artist.get_zorder()), heading, below]:
        canvas.move(artist)

    @threads()
    def redraw(fusion_ratio: float) -> tuple[bytes, pd.DataFrame]:
        x, y = draws(fusion_ratio)
        now = train(x, y, weight_decay)
        measured = _move(moving, x, y, dr, now)
        heading.set_text(f"fusion ratio p = {fusion_ratio:.2f}")
        below.set_text(FORCES.format(*measured))
        rows = {"stage 1": stage1, "DR (p = 0)": dr, f"H2T (p = {fusion_ratio:.2f})": now}
        found = {name: regions(*c, test_points, test_labels) for name, c in rows.items()}
        return canvas.paint(), pd.DataFrame(found).T

    return redraw


def slider(redraw: Redraw, fusion_ratio: float) -> widgets.VBox:
    """A slider for the fusion ratio above the numbers and the picture that follow it.

    The browser holds back what is dragged past while the kernel draws and then sends the newest
    value alone, so that there is no backlog. Arguments: ``redraw`` of ``plane_figure``;
    ``fusion_ratio`` to start from. Returns: a box of the slider, the table, and the picture.
    """
    import ipywidgets as widgets

    wide = widgets.Layout(width="1100px", max_width="100%")
    how = {"layout": wide, "style": {"description_width": "initial"}}
    control = widgets.FloatSlider(
        fusion_ratio, min=0, max=1, step=0.01, description="fusion ratio p", **how
    )
    numbers, picture = widgets.HTML(), widgets.Image(format="png", layout=wide)

    def follow(change: dict) -> None:
        picture.value, table = redraw(change["new"])
        numbers.value = as_html(table)

    follow({"new": control.value})
    control.observe(follow, "value")
    return widgets.VBox([control, numbers, picture])


def show(box: widgets.VBox) -> None:
    """Show ``slider``'s box, and its picture where there is no kernel: on paper, by papermill."""
    how = "run the notebook in JupyterLab to drag it"
    show_box(box, box.children[-1].value, f"a slider for the fusion ratio; {how}")


def as_html(table: pd.DataFrame) -> str:
    """The table of ``regions``."""
    rows = ([name, *(f"{v:.1f}" for v in row)] for name, row in table.iterrows())
    return tables.markup(["", *(OWNED[c] for c in table)], rows)


def _line(weight: Tensor, bias: Tensor, reach: float = 20.0) -> Tensor:
    """Two points (2, 2) of a boundary in the plane, far outside the figure on either side."""
    normal = weight / weight.norm()
    along = torch.stack([-normal[1], normal[0]])
    ends = torch.tensor([[-reach], [reach]], dtype=weight.dtype)
    return -bias / weight.norm() * normal + along * ends


def _half_plane(weight: Tensor, bias: Tensor, reach: float = 40.0) -> Tensor:
    """Corners (4, 2) of the tail's side of the plane."""
    line = _line(weight, bias, reach)
    return torch.cat([line, (line + reach * weight / weight.norm()).flip(0)])


def _arrow(arrow: Polygon, classifier: Classifier, along: float, force: Tensor) -> None:
    """Put an arrow on a boundary, ``along`` it from its middle; above 0 it points to the tail."""
    weight, bias = classifier
    normal = weight / weight.norm()
    side = torch.stack([-normal[1], normal[0]])
    length = ARROW * force.abs()
    head = length.clamp(max=0.5)  # a weak force is a small arrow, not a head without a shaft
    outline = torch.tensor(OUTLINE, dtype=weight.dtype)
    way = torch.tensor([0, length - head, length])[outline[:, 0].long()].to(weight.dtype)
    start = -bias / weight.norm() * normal + along * side
    # the white edge would outweigh a weak force
    arrow.set_linewidth(1.6 * float(head))
    across = (outline[:, 1] * head / 0.5)[:, None] * side
    arrow.set_xy((start + (way * force.sign())[:, None] * normal + across).numpy())


def _move(moving: dict, x: Tensor, y: Tensor, dr: Classifier, now: Classifier) -> list[Tensor]:
    """Bring what moves to draws ``x``, ``y``. Returns: pull and push at DR, then at ``now``."""
    grafted = x[y == 1][:: max(1, int(y.sum()) // 250)].numpy()
    moving["fused"].set_data(*grafted.T)
    moving["now"].set_data(*_line(*now).numpy().T)
    moving["region"].set_xy(_half_plane(*now).numpy())
    measured = []
    for name, classifier, along in (("at DR", dr, -2.4), ("now", now, 2.4)):
        pull, push = forces(*classifier, x, y)
        _arrow(moving[f"pull {name}"], classifier, along, -pull)
        _arrow(moving[f"push {name}"], classifier, along, push)
        moving[f"position {name}"].set_xdata([position(*classifier)] * 2)
        measured += [pull, push]
    slid = forces(now[0], -SLIDE * now[0].norm(), x, y)
    for name, force in zip(("pull", "push"), slid, strict=True):
        moving[name].set_data(SLIDE.numpy(), force.numpy())
    moving["cross"].set_data([position(*now)], [float(measured[2])])
    return measured


def _plane(ax: Axes, points: Tensor, labels: Tensor, stage1, dr) -> dict:
    """Draw what stays in the plane. Returns: the artists that move, by name."""
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", facecolor="#E3EFF7")
    ax.set_xlabel("coordinate 1", fontsize=13)
    ax.set_ylabel("coordinate 2", fontsize=13)
    region = ax.add_patch(Polygon([(0, 0)], color="#FBE6D5", zorder=0))
    looks = {
        "head": {"marker": "o", "color": HEAD, "markersize": 3.5, "alpha": 0.45},
        "tail": {"marker": "^", "color": TAIL, "markersize": 12, "markeredgecolor": "white"},
    }
    for label, (name, look) in enumerate(looks.items()):
        chosen = points[labels == label]
        named = f"{name}, {len(chosen)} points"
        ax.plot(*chosen.T, ls="", zorder=3 + label, label=named, **look)
    hollow = {"color": "none", "markeredgecolor": TAIL, "markersize": 5, "alpha": 0.6}
    (fused,) = ax.plot([], [], "D", zorder=2, label="fused tail draws", **hollow)
    ax.plot(*_line(*stage1).T, ":", color=INK, lw=2, label="stage 1")
    ax.plot(*_line(*dr).T, "--", color=INK, lw=2, label="DR, p = 0")
    (now,) = ax.plot([], [], "-", color=INK, lw=3.5, label="H2T, this p")
    _legend(ax, 3, columnspacing=1.2, handletextpad=0.4)
    moving = {"region": region, "fused": fused, "now": now}
    for name in ("pull at DR", "push at DR", "pull now", "push now"):
        colour = TAIL if name.startswith("pull") else HEAD
        arrow = Polygon([(0, 0)], facecolor=colour, edgecolor="white", zorder=6)
        moving[name] = ax.add_patch(arrow)
    return moving


def _balance(ax: Axes) -> dict[str, Line2D]:
    """Axes for the forces where the boundary is slid. Returns: the lines that move, by name."""
    ax.set(xlim=(-3, 3), ylim=(0, 0.5))
    ax.set_xlabel("the solid line slid:  − towards head,  + towards tail", fontsize=13)
    ax.set_ylabel("force: mean probability of the wrong class", fontsize=13)
    ring = {"color": "white", "markeredgecolor": INK, "markersize": 11, "markeredgewidth": 2.5}
    lines = {
        "pull": ax.plot([], [], color=TAIL, lw=3, label="tail's pull")[0],
        "push": ax.plot([], [], color=HEAD, lw=3, ls="-.", label="head's push")[0],
        "position at DR": ax.axvline(0, color=INK, ls="--", lw=2),
        "position now": ax.axvline(0, color=INK, lw=3.5),
        "cross": ax.plot([], [], "o", **ring)[0],
    }
    _legend(ax, 2)
    return lines


def _legend(ax: Axes, columns: int, **how) -> None:
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0)}
    ax.legend(ncols=columns, frameon=False, fontsize=11.5, **place, **how)
