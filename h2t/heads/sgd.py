"""Stage 2 on features: a head trained by SGD for several settings at once, from the same draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from h2t.base import rng
from h2t.data import samplers
from h2t.heads.features import Classifier, Features

EPOCHS, BATCH, MOMENTUM, LR, WEIGHT_DECAY = 10, 128, 0.9, 0.02, 5e-4  # those of H2T's stage 2
STEPS = (
    400  # and at least so many, since ten epochs of a small set are over before anything is learned
)


@dataclass(frozen=True)
class Batch:
    """One step's draws, shared by all P settings: features ``z`` (B, D) of labels ``y`` (B,), and
    where a head asks for a second stream, ``other`` (B, D) of labels ``other_y`` (B,).
    ``generator`` for what else is random.
    """

    z: torch.Tensor
    y: torch.Tensor
    other: torch.Tensor | None
    other_y: torch.Tensor | None
    generator: torch.Generator


def epochs_of(n: int) -> int:
    """How many epochs ``n`` images are trained for."""
    return max(EPOCHS, -(-STEPS // -(-n // BATCH)))


Mix = Callable[[Batch, torch.Tensor], torch.Tensor]  # (batch, strengths (P,)) to features (P, B, D)
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]  # (logits (P, B, C), batch) to losses (P,)


def cross_entropy(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean cross entropy of each setting, (P,)."""
    flat = F.cross_entropy(logits.flatten(0, 1), batch.y.repeat(len(logits)), reduction="none")
    return flat.view(len(logits), -1).mean(1)


def train(
    features: Features,
    grid: Sequence[dict[str, Any]],
    seed: int,
    *,
    sampler: str = "balanced",
    second: str | None = None,
    mix: Mix | None = None,
    loss: Loss = cross_entropy,
    start: Sequence[Classifier] | None = None,
    scale_only: bool = False,
    learn_scale: bool = False,
    cosine: Sequence[float] | None = None,
) -> list[Classifier]:
    """Train one classifier a setting of ``grid``: SGD with momentum 0.9, cosine by epoch, batches
    of 128, 10 epochs or 400 steps.

    Arguments: ``grid`` P settings with ``lr``, ``weight_decay`` and what else the head asks for, of
    which ``strength`` goes to ``mix``; ``seed`` of every draw; ``sampler`` of the labels' stream
    and ``second`` of the other one (names in ``h2t.data.samplers``); ``start`` classifiers to go on
    from (zeros else); ``learn_scale`` trains a factor per class too, ``scale_only`` nothing else;
    ``cosine`` P scales of cosine classifiers. Returns: P classifiers.
    """
    n, d, p = len(features.labels), features.views.shape[2], len(grid)
    weight, scale = _begin(start, p, features.num_classes, d), torch.ones(p, features.num_classes)
    if cosine is not None:  # a row has a direction; zeros have none
        weight[..., :-1] = F.normalize(features.means, dim=1)
    parameters = [weight, scale] if learn_scale else [weight]
    if scale_only:
        parameters = [scale]
    optimiser = _SGD(parameters, grid)
    strength = torch.tensor([float(g.get("strength", 0.0)) for g in grid])
    scales = None if cosine is None else torch.tensor([float(s) for s in cosine]).view(p, 1, 1)
    epochs = epochs_of(n)
    for epoch in range(epochs):
        rate = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for batch in _batches(features, sampler, second, seed, epoch, n):
            z = batch.z[None] if mix is None else mix(batch, strength)
            logits = _logits(z, weight, scales)
            if learn_scale or scale_only:
                logits = logits * scale[:, None]
            loss(logits, batch).sum().backward()
            optimiser.step(rate)
    weight, scale = weight.detach(), scale.detach()
    weight = weight * scale[..., None] if learn_scale or scale_only else weight
    made = scales.flatten().tolist() if scales is not None else [None] * p
    return [
        Classifier(w[:, :-1].clone(), w[:, -1].clone(), s)
        for w, s in zip(weight, made, strict=True)
    ]


def _begin(start: Sequence[Classifier] | None, p: int, c: int, d: int) -> torch.Tensor:
    """Weights (P, C, D + 1), the bias as the weight of a feature that is always 1."""
    if start is None:
        return torch.zeros(p, c, d + 1)
    return torch.stack([torch.cat([s.weight, s.bias[:, None]], 1) for s in start]).clone()


def _logits(z: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor | None) -> torch.Tensor:
    """Logits (P, B, C) of features (P or 1, B, D)."""
    rows, bias = weight[..., :-1], weight[..., -1]
    if scales is not None:
        z, rows, bias = F.normalize(z, dim=2) * scales, F.normalize(rows, dim=2), None
    if len(z) == 1 and len(rows) > 1:  # one product for all settings
        logits = (z[0] @ rows.flatten(0, 1).T).unflatten(1, rows.shape[:2]).transpose(0, 1)
    else:
        logits = torch.bmm(z.expand(len(rows), -1, -1), rows.mT)
    return logits if bias is None else logits + bias[:, None]


def _batches(features: Features, sampler: str, second: str | None, seed: int, epoch: int, n: int):
    """An epoch's batches; every stream's draws come from (seed, stream, epoch) alone."""
    streams = {}
    for name, kind, views in (
        ("fused", sampler, features.views),
        ("fusing", second, features.views if features.lent is None else features.lent),
    ):
        if kind is not None:
            g = rng.torch_generator(seed, f"head/{name}", epoch)
            rows = samplers.epoch(kind, features.labels, n, g)
            streams[name] = views, rows, torch.randint(len(views), (n,), generator=g)
    generator = rng.torch_generator(seed, "head/mix", epoch)
    for k in range(0, n, BATCH):
        drawn = []
        for views, rows, view in streams.values():
            i = rows[k : k + BATCH]
            drawn += [views[view[k : k + BATCH], i], features.labels[i]]
        yield Batch(*drawn, *[None] * (4 - len(drawn)), generator)


class _SGD:
    """Momentum SGD with a rate and a decay of its own for each setting, as torch.optim has them one
    for all.
    """

    def __init__(self, parameters: list[torch.Tensor], grid: Sequence[dict[str, Any]]):
        self.parameters = [t.requires_grad_() for t in parameters]
        self.velocity = [torch.zeros_like(t) for t in parameters]
        self.lr = torch.tensor([float(g.get("lr", LR)) for g in grid])
        self.decay = torch.tensor([float(g.get("weight_decay", WEIGHT_DECAY)) for g in grid])

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for value, velocity in zip(self.parameters, self.velocity, strict=True):
            shape = (-1, *[1] * (value.dim() - 1))
            velocity.mul_(MOMENTUM).add_(value.grad).addcmul_(value, self.decay.view(shape))
            value.addcmul_(velocity, self.lr.view(shape), value=-rate)
            value.grad = None
