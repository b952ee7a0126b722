"""The toy on paper: two classes in the plane, and the two forces on their boundary."""

from __future__ import annotations

import io

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from h2t.base import rng
from h2t.lab.toy.classes import OWNED, forces, fused_draws, position, regions, train
from h2t.plots.style import COLOURS

HEAD, TAIL, INK = (COLOURS[group] for group in ("many", "few", "all"))
REACH, ARROW = 5.0, 10.0  # half the width of the plane; length of an arrow of force 1
SLIDE = torch.linspace(-3, 3, 121, dtype=torch.float64)  # where the solid line is slid to
Classifier = tuple[Tensor, Tensor]


def plane_figure(
    train_set: tuple[Tensor, Tensor],
    test_set: tuple[Tensor, Tensor],
    fusion_ratio: float,
    weight_decay: float,
    seed: int = 0,
) -> tuple[bytes, pd.DataFrame]:
    """Two classes in the plane, three boundaries and the forces on them.

    Arguments: points (N, 2) with labels; ``seed`` of the draws. Returns: the figure as PNG, and the
    table of ``regions`` for stage 1, DR and this ratio.
    """

    def draws(p: float) -> tuple[Tensor, Tensor]:
        return fused_draws(*train_set, p, rng.torch_generator(seed, "toy/draws"))

    plain, x = draws(0.0), draws(fusion_ratio)
    kinds = {
        "stage 1": train(*train_set, weight_decay),
        "DR (p = 0)": train(*plain, weight_decay),
        f"H2T (p = {fusion_ratio:.2f})": train(*x, weight_decay),
    }
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plane(left, *train_set, x, kinds)
    _balance(right, x, list(kinds.values())[1:])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    found = {name: regions(*c, *test_set) for name, c in kinds.items()}
    return buffer.getvalue(), pd.DataFrame(found).T.rename(columns=OWNED).round(1)


def _plane(ax: Axes, points: Tensor, labels: Tensor, draws, kinds: dict[str, Classifier]) -> None:
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", facecolor="#E3EFF7")
    ax.set(xlabel="coordinate 1", ylabel="coordinate 2")
    grafted = draws[0][draws[1] == 1]
    hollow = {"color": "none", "markeredgecolor": TAIL, "markersize": 5, "alpha": 0.6}
    ax.plot(*grafted[:: max(1, len(grafted) // 250)].T, "D", label="fused tail draws", **hollow)
    looks = {
        "head": {"marker": "o", "color": HEAD, "markersize": 3.5, "alpha": 0.45},
        "tail": {"marker": "^", "color": TAIL, "markersize": 12, "markeredgecolor": "white"},
    }
    for label, (name, look) in enumerate(looks.items()):
        chosen = points[labels == label]
        ax.plot(*chosen.T, ls="", label=f"{name}, {len(chosen)} points", **look)
    stage1, dr, now = kinds.values()
    ax.fill(*half_plane(*now).T, color="#FBE6D5", zorder=0)
    for (name, c), style in zip(kinds.items(), (":", "--", "-"), strict=True):
        ax.plot(*half_plane(*c)[:2].T, style, color=INK, lw=3.5 if c is now else 2, label=name)
    _arrows(ax, dr, -2.4, draws)
    _arrows(ax, now, 2.4, draws)
    _legend(ax, 3)


def _arrows(ax: Axes, classifier: Classifier, along: float, draws) -> None:
    """The forces on a boundary, ``along`` it from its middle."""
    normal = classifier[0] / classifier[0].norm()
    side = torch.stack([-normal[1], normal[0]])
    start = position(*classifier) * normal + along * side
    pull, push = forces(*classifier, *draws)
    how = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012, "zorder": 6}
    for force, colour in ((-pull, TAIL), (push, HEAD)):
        reach = ARROW * force * normal
        ax.quiver(*start, *reach, color=colour, edgecolor="white", linewidth=0.8, **how)


def half_plane(weight: Tensor, bias: Tensor, reach: float = 40.0) -> Tensor:
    """Corners (4, 2) of the tail's side of the plane; the first two lie on the boundary."""
    normal = weight / weight.norm()
    along = torch.stack([-normal[1], normal[0]])
    line = position(weight, bias) * normal + torch.stack([-reach * along, reach * along])
    return torch.cat([line, (line + reach * normal).flip(0)])


def _balance(ax: Axes, draws, kinds: list[Classifier]) -> None:
    """The forces where the last boundary is slid."""
    dr, (weight, bias) = kinds
    pull, push = forces(weight, -SLIDE * weight.norm(), *draws)
    ax.plot(SLIDE, pull, color=TAIL, lw=3, label="tail's pull")
    ax.plot(SLIDE, push, color=HEAD, lw=3, ls="-.", label="head's push")
    ax.axvline(position(*dr), color=INK, ls="--", lw=2)
    ax.axvline(position(weight, bias), color=INK, lw=3.5)
    ring = {"color": "white", "markeredgecolor": INK, "markersize": 11, "markeredgewidth": 2.5}
    ax.plot(position(weight, bias), forces(weight, bias, *draws)[0], "o", **ring)
    ax.set(xlim=(-3, 3), ylim=(0, 0.5), ylabel="force: mean probability of the wrong class")
    ax.set_xlabel("the solid line slid:  − towards head,  + towards tail")
    _legend(ax, 2)


def _legend(ax: Axes, columns: int) -> None:
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "columnspacing": 1.2}
    ax.legend(ncols=columns, frameon=False, handletextpad=0.4, **place)
