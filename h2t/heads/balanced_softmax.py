"""Balanced softmax: how frequent classes are stands in the loss, not in the logits."""

from h2t.heads.features import Classifier, Features
from h2t.heads.grids import RATES_AND_DECAYS
from h2t.heads.sgd import Batch, cross_entropy, train

GRID = RATES_AND_DECAYS


def fit(features: Features, grid, seed: int) -> list[Classifier]:
    """Source: Ren et al. 2020, equation 4; logit adjustment of Menon et al. 2021 at tau = 1.
    Instance-wise batches.
    """
    prior = features.counts.float().log()

    def adjusted(logits, batch: Batch):
        return cross_entropy(logits + prior, batch)

    return train(features, grid, seed, sampler="instance", loss=adjusted)
