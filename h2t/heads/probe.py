"""Linear probes that other heads begin with: each of its settings is trained once."""

from __future__ import annotations

from h2t.heads.features import Classifier, Features
from h2t.heads.sgd import LR, WEIGHT_DECAY, train


def probes(features: Features, grid, seed: int) -> list[Classifier]:
    """A probe by cross entropy for each setting of ``grid``, at its ``probe_lr`` and
    ``probe_weight_decay``.
    """
    asked = [(g.get("probe_lr", LR), g.get("probe_weight_decay", WEIGHT_DECAY)) for g in grid]
    different = list(dict.fromkeys(asked))
    settings = [{"lr": lr, "weight_decay": wd} for lr, wd in different]
    trained = dict(zip(different, train(features, settings, seed, sampler="instance"), strict=True))
    return [trained[a] for a in asked]
