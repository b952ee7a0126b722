"""The setting of a head that does best on training images held out; no test image is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from h2t.base import rng
from h2t.base.errors import Error
from h2t.heads import head
from h2t.heads.features import Classifier, Features

OBJECTIVES = ("balanced", "natural")


@dataclass(frozen=True)
class Tuned:
    """A head's best ``setting``, its ``score`` (%) on the images held out, and all ``scores``."""

    name: str
    setting: dict[str, Any]
    score: float
    scores: tuple[float, ...]


def folds(
    labels: torch.Tensor, k: int, seed: int, groups: torch.Tensor | None = None
) -> torch.Tensor:
    """The fold (N,) of ``k`` in which each image is held out, stratified by class; -1, never, for
    the only image of a class, without which nothing could be learned. No group (N,) is parted.
    """
    if groups is not None:
        units, unit = groups.unique(return_inverse=True)
        first = torch.empty(len(units), dtype=labels.dtype).scatter_(0, unit, labels)
        return folds(first, k, seed)[unit]
    order = rng.torch_generator(seed, "heads/folds")
    fold = torch.full((len(labels),), -1)
    for c in labels.unique():
        own = (labels == c).nonzero().flatten()
        if len(own) > 1:
            shuffled = own[torch.randperm(len(own), generator=order)]
            first = int(torch.randint(k, (1,), generator=order))
            fold[shuffled] = (torch.arange(len(own)) + first) % k
    return fold


def priors_of(objective: str | np.ndarray, counts: torch.Tensor) -> torch.Tensor:
    """How much each class counts, (C,), summing to 1: all alike for ``balanced``, as the training
    images for ``natural``, or an array (C,) of one's own. Raises ``h2t.Error`` for anything else.
    """
    if not isinstance(objective, str):
        weights = torch.as_tensor(np.asarray(objective)).float()
    elif objective in OBJECTIVES:
        weights = torch.ones(len(counts)) if objective == "balanced" else counts.float()
    else:
        raise Error(f"objective is {objective!r}; choose one of {', '.join(OBJECTIVES)}")
    if weights.shape != (len(counts),) or not (weights >= 0).all() or not weights.sum() > 0:
        raise Error(f"priors must be {len(counts)} numbers, none below 0 and not all 0")
    return weights / weights.sum()


def score(predicted: torch.Tensor, labels: torch.Tensor, priors: torch.Tensor) -> float:
    """The accuracy (%) in a world with these class ``priors``, of classes that have images."""
    total = torch.bincount(labels, minlength=len(priors))
    hit = torch.bincount(labels[predicted == labels], minlength=len(priors))
    there = total > 0
    share = priors[there] / priors[there].sum().clamp_min(1e-12)
    return float(100 * (share * hit[there] / total[there]).sum())


def tune(
    name: str,
    features: Features,
    *,
    objective: str | np.ndarray = "balanced",
    k: int = 5,
    rounds: int | None = None,
    seed: int = 0,
) -> Tuned:
    """Cross-validate every setting of a head.

    Arguments: ``features`` of the training images, scaled; ``objective`` as in ``priors_of``; ``k``
    folds, of which ``rounds`` are tried (all if None). Returns: the best setting, the first of
    equals. Raises: ``h2t.Error`` where no class has two images.
    """
    module, fold = head(name), folds(features.labels, k, seed, features.groups)
    priors = priors_of(objective, features.counts)
    predicted = torch.full((len(module.GRID), len(fold)), -1)
    for r in range(k if rounds is None else rounds):
        held, kept = (fold == r).nonzero().flatten(), (fold != r).nonzero().flatten()
        if not len(held):
            continue
        fitted = module.fit(features.take(kept), module.GRID, seed)
        for row, classifier in zip(predicted, fitted, strict=True):
            row[held] = classifier.logits(features.views[0, held]).argmax(1)
    seen = predicted[0] >= 0
    if not seen.any():
        raise Error("no class has two images, so none can be held out to choose by")
    scores = [score(row[seen], features.labels[seen], priors) for row in predicted]
    best = int(np.argmax(scores))
    return Tuned(name, module.GRID[best], scores[best], tuple(scores))


def refit(tuned: Tuned, features: Features, seeds: Sequence[int]) -> list[Classifier]:
    """The head at its best setting, trained on all images once for each seed."""
    module = head(tuned.name)
    if getattr(module, "DETERMINISTIC", False):  # nothing is drawn: one training is all
        return module.fit(features, [tuned.setting], 0) * len(seeds)
    return [module.fit(features, [tuned.setting], seed)[0] for seed in seeds]
