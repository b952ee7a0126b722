"""A control of H2T: the swapped channels hold noise of the head's mean and spread, which is no
image's feature.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from h2t.heads.features import Classifier, Features
from h2t.heads.grids import RATIOS, strengths
from h2t.heads.h2t import swap
from h2t.heads.sgd import Batch, train

GRID = strengths(RATIOS)


def _noise(batch: Batch, strength: torch.Tensor) -> torch.Tensor:
    draws = torch.randn(batch.z.shape, generator=batch.generator)
    other = batch.other.mean(0) + batch.other.std(0, correction=0) * draws
    return swap(replace(batch, other=other), strength)


def fit(features: Features, grid, seed: int) -> list[Classifier]:
    """As H2T, each channel lent by a Gaussian of its own instead of by one image for all of
    them.
    """
    return train(features, grid, seed, second="instance", mix=_noise)
