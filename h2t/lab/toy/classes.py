"""Two Gaussian classes and a linear classifier: why fusing head features moves a boundary.

Pure functions for notebook 00. A classifier is a pair (weight (D,), bias ()); it says "tail" where
``points @ weight + bias > 0``. Labels are 0 for head and 1 for tail. All is float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import softplus

from h2t.base import rng
from h2t.base.errors import Error
from h2t.fusion import channel_mask, fuse
from h2t.train.device import threads

# what ``regions`` measures, as tables head it
OWNED = {
    "tail_region": "tail's region, %",
    "head": "head accuracy, %",
    "tail": "tail accuracy, %",
    "balanced": "balanced accuracy, %",
}
# who lends: a point's weight is the size of its class to minus this power
LENDERS = {"instance": 0.0, "balanced": 1.0, "reversed": 2.0}


def two_classes(
    n_head: int, n_tail: int, num_features: int, separation: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Two spherical Gaussian classes of unit variance, the origin halfway between their centres.

    Arguments: ``separation`` of the centres in standard deviations, the same in every coordinate.
    Returns: points (N, D), head first, and labels (N,).
    """
    if min(n_head, n_tail) < 1:
        raise Error(f"n_head is {n_head}, n_tail is {n_tail}; each class needs at least one point")
    if num_features < 1:
        raise Error(f"num_features is {num_features}; a point needs at least one coordinate")
    if not 0 < separation < float("inf"):
        raise Error(f"separation is {separation}; a distance must be above 0")
    labels = torch.cat([torch.zeros(n_head), torch.ones(n_tail)]).double()
    points = torch.randn(len(labels), num_features, generator=generator, dtype=torch.float64)
    return points + (labels - 0.5)[:, None] * separation / num_features**0.5, labels


