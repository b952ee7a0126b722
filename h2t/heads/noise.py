"""A control of H2T: the swapped channels hold noise of the head's mean and spread."""

from functools import partial

from h2t.heads.grids import RATIOS
from h2t.heads.h2t import swap
from h2t.heads.sgd import train

GRID = RATIOS


def fit(features, grid, seed):
    """As H2T, but each channel is lent by a Gaussian of its own, not by one image for all."""
    mix = partial(swap, fusion="noise")
    return train(features, grid, seed, second="instance", mix=mix)
