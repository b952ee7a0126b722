"""Mixup, drawn for a whole epoch at once and applied on the device."""

from __future__ import annotations

import numpy as np
import torch


def mixup_draws(steps: int, alpha: float, generator: np.random.Generator) -> np.ndarray:
    """The mixing weights of one epoch, lambda ~ Beta(alpha, alpha), one per batch (Zhang et al. 2018).

    Arguments: ``steps`` batches; ``alpha`` > 0. Returns: (steps,) float32.
    """
    return generator.beta(alpha, alpha, size=steps).astype(np.float32)


def mixup(images: torch.Tensor, lam: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
    """Mix every image of a batch with a partner: lam * x + (1 - lam) * x[partner] (Zhang et al. 2018, equation 1).

    Arguments: ``images`` (B, C, H, W); ``lam`` scalar tensor; ``partner`` (B,) int64, a permutation of the batch.
    """
    return torch.lerp(images[partner], images, lam)
