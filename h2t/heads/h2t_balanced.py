"""A control of H2T: channels are lent by class-balanced images, not by those of the head."""

from __future__ import annotations

from h2t.heads.features import Classifier, Features
from h2t.heads.grids import RATIOS, strengths
from h2t.heads.h2t import swap
from h2t.heads.sgd import train

GRID = strengths(RATIOS)


def fit(features: Features, grid, seed: int) -> list[Classifier]:
    """As H2T, but for where the channels come from: is it the head's content, or only
    regularisation?
    """
    return train(features, grid, seed, second="balanced", mix=swap)
