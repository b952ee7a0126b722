"""Index samplers: one epoch of image indices per call, as one tensor.

All but ``instance`` draw a class by its probability and then one of its images uniformly, with
replacement.
"""

from __future__ import annotations

import torch

from h2t.base.errors import Error
from h2t.data import SAMPLERS


def class_probabilities(kind: str, counts: torch.Tensor, beta: float = 0.9999) -> torch.Tensor:
    """The probability with which a sampler draws each class.

    Sources: balanced, square-root: Kang et al. 2020 (decoupling), q = 0 and 1/2; reversed: Zhou et
    al. 2020 (BBN), proportional to 1/n_c; effective-number: Cui et al. 2019, proportional to
    n_c * w_c with w_c = (1-beta)/(1-beta^n_c).

    Arguments: ``counts`` (C,) images per class n_c >= 1; ``beta`` of the effective number.
    Returns: (C,) float64 that sums to 1. Raises: ``h2t.Error`` for an unknown kind.
    """
    n = counts.double()
    weights = {"balanced": torch.ones_like(n), "reversed": 1 / n, "square_root": n.sqrt()}
    weights |= {"effective_number": (1 - beta) / (1 - beta**n) * n, "instance": n}
    if kind not in weights:
        raise Error(f"sampler is {kind!r}; choose one of {', '.join(SAMPLERS)}")
    return weights[kind] / weights[kind].sum()


def epoch(kind: str, labels: torch.Tensor, num: int, generator: torch.Generator) -> torch.Tensor:
    """Draw one epoch of image indices.

    Arguments: ``kind`` one of ``SAMPLERS``; ``labels`` (N,) int64 in 0..C-1, every class present;
    ``num`` how many indices; ``generator`` on the CPU. ``instance`` gives permutations without
    replacement, ``class_aware`` walks through classes and through each class's images in random
    order, four images for each class drawn (MiSLAS).
    Returns: (num,) int64. Raises: ``h2t.Error`` for an unknown kind or an empty class.
    """
    n = len(labels)
    if kind == "instance":
        rounds = -(-num // n)
        return torch.cat([torch.randperm(n, generator=generator) for _ in range(rounds)])[:num]
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


def _class_aware(counts, start, by_class, num, generator, each: int = 4) -> torch.Tensor:
    """Classes in random order, ``each`` images of a class at a time."""
    draws = -(-num // each)
    rounds = -(-draws // len(counts))
    walks = [torch.randperm(len(counts), generator=generator) for _ in range(rounds)]
    order = torch.cat(walks)[:draws]
    visits = torch.bincount(order, minlength=len(counts)) * each
    result = torch.empty(draws * each, dtype=torch.long)
    classes = order.repeat_interleave(each)
    for c in range(len(counts)):
        need, have = int(visits[c]), int(counts[c])
        walk = [torch.randperm(have, generator=generator) for _ in range(-(-need // have))]
        if need:
            result[classes == c] = by_class[start[c] + torch.cat(walk)[:need]]
    return result[:num]
