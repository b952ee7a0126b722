"""H2T: a share of each balanced image's channels comes from an image drawn as images come."""

import torch

from h2t.heads.features import Classifier, Features
from h2t.heads.grids import RATIOS
from h2t.heads.sgd import Batch, train

GRID = RATIOS


def swap(batch: Batch, strength: torch.Tensor) -> torch.Tensor:
    """Features (P, B, D): of one random order of channels a batch, each of P settings swaps the
    first int(p D).
    """
    d = batch.z.shape[1]
    rank = torch.randperm(d, generator=batch.generator).argsort()
    mask = rank < (strength * d).int()[:, None]  # (P, D)
    return torch.where(mask[:, None], batch.other, batch.z)


def fit(features: Features, grid, seed: int) -> list[Classifier]:
    """Source: Li et al., AAAI 2024, equation 4, on pooled features, with which it commutes;
    ``strength`` is p.
    """
    return train(features, grid, seed, second="instance", mix=swap)
