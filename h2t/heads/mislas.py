"""MiSLAS' second stage on balanced batches: softer labels for large classes, a factor per class."""

from h2t.heads.grids import RATES_AND_DECAYS
from h2t.heads.sgd import train
from h2t.losses.label_aware_smoothing import label_aware_smoothing

GRID = RATES_AND_DECAYS


def fit(features, grid, seed):
    """Source: Zhong et al. 2021, equations 5, 8 (head 0.4, tail 0.1) and 9."""
    how = {"sampler": "class_aware", "learn": ("weight", "factor")}
    return train(features, grid, seed, loss=label_aware_smoothing, **how)
