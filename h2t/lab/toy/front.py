"""The toy in the browser, in a notebook or as a page: all that it needs travels with it."""

from __future__ import annotations

import torch
from torch import Tensor

from h2t.base import rng
from h2t.base.errors import Error
from h2t.lab import front
from h2t.lab.payload import pack
from h2t.lab.toy.classes import fused_draws, two_classes


def frame(
    train_set: tuple[Tensor, Tensor],
    test_set: tuple[Tensor, Tensor],
    fusion_ratio: float,
    weight_decay: float,
    seed: int = 0,
) -> bytes:
    """What the toy starts from: the points, a neutral test set, and which points are drawn.

    Arguments: points (N, 2) with labels, the head's first; ``seed`` of the draws.
    """
    points, labels = train_set
    if points.shape[1] != 2:
        raise Error(f"the toy draws points in 2 dimensions; these have {points.shape[1]}")
    fused_draws(*train_set, fusion_ratio, torch.Generator(), batches=1)  # refuses a bad ratio
    own, partner, first = draws(labels, seed)
    return pack(
        "toy",
        {"p": round(100 * fusion_ratio), "weight_decay": weight_decay},
        points=points,
        labels=labels.long(),
        test=test_set[0],
        own=own,
        partner=partner,
        first=first,
    )


def draws(labels: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The point (n,) and the partner (n,) of every draw, and which coordinate each batch (64,)
    grafts first: what ``fused_draws`` does to points that are numbered."""
    numbered = torch.arange(len(labels)).double()[:, None].repeat(1, 2)
    own, half, partner = (
        fused_draws(numbered, labels, p, rng.torch_generator(seed, "toy/draws"))[0]
        for p in (0.0, 0.5, 1.0)
    )
    first = (half[:, 0] != partner[:, 0]).view(64, -1).any(1)
    return own[:, 0].long(), partner[:, 0].long(), first.to(torch.uint8)


def start() -> bytes:
    """What the page starts from: the defaults of notebook 00."""
    train_set, test_set = (
        two_classes(*n, 2, 4.0, rng.torch_generator(0, f"toy/{part}"))
        for part, n in (("train", (500, 5)), ("test", (2000, 2000)))
    )
    return frame(train_set, test_set, 0.3, 1e-3)


def page() -> bytes:
    """The toy as one page that opens anywhere."""
    return front.page("Why fusion works", "toy_page", [start()])


def show(train_set, test_set, fusion_ratio, weight_decay, seed, picture: bytes) -> None:
    """Show the toy in a notebook, and ``picture`` (PNG) where there is no browser."""
    import anywidget
    import traitlets

    from h2t.lab.books.live import show_box

    class Toy(anywidget.AnyWidget):
        _esm = front.script("toy_widget")
        _css = front.style()
        frame = traitlets.Bytes().tag(sync=True)

    made = frame(train_set, test_set, fusion_ratio, weight_decay, seed)
    words = "two classes in the plane; run the notebook in JupyterLab to drag their points"
    show_box(Toy(frame=made), picture, words)
