"""Index samplers: one epoch of image indices per call, as one tensor.

All but ``instance`` draw a class by its probability and then one of its images uniformly, with
replacement.
"""

from __future__ import annotations

import torch

from h2t.base.errors import Error
from h2t.data import SAMPLERS


def class_probabilities(kind: str, counts: torch.Tensor, beta: float = 0.9999) -> torch.Tensor:
    """The probability with which a sampler draws each class, (C,) float64.

    Sources: balanced, square-root: Kang et al. 2020 (decoupling), q = 0 and 1/2; reversed: Zhou et
    al. 2020 (BBN), proportional to 1/n_c; effective-number: Cui et al. 2019, proportional to
    n_c * w_c with w_c = (1-beta)/(1-beta^n_c).

    Arguments: ``counts`` (C,) images per class n_c >= 1. Raises: ``h2t.Error`` for an unknown kind.
    """
    n = counts.double()
    weights = {"balanced": torch.ones_like(n), "reversed": 1 / n, "square_root": n.sqrt()}
    weights |= {"effective_number": (1 - beta) / (1 - beta**n) * n, "instance": n}
    if kind not in weights:
        raise Error(f"sampler is {kind!r}; choose one of {', '.join(SAMPLERS)}")
    return weights[kind] / weights[kind].sum()


def epoch(kind: str, labels: torch.Tensor, num: int, generator: torch.Generator) -> torch.Tensor:
    """Draw one epoch of image indices, (num,) int64.

    ``instance`` gives permutations without replacement, ``class_aware`` walks through classes and
    through each class's images in random order, four images for each class drawn (MiSLAS).

    Arguments: ``kind`` one of ``SAMPLERS``; ``labels`` (N,) int64; ``generator`` on the CPU.
    Raises: ``h2t.Error`` for an unknown kind or an empty class.
    """
    if kind == "instance":
        return _walk(len(labels), num, generator)
    counts = torch.bincount(labels)
    if (counts == 0).any():
        empty = int(counts.argmin())
        raise Error(f"class {empty} has no training image, so that {kind!r} cannot draw it")
    by_class, start = labels.argsort(stable=True), counts.cumsum(0) - counts
    if kind == "class_aware":
        return _class_aware(counts, start, by_class, num, generator)
    p = class_probabilities(kind, counts)
    classes = torch.multinomial(p, num, replacement=True, generator=generator)
    within = (torch.rand(num, generator=generator, dtype=torch.float64) * counts[classes]).long()
    return by_class[start[classes] + within]


def _walk(n: int, num: int, generator: torch.Generator) -> torch.Tensor:
    """``num`` of n places in random order, none again before all others had their turn."""
    rounds = -(-num // n)
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(rounds)])[:num]


def _class_aware(counts, start, by_class, num, generator, each: int = 4) -> torch.Tensor:
    """Classes in random order, ``each`` images of a class at a time."""
    draws = -(-num // each)
    order = _walk(len(counts), draws, generator)
    visits = torch.bincount(order, minlength=len(counts)) * each
    result = torch.empty(draws * each, dtype=torch.long)
    classes = order.repeat_interleave(each)
    for c in visits.nonzero()[:, 0].tolist():
        walk = _walk(int(counts[c]), int(visits[c]), generator)
        result[classes == c] = by_class[start[c] + walk]
    return result[:num]
