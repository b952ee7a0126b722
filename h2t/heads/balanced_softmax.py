"""Balanced softmax: how frequent classes are stands in the loss, not in the logits."""

from h2t.heads.grids import RATES_AND_DECAYS
from h2t.heads.sgd import train
from h2t.losses.balanced_softmax import balanced_softmax

GRID = RATES_AND_DECAYS


def fit(features, grid, seed):
    """Source: Ren et al. 2020, equation 4; logit adjustment of Menon et al. 2021 at tau = 1.
    Instance-wise batches.
    """
    return train(features, grid, seed, sampler="instance", loss=balanced_softmax)
