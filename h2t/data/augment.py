"""Mixup, CutMix and colour jitter, drawn for a whole epoch at once and applied on the device."""

from __future__ import annotations

import functools

import numpy as np
import torch


def mixup_draws(steps: int, alpha: float, generator: np.random.Generator) -> np.ndarray:
    """The mixing weights of an epoch, lambda ~ Beta(alpha, alpha), one a batch (Zhang et al. 2018):
    (steps,) float32."""
    return generator.beta(alpha, alpha, size=steps).astype(np.float32)


def mixup(images: torch.Tensor, partners: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """Mix images with partners: lam * x + (1 - lam) * partner (Zhang et al. 2018, equation 1).

    Arguments: ``images`` and ``partners``, the same in another order, (B, C, H, W); ``lam`` scalar.
    """
    return torch.lerp(partners, images, lam)


def cutmix_draws(
    steps: int, height: int, width: int, probability: float, generator: np.random.Generator
):
    """The boxes of one epoch of CutMix (Yun et al. 2019, equation 2): of area 1 - lambda,
    lambda ~ Beta(1, 1), around a uniform centre, cut off at the border.

    Arguments: ``probability`` that a batch is mixed at all.
    Returns: ``mixed`` (steps,) bool; ``boxes`` (steps, 4) int64, rows and columns ``top, bottom,
    left, right``, ends excluded; ``kept`` (steps,) float32, what share of the image is left.
    """
    lam, mixed = generator.beta(1.0, 1.0, size=steps), generator.random(steps) < probability
    sides = []
    for length in (height, width):
        half = (length * np.sqrt(1 - lam)).astype(np.int64) // 2
        centre = generator.integers(length, size=steps)
        sides += [np.clip(centre - half, 0, length), np.clip(centre + half, 0, length)]
    boxes = np.stack(sides, 1)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return mixed, boxes, (1 - area / (height * width)).astype(np.float32)


def paste(images: torch.Tensor, patches: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Images with one box of others pasted in, at the same place (Yun et al. 2019, equation 1).

    Arguments: ``images`` and ``patches`` (B, C, H, W); ``box`` (4,) int64 on the device, as in
    ``cutmix_draws``.
    """
    rows, columns = (torch.arange(n, device=images.device) for n in images.shape[2:])
    down, across = (rows >= box[0]) & (rows < box[1]), (columns >= box[2]) & (columns < box[3])
    return torch.where(down[:, None] & across, patches, images)


def jitter_draws(
    num: int, strength: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The colour changes of every image of an epoch, drawn on the CPU.

    Returns: ``factors`` (num, 3) float32 of brightness, contrast and saturation, uniform in
    [max(0, 1 - s), 1 + s], s the strength; ``order`` (num, 3) int64, a permutation of these each.
    """
    low, high = max(0.0, 1 - strength), 1 + strength
    factors = low + (high - low) * torch.rand(num, 3, generator=generator)
    return factors, torch.rand(num, 3, generator=generator).argsort(1)


@functools.cache
def _luma(channels: int, device: torch.device) -> torch.Tensor:
    """What a pixel's channels count for in its grey, (channels,), moved to the device once: a
    copy a batch would make the host wait."""
    with torch.inference_mode(False):
        return torch.tensor([0.2989, 0.587, 0.114] if channels == 3 else [1.0], device=device)


def jitter(images: torch.Tensor, factors: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation, each image in an order of its own.

    Source: torchvision's ColorJitter, which for PIL images rounds to 8 bits after each change; here
    nothing is rounded.

    Arguments: ``images`` (B, C, H, W) in [0, 1], contiguous, changed in place; ``factors`` and
    ``order`` (B, 3) as in ``jitter_draws``.
    """
    pixels = images.flatten(2)  # (B, C, H W)
    luma = _luma(images.shape[1], images.device).expand(len(images), 1, -1)
    for kind, factor in zip(order.T, factors.gather(1, order).T, strict=True):
        kind, factor = kind.view(-1, 1, 1), factor.view(-1, 1, 1)
        grey = torch.bmm(luma, pixels)  # (B, 1, H W)
        # each is a blend: with black, with the image's mean grey, with the grey image
        base = torch.where(kind == 2, grey, torch.where(kind == 1, grey.mean(2, keepdim=True), 0.0))
        torch.lerp(base, pixels, factor, out=pixels).clamp_(0, 1)
    return images
