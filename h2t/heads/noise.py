"""A control of H2T: the swapped channels hold noise of the head's mean and spread."""

from dataclasses import replace

import torch

from h2t.fusion import lend
from h2t.heads.features import Classifier, Features
from h2t.heads.grids import RATIOS
from h2t.heads.h2t import swap
from h2t.heads.sgd import Batch, train

GRID = RATIOS


def _noise(batch: Batch, strength: torch.Tensor) -> torch.Tensor:
    lent = lend(batch.other, "noise", batch.generator)
    return swap(replace(batch, other=lent), strength)


def fit(features: Features, grid, seed: int) -> list[Classifier]:
    """As H2T, but each channel is lent by a Gaussian of its own, not by one image for all."""
    return train(features, grid, seed, second="instance", mix=_noise)
