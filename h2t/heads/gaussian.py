"""Gaussian spread: small classes' images move as those of large ones lie about their means."""

from h2t.heads.grids import strengths
from h2t.heads.sgd import train

GRID = strengths((0.25, 0.5, 0.75, 1.0))


def fit(features, grid, seed):
    """z + s (1 - n_y / n_max) e, e of the mean within-class covariance: after Yin et al. 2019 and
    Liu et al. 2020.

    Deviation: e is the difference of a random image to its class's mean, which has that covariance
    without a matrix of D x D.
    """
    short = 1 - features.counts / features.counts.max()
    means = features.means

    def spread(batch, strength):
        moved = (batch.other - means[batch.other_y]) * short[batch.y][:, None]
        return batch.z + strength.view(-1, 1, 1) * moved

    return train(features, grid, seed, second="instance", mix=spread)
