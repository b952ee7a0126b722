"""Statistics of batch normalisation, estimated anew for a frozen backbone as means over batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from h2t.base import rng
from h2t.data import samplers
from h2t.models.batchnorm import fold, norms
from h2t.recipes.parameters import Stage2
from h2t.train.device import autocast

# batches of each branch over which statistics are averaged: half an epoch of CIFAR-100-LT
BN_BATCHES = 43

Moments = list[tuple[torch.Tensor, torch.Tensor]]  # mean and variance (channels,) of each BN


def trained(backbone: nn.Module) -> list[nn.Module]:
    """Its batch normalisations that training changes: not those of a frozen part."""
    before = backbone.training
    backbone.train()
    found = [m for m in norms(backbone) if m.training]
    backbone.train(before)
    return found


@contextlib.contextmanager
def momentum(layers: list[nn.Module], value: float | None) -> Iterator[None]:
    """Let running statistics follow a batch by this share: 0 is not at all, None the mean of all
    batches."""
    before = [m.momentum for m in layers]
    for m in layers:
        m.momentum = value
    yield
    for m, own in zip(layers, before, strict=True):
        m.momentum = own


@torch.no_grad()
def estimate(
    backbone: nn.Module,
    train,
    labels: torch.Tensor,
    config: Stage2,
    branch: str,
    on_batch: Callable[[], object],
) -> Moments:
    """The mean over ``BN_BATCHES`` augmented batches of what each batch is normalised by, where
    running statistics follow the last twenty or so; ``backbone`` is left in eval mode with it.

    Arguments: ``train`` loader; ``labels`` (N,) on the CPU; ``branch`` fused or fusing.
    """
    sampler = {"fused": config.fused_branch, "fusing": config.fusing_branch}[branch]
    own, number = trained(backbone), BN_BATCHES * config.batch_size
    for m in own:
        m.reset_running_stats()
    generator = rng.torch_generator(config.seed, f"bank/bn-{branch}")
    order = samplers.epoch(sampler, labels, number, generator)
    draws = rng.torch_generator(config.seed, f"bank/bn-{branch}-augment")
    backbone.train()
    with momentum(own, None):
        for x, _ in train.epoch(order, config.batch_size, draws, config.flip):
            with autocast(train.device, config.precision):
                backbone(x)
            on_batch()
    backbone.eval()
    return [(m.running_mean.clone(), m.running_var.clone()) for m in own]


@torch.no_grad()
def install(backbone: nn.Module, *streams: Moments) -> None:
    """Give a backbone the mean of the statistics of several streams."""
    for m, *moments in zip(trained(backbone), *streams, strict=True):
        m.running_mean.copy_(torch.stack([mean for mean, _ in moments]).mean(0))
        m.running_var.copy_(torch.stack([variance for _, variance in moments]).mean(0))


# the branches that the running statistics see, by ``bn_statistics``
STREAMS = {"none": (), "balanced": ("fused",), "both": ("fusing", "fused")}


def estimated(config: Stage2) -> tuple[str, ...]:
    """The branches whose statistics a bank needs: of both, where either has its own."""
    return () if config.bn_statistics == "none" else STREAMS["both"]


def networks_of(
    backbone: nn.Module, train, labels: torch.Tensor, config: Stage2, on_batch: Callable
) -> dict[str, nn.Module]:
    """The backbone under the statistics of each kind of features: view (fused branch), lent
    (fusing branch), and test and val, with which ``backbone`` is left."""
    networks, seen = {"view": fold(backbone)}, {}
    for branch in estimated(config):
        seen[branch] = estimate(backbone, train, labels, config, branch, on_batch)
        networks[{"fused": "view", "fusing": "lent"}[branch]] = fold(backbone)
    if streams := STREAMS[config.bn_statistics]:
        install(backbone, *(seen[branch] for branch in streams))
    backbone.eval()
    networks["test"] = networks["val"] = fold(backbone)
    return networks
