"""H2T: a share of each balanced image's channels comes from an image drawn as images come."""

import torch

from h2t.fusion import lend
from h2t.heads.grids import RATIOS
from h2t.heads.sgd import Batch, train

GRID = RATIOS


def swap(batch: Batch, strength: torch.Tensor, fusion: str = "swap") -> torch.Tensor:
    """Features (P, B, D): of one random order of channels a batch, each of P settings swaps the
    first int(p D); what comes in by ``fusion`` as of ``h2t.fusion.lend``.
    """
    lent, d = lend(batch.other, fusion, batch.generator), batch.z.shape[1]
    rank = torch.randperm(d, generator=batch.generator).argsort()
    mask = rank < (strength * d).int()[:, None]  # (P, D)
    return torch.where(mask[:, None], lent, batch.z)


def fit(features, grid, seed):
    """Source: Li et al., AAAI 2024, equation 4, on pooled features, with which it commutes;
    ``strength`` is p.
    """
    return train(features, grid, seed, second="instance", mix=swap)
