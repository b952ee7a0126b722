"""The linear probe: cross entropy on images as they come, the baseline of baselines."""

from h2t.heads.grids import RATES_AND_DECAYS
from h2t.heads.sgd import train

GRID = RATES_AND_DECAYS


def fit(features, grid, seed):
    """Source: Alain and Bengio 2016. Instance-wise batches."""
    return train(features, grid, seed, sampler="instance")
