"""Streams of batches whose images are mixtures of two: mixup, and CutMix with patches from the tail
(CMO)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from h2t.base import rng
from h2t.data import augment, samplers
from h2t.recipes.parameters import Stage1
from h2t.train.processes.ranks import Ranks

# CMO begins with this epoch, counted from 1, and leaves this many plain ones at the end
CMO_FIRST, CMO_REST = 5, 3

Mixed = Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]]


def plain(batches) -> Mixed:
    """Images (B, C, H, W), labels (B,), and twice None."""
    for x, y in batches:
        yield x, y, None, None


def mixup(batches, steps: int, alpha: float, seed: int, stage: str, epoch: int, train) -> Mixed:
    """Every image with a partner of its batch. Source: Zhang et al. 2018, one lambda a batch.

    Arguments: ``steps`` batches of the loader ``train``; ``alpha`` of Beta(alpha, alpha). Yields:
    images, labels, the partners' labels (B,) and lambda, a scalar tensor.
    """
    draws = rng.numpy_generator(seed, f"{stage}/mixup", epoch)
    lams = torch.from_numpy(augment.mixup_draws(steps, alpha, draws)).to(train.device)
    ranks = Ranks(*train.shard)
    partners = rng.torch_generator(seed, f"{stage}/partners", epoch)
    for i, (x, y) in enumerate(batches):
        partner = torch.randperm(len(y), generator=partners)
        there = partner.to(train.device, non_blocking=True)
        # alone, the images lie where the index is; among several processes the CPU sorts out whose
        others = ranks.take(x, there if ranks.world == 1 else partner)
        yield augment.mixup(x, others, lams[i]), y, y[there], lams[i]


def cmo(batches, steps: int, train, labels: torch.Tensor, config: Stage1, epoch: int) -> Mixed:
    """Images with a patch of other images, drawn mostly from rare classes, pasted in.

    Source: Park et al., "The majority can help the minority: context-rich minority oversampling",
    CVPR 2022, section 3.2: background instance-wise, patch by class probability ~ 1/n_c, labels
    mixed by area. Deviation: one box a batch, as its released code has it; where that draws images
    by 1/n_c of their class, which makes classes equally likely, set ``cmo_branch`` to balanced.

    Arguments: ``labels`` (N,) of the patches. Yields: as ``mixup``, or ``plain``.
    """
    sizes = (train.height, train.width, config.cmo_probability)
    draws = rng.numpy_generator(config.seed, "stage1/cmo", epoch)
    mixed, boxes, kept = augment.cutmix_draws(steps, *sizes, draws)
    boxes, kept = torch.from_numpy(boxes).to(train.device), torch.from_numpy(kept).to(train.device)
    draws = rng.torch_generator(config.seed, "stage1/patches", epoch)
    order = samplers.epoch(config.cmo_branch, labels, len(labels), draws)
    draws = rng.torch_generator(config.seed, "stage1/patches-augment", epoch)
    patches = train.epoch(order, config.batch_size, draws, config.flip)
    for i, ((x, y), (patch, other)) in enumerate(zip(batches, patches, strict=True)):
        if mixed[i]:
            yield augment.paste(x, patch, boxes[i]), y, other, kept[i]
        else:
            yield x, y, None, None


def stream(batches, steps: int, train, labels: torch.Tensor, config: Stage1, epoch: int) -> Mixed:
    """The batches of one epoch of stage 1, mixed as its recipe says."""
    if config.mixup_alpha > 0:
        return mixup(batches, steps, config.mixup_alpha, config.seed, "stage1", epoch, train)
    if config.cmo_probability > 0 and CMO_FIRST <= epoch <= config.stage1_epochs - CMO_REST:
        return cmo(batches, steps, train, labels, config, epoch)
    return plain(batches)
