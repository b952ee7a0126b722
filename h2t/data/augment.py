"""Mixup and CutMix, drawn for a whole epoch at once and applied on the device."""

from __future__ import annotations

import numpy as np
import torch


def mixup_draws(steps: int, alpha: float, generator: np.random.Generator) -> np.ndarray:
    """The mixing weights of one epoch, lambda ~ Beta(alpha, alpha), one per batch (Zhang et al. 2018).

    Arguments: ``steps`` batches; ``alpha`` > 0. Returns: (steps,) float32.
    """
    return generator.beta(alpha, alpha, size=steps).astype(np.float32)


def mixup(images: torch.Tensor, partners: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Mix every image of a batch with a partner: lam * x + (1 - lam) * partner (Zhang et al. 2018, equation 1).

    Arguments: ``images`` and ``partners``, the same in another order, (B, C, H, W); ``lam`` scalar tensor.
    """
    return torch.lerp(partners, images, lam)


def cutmix_draws(steps: int, height: int, width: int, probability: float, generator: np.random.Generator):
    """The boxes of one epoch of CutMix (Yun et al. 2019, equation 2): of area 1 - lambda, lambda ~ Beta(1, 1), around a
    uniform centre, cut off at the border.

    Arguments: ``steps`` batches; ``height``, ``width`` of the images in pixels; ``probability`` that a batch is mixed at all.
    Returns: ``mixed`` (steps,) bool; ``boxes`` (steps, 4) int64, rows and columns ``top, bottom, left, right``, ends
    excluded; ``kept`` (steps,) float32, the share of the image that is left after the cut.
    """
    lam, mixed = generator.beta(1.0, 1.0, size=steps), generator.random(steps) < probability
    sides = []
    for length in (height, width):
        half, centre = (length * np.sqrt(1 - lam)).astype(np.int64) // 2, generator.integers(length, size=steps)
        sides += [np.clip(centre - half, 0, length), np.clip(centre + half, 0, length)]
    boxes = np.stack(sides, 1)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return mixed, boxes, (1 - area / (height * width)).astype(np.float32)


def paste(images: torch.Tensor, patches: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Images with one box of other images pasted in, at the same place (Yun et al. 2019, equation 1).

    Arguments: ``images`` and ``patches`` (B, C, H, W); ``box`` (4,) int64 on the device, as in ``cutmix_draws``.
    """
    rows, columns = (torch.arange(n, device=images.device) for n in images.shape[2:])
    inside = ((rows >= box[0]) & (rows < box[1]))[:, None] & ((columns >= box[2]) & (columns < box[3]))  # (H, W)
    return torch.where(inside, patches, images)
