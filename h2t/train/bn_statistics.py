"""Statistics of batch normalisation, estimated anew for a frozen backbone as plain means over batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from h2t.base import rng
from h2t.data import samplers
from h2t.recipes.parameters import Stage2
from h2t.train import device as stepping
from h2t.train.processes.ranks import ranks

BN_BATCHES = (
    43  # batches of each branch over which statistics are averaged: half an epoch of CIFAR-100-LT
)

Moments = list[tuple[torch.Tensor, torch.Tensor]]  # mean and variance (channels,) of each BN


def norms(backbone: nn.Module) -> list[nn.Module]:
    """Its batch normalisations that training changes, in order; those of a frozen part keep their statistics."""
    before = backbone.training
    backbone.train()
    found = [
        m
        for m in backbone.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training
    ]
    backbone.train(before)
    return found


@torch.no_grad()
def estimate(
    backbone: nn.Module,
    train,
    labels: torch.Tensor,
    config: Stage2,
    branch: str,
    on_batch: Callable[[], object] = lambda: None,
) -> Moments:
    """The mean over ``BN_BATCHES`` augmented batches of what each batch is normalised by.

    The running statistics that training leaves behind follow the last twenty batches or so; these follow all alike.
    Arguments: ``backbone`` is left in eval mode with these statistics; ``train`` loader; ``labels`` (N,) on the CPU; ``config``
    names samplers, augmentation and seed; ``branch`` fused or fusing; ``on_batch`` is called after each.
    """
    sampler = {"fused": config.fused_branch, "fusing": config.fusing_branch}[branch]
    momenta = [m.momentum for m in norms(backbone)]
    for m in norms(backbone):
        m.reset_running_stats()
        m.momentum = None  # cumulative mean
    backbone.train()
    order = samplers.epoch(
        sampler,
        labels,
        BN_BATCHES * config.batch_size,
        rng.torch_generator(config.seed, f"bank/bn-{branch}"),
    )
    draws = rng.torch_generator(config.seed, f"bank/bn-{branch}-augment")
    for x, _ in train.epoch(order, config.batch_size, draws, config.flip):
        with stepping.autocast(train.device, config.precision):
            backbone(x)
        on_batch()
    for m, momentum in zip(norms(backbone), momenta, strict=True):
        m.momentum = momentum
    ranks().agree(backbone)
    backbone.eval()
    return [(m.running_mean.clone(), m.running_var.clone()) for m in norms(backbone)]


@torch.no_grad()
def install(backbone: nn.Module, *streams: Moments) -> None:
    """Give a backbone the mean of the statistics of one or several streams: running ones follow them in turn, batch by batch."""
    for m, *moments in zip(norms(backbone), *streams, strict=True):
        m.running_mean.copy_(torch.stack([mean for mean, _ in moments]).mean(0))
        m.running_var.copy_(torch.stack([variance for _, variance in moments]).mean(0))


def streams_of(statistics: str) -> tuple[str, ...]:
    """The branches that a value of ``bn_statistics`` or ``bn_reestimate`` names."""
    return {
        "none": (),
        "balanced": ("fused",),
        "instance": ("fusing",),
        "both": ("fusing", "fused"),
    }[statistics]


def reestimate(backbone: nn.Module, train, labels: torch.Tensor, config: Stage2) -> None:
    """Set the statistics that the test set is normalised by as ``config.bn_reestimate`` says; none leaves them as they are."""
    if config.bn_reestimate != "none":
        install(
            backbone,
            *(
                estimate(backbone, train, labels, config, branch)
                for branch in streams_of(config.bn_reestimate)
            ),
        )
