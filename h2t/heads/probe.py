"""Linear probes that other heads begin with: each of their settings is trained once."""

from h2t.heads.features import Classifier, Features
from h2t.heads.sgd import train


def probes(features: Features, grid, seed: int) -> list[Classifier]:
    """A probe by cross entropy for each ``probe_lr`` and ``probe_weight_decay`` of ``grid``."""
    asked = [(g["probe_lr"], g["probe_weight_decay"]) for g in grid]
    different = list(dict.fromkeys(asked))
    settings = [{"lr": lr, "weight_decay": wd} for lr, wd in different]
    trained = dict(zip(different, train(features, settings, seed, sampler="instance"), strict=True))
    return [trained[a] for a in asked]