def fused_draws(
    points: Tensor,
    labels: Tensor,
    fusion_ratio: float,
    generator: torch.Generator,
    *,
    fusing_branch: str = "instance",
    batches: int = 64,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """The training points of a stage 2: class-balanced draws, fused with those of another branch.

    Source: Li et al., AAAI 2024, section 3.2. Deviation: p * D is rounded up in as many batches as
    make p the mean share. One generator state gives the same draws at every p; a smaller p's
    coordinates are among a larger's.

    Arguments: ``points`` (N, D); ``labels`` (N,); ``fusing_branch`` of ``LENDERS`` draws the
    partners. Returns: points (batches * batch_size, D) and the labels of the class-balanced branch.
    """
    if not 0 <= fusion_ratio <= 1:
        raise Error(f"fusion_ratio is {fusion_ratio}; a share of coordinates must lie in [0, 1]")
    if fusing_branch not in LENDERS:
        raise Error(f"fusing_branch is {fusing_branch!r}; choose one of {', '.join(LENDERS)}")
    size = torch.bincount(labels.long(), minlength=2)[labels.long()].double()  # of its class, (N,)

    def drawn(power: float) -> Tensor:
        n = batches * batch_size
        return torch.multinomial(size**-power, n, True, generator=generator).view(batches, -1)

    own, partner = drawn(1.0), drawn(LENDERS[fusing_branch])
    dim, out = points.shape[1], []
    for b in range(batches):
        swapped = min(int(fusion_ratio * dim + (b + 0.5) / batches), dim)
        # + 0.5: int(k / D * D) may give k - 1
        mask = channel_mask(dim, min((swapped + 0.5) / dim, 1.0), generator)
        out.append(fuse(points[own[b]], points[partner[b]], mask))
    return torch.cat(out), labels[own.flatten()]


def train(points: Tensor, labels: Tensor, weight_decay: float) -> tuple[Tensor, Tensor]:
    """Logistic regression to its optimum, by damped Newton steps.

    The loss is mean cross-entropy + weight_decay / 2 * |weight|^2, without the bias. Raises:
    ``h2t.Error`` where there is no optimum: one class alone, or no weight decay.
    """
    if not 0 < weight_decay < float("inf"):
        why = "it must be above 0, or separable classes have no best classifier"
        raise Error(f"weight_decay is {weight_decay}; {why}")
    if len(labels.unique()) < 2:
        raise Error("train needs points of both classes; one of them is missing")
    x = torch.cat([points, torch.ones_like(points[:, :1])], 1)
    decay = torch.full((x.shape[1],), weight_decay, dtype=x.dtype)
    decay[-1] = 0
    theta = torch.zeros_like(decay)

    def loss(t: Tensor) -> Tensor:
        return softplus((1 - 2 * labels) * (x @ t)).mean() + (decay * t * t).sum() / 2

    for _ in range(100):
        p = torch.sigmoid(x @ theta)
        gradient = x.T @ (p - labels) / len(x) + decay * theta
        if gradient.abs().max() < 1e-9:
            break
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + torch.diag(decay + 1e-12)
        move, scale = torch.linalg.solve(hessian, gradient), 1.0
        while loss(theta - scale * move) > loss(theta) and scale > 1e-6:
            scale /= 2
        theta = theta - scale * move
    return theta[:-1], theta[-1]


def forces(weight: Tensor, bias: Tensor, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What pulls a boundary towards the head, and what pushes it back.

    They are the two halves of the loss's slope in the bias: a point acts with the probability that
    the classifier gives to the wrong class. Where training has ended the two are equal.

    Arguments: ``bias`` may be (K,) boundaries to try. Returns: pull of the tail's points and push
    of the head's, as ``bias``.
    """
    p = torch.sigmoid(points @ weight + bias[..., None])  # (..., N)
    return ((1 - p) * labels).mean(-1), (p * (1 - labels)).mean(-1)


def position(weight: Tensor, bias: Tensor) -> float:
    """Distance of the boundary from the origin along its normal: below 0 on the head's side."""
    return float(-bias / weight.norm())


def regions(weight: Tensor, bias: Tensor, points: Tensor, labels: Tensor) -> dict[str, float]:
    """Who owns how much of a test set, in percent.

    Returns: ``tail_region``, the share of points on the tail's side (50 is right on a neutral set);
    ``head`` and ``tail``, the accuracy of each class; ``balanced``, their mean.
    """
    says_tail = (points @ weight + bias > 0).double()
    region = 100 * says_tail.mean().item()
    head = 100 - 100 * says_tail[labels == 0].mean().item()
    tail = 100 * says_tail[labels == 1].mean().item()
    return {"tail_region": region, "head": head, "tail": tail, "balanced": (head + tail) / 2}


@threads()
def ratio_curve(
    ratios: Sequence[float],
    seeds: int,
    *,
    n_head: int,
    n_tail: int,
    num_features: int,
    separation: float,
    weight_decay: float,
    fusing_branch: str = "instance",
    seed: int = 0,
) -> pd.DataFrame:
    """Train a classifier for every ratio and seed; test each on 1,000 points a class.

    Data, draws and test set depend on the seed alone. Returns: a row per seed and ratio, ratio 0
    (DR) among them: what ``regions`` gives, and gain, the balanced accuracy less that of ratio 0.
    """
    if seeds < 2:
        raise Error(f"seeds is {seeds}; a spread over seeds needs at least 2")
    rows = []
    for s in range(seed, seed + seeds):
        own = {"num_features": num_features, "n_tail": n_tail, "seed": s}
        train_set, test_set = (
            two_classes(*n, num_features, separation, rng.torch_generator(s, f"toy/{part}"))
            for part, n in (("train", (n_head, n_tail)), ("test", (1000, 1000)))
        )
        for p in sorted({0.0, *ratios}):
            stream = rng.torch_generator(s, "toy/draws")
            draws = fused_draws(*train_set, p, stream, fusing_branch=fusing_branch)
            found = regions(*train(*draws, weight_decay), *test_set)
            rows.append({**own, "fusion_ratio": p, **found})
    table = pd.DataFrame(rows)
    table["gain"] = table["balanced"] - table.groupby("seed")["balanced"].transform("first")
    return table
