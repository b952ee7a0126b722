"""The loss of ResLT: branches for ever rarer classes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

BETA, FROM = 0.995, (0.35, 0.7)


def members(counts: torch.Tensor, shares: Sequence[float] = FROM) -> torch.Tensor:
    """Which classes each branch is trained on, (1 + len(shares), C) bool.

    The first on all, the others on those from each of the ``shares`` of the classes on, by size:
    all but the largest 35 %, the smallest 30 %.
    """
    rank = counts.argsort(descending=True, stable=True).argsort()
    return torch.stack([rank >= round(share * len(counts), 6) for share in (0.0, *shares)])


def reslt(
    logits,
    labels,
    counts,
    weight=None,
    *,
    reslt_beta: float = BETA,
    reslt_from: Sequence[float] = FROM,
) -> torch.Tensor:
    """beta times the branches' losses, each on its classes, + (1 - beta) that of their sum.

    Source: Cui et al. 2022 (ResLT), equations 2 to 4, with its released settings on CIFAR-100:
    branches on all classes, those from the 35th and from the 70th of 100 by size (CIFAR-10: from
    the 2nd and the 4th of 10), pooled: the sum over all images of all branches, over their number.
    beta 0.995, 0.99, 0.72 at imbalance factor 100, 50, 10. Deviation: the log of the softmax
    itself, where the released code adds 1e-7 to the softmax.

    Arguments: ``logits`` (K, B, C) of the branches, K <= 3, or (B, C) of one; ``reslt_beta`` beta;
    ``reslt_from`` shares of the classes, as in ``members``.
    """
    branches = logits if logits.dim() == 3 else logits[None]
    k, b, c = branches.shape
    weight = torch.ones_like(branches[0, 0]) if weight is None else weight.to(branches.dtype)
    image = weight[labels]  # (B,)
    count = members(counts, reslt_from)[:k, labels] * image  # (K, B)
    each = F.cross_entropy(branches.reshape(-1, c), labels.repeat(k), reduction="none").view(k, b)
    whole = F.cross_entropy(branches.sum(0), labels, reduction="none")
    apart = reslt_beta * (count * each).sum() / count.sum()
    return apart + (1 - reslt_beta) * (image * whole).sum() / image.sum()
