"""Stage 2 on features: a head trained by SGD for several settings at once, from the same draws."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F

from h2t.base import rng
from h2t.data import samplers
from h2t.heads.features import Classifier, Features
from h2t.losses.cross_entropy import cross_entropy

EPOCHS, BATCH, MOMENTUM, WEIGHT_DECAY = 10, 128, 0.9, 5e-4  # those of H2T's stage 2
STEPS = 400  # and at least so many: ten epochs of a small set end before anything is learned


@dataclass(frozen=True)
class Batch:
    """One step's draws, shared by all P settings: features ``z`` (B, D) of labels ``y`` (B,), the
    same of a ``second`` stream where a head asks for one, and ``generator`` for what else is drawn.
    """

    z: torch.Tensor
    y: torch.Tensor
    other: torch.Tensor | None
    other_y: torch.Tensor | None
    generator: torch.Generator


Mix = Callable[[Batch, torch.Tensor], torch.Tensor]  # (batch, strengths (P,)) to features (P, B, D)


def epochs_of(n: int) -> int:
    """For how many epochs ``n`` images are trained on."""
    return max(EPOCHS, -(-STEPS // -(-n // BATCH)))


def train(
    features: Features,
    grid: Sequence[dict[str, Any]],
    seed: int,
    *,
    sampler: str = "balanced",
    second: str | None = None,
    mix: Mix | None = None,
    loss: Callable[..., torch.Tensor] = cross_entropy,
    start: Sequence[Classifier] | None = None,
    learn: Sequence[str] = ("weight",),
    cosine: bool = False,
) -> list[Classifier]:
    """Train one classifier for each setting: SGD with momentum, its rate a cosine over the epochs.

    Arguments: ``grid`` P settings with ``lr``, ``weight_decay`` and what else the head asks for, of
    which ``strength`` goes to ``mix``; ``sampler`` of the labels' stream and ``second`` of the
    other one (names in ``h2t.data.samplers``); ``loss`` one of ``h2t.losses``; ``start``
    classifiers to go on from (zeros else); ``learn`` what is trained, ``weight``, and ``factor``,
    one per class; ``cosine`` for classifiers of angles, each times its setting's ``scale``.
    """
    n, d, p, c = len(features.labels), features.views.shape[2], len(grid), features.num_classes
    weight, factor = torch.zeros(p, c, d + 1), torch.ones(p, c)
    if start is not None:
        weight = torch.stack([torch.cat([s.weight, s.bias[:, None]], 1) for s in start])
    scale = None
    if cosine:
        weight[..., :-1] = F.normalize(features.means, dim=1)  # zeros have no direction
        scale = torch.tensor([g["scale"] for g in grid]).view(p, 1, 1)
    parts = {"weight": weight, "factor": factor}
    optimiser = _SGD([parts[name] for name in learn], grid)
    strength = torch.tensor([float(g.get("strength", 0.0)) for g in grid])
    epochs, counts = epochs_of(n), features.counts
    for epoch in range(epochs):
        rate = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for batch in _batches(features, sampler, second, seed, epoch):
            z = batch.z[None] if mix is None else mix(batch, strength)
            logits = _logits(z, weight, scale)
            if "factor" in learn:
                logits = logits * factor[:, None]
            every = loss(logits.flatten(0, 1), batch.y.repeat(p), counts)
            (p * every).backward()  # a mean over all settings: each goes by its own
            optimiser.step(rate)
    weight = (weight * factor[..., None]).detach()
    return [
        Classifier(w[:, :-1].clone(), w[:, -1].clone(), g["scale"] if cosine else None)
        for w, g in zip(weight, grid, strict=True)
    ]


def _logits(z: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """Logits (P, B, C) of features (P or 1, B, D) by weights (P, C, D + 1), the last a bias."""
    rows, bias = weight[..., :-1], weight[..., -1]
    if scale is not None:
        z, rows, bias = F.normalize(z, dim=2) * scale, F.normalize(rows, dim=2), None
    if len(z) == 1 and len(rows) > 1:  # one product for all settings
        logits = (z[0] @ rows.flatten(0, 1).T).unflatten(1, rows.shape[:2]).transpose(0, 1)
    else:
        logits = torch.bmm(z.expand(len(rows), -1, -1), rows.mT)
    return logits if bias is None else logits + bias[:, None]


def _batches(
    features: Features, sampler: str, second: str | None, seed: int, epoch: int
) -> Iterator[Batch]:
    """An epoch's batches; every stream's draws come from (seed, stream, epoch) alone."""

    def stream(name: str, kind: str, views: torch.Tensor):
        g = rng.torch_generator(seed, f"head/{name}", epoch)
        n = len(features.labels)
        rows = samplers.epoch(kind, features.labels, n, g)
        view = torch.randint(len(views), (n,), generator=g)
        for i, v in zip(rows.split(BATCH), view.split(BATCH), strict=True):
            yield views[v, i], features.labels[i]

    fused, fusing = stream("fused", sampler, features.views), repeat((None, None))
    if second is not None:
        lent = features.views if features.lent is None else features.lent
        fusing = stream("fusing", second, lent)
    generator = rng.torch_generator(seed, "head/mix", epoch)
    for (z, y), (other, other_y) in zip(fused, fusing, strict=False):
        yield Batch(z, y, other, other_y, generator)


class _SGD:
    """Momentum SGD with a rate and a decay for each setting, where torch.optim has one for all."""

    def __init__(self, parameters: list[torch.Tensor], grid: Sequence[dict[str, Any]]):
        self.parameters = [t.requires_grad_() for t in parameters]
        self.velocity = [torch.zeros_like(t) for t in parameters]
        self.lr = torch.tensor([float(g["lr"]) for g in grid])
        self.decay = torch.tensor([float(g.get("weight_decay", WEIGHT_DECAY)) for g in grid])

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for value, velocity in zip(self.parameters, self.velocity, strict=True):
            shape = (-1, *[1] * (value.dim() - 1))
            velocity.mul_(MOMENTUM).add_(value.grad).addcmul_(value, self.decay.view(shape))
            value.addcmul_(velocity, self.lr.view(shape), value=-rate)
            value.grad = None
