"""Learnable weight scaling: a linear probe learns one factor per class on balanced batches."""

from h2t.heads.grids import after_probe
from h2t.heads.probe import probes
from h2t.heads.sgd import train

GRID = after_probe("lr", (0.02, 0.1, 0.3, 1.0))


def fit(features, grid, seed):
    """Source: Kang et al. 2020, section 4.1 (LWS)."""
    start = probes(features, grid, seed)
    return train(features, grid, seed, start=start, learn=("factor",))
