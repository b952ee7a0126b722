"""A control of H2T: the swapped channels are set to zero, as dropout does."""

from dataclasses import replace

import torch

from h2t.heads.features import Classifier, Features
from h2t.heads.grids import RATIOS
from h2t.heads.h2t import swap
from h2t.heads.sgd import Batch, train

GRID = RATIOS


def _zeros(batch: Batch, strength: torch.Tensor) -> torch.Tensor:
    return swap(replace(batch, other=torch.zeros_like(batch.z)), strength)


def fit(features: Features, grid, seed: int) -> list[Classifier]:
    """As H2T with nothing to lend. Features are not rescaled, as H2T does not rescale them."""
    return train(features, grid, seed, mix=_zeros)
