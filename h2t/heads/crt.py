"""Classifier re-training on class-balanced batches (cRT, the field's DR): H2T at p = 0."""

from h2t.heads.grids import RATES_AND_DECAYS
from h2t.heads.sgd import train

GRID = RATES_AND_DECAYS


def fit(features, grid, seed):
    """Source: Kang et al. 2020, section 4.1."""
    return train(features, grid, seed)
