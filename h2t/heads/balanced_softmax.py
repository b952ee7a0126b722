"""Balanced softmax: how frequent classes are stands in the loss, not in the logits."""

from h2t.heads.grids import RATES_AND_DECAYS
from h2t.heads.sgd import cross_entropy, train

GRID = RATES_AND_DECAYS


def fit(features, grid, seed):
    """Source: Ren et al. 2020, equation 4; logit adjustment of Menon et al. 2021 at tau = 1.
    Instance-wise batches.
    """
    prior = features.counts.float().log()

    def adjusted(logits, batch):
        return cross_entropy(logits + prior, batch)

    return train(features, grid, seed, sampler="instance", loss=adjusted)
