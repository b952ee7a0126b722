"""The loss of ResLT: branches for ever rarer classes."""

import torch
import torch.nn.functional as F

BETA, FROM = 0.995, (0.0, 0.35, 0.7)


def members(counts: torch.Tensor) -> torch.Tensor:
    """Which classes each branch is trained on: all, all but the largest 35 %, the smallest 30 %. Returns: (3, C) bool."""
    rank = torch.empty_like(counts).scatter_(0, counts.argsort(descending=True, stable=True), torch.arange(len(counts), device=counts.device))
    return torch.stack([rank >= share * len(counts) for share in FROM])


def reslt(
    logits: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor, weight: torch.Tensor | None = None,
    *, reslt_beta: float = BETA,
) -> torch.Tensor:  # fmt: skip
    """beta times the branches' cross entropy, each on the images of its classes, and (1 - beta) times that of their sum.

    Source: Cui et al. 2022 (ResLT), equations 2 to 4: branches on all classes, those from the 35th and from the 70th of 100 by size,
    pooled: the sum over all images of all branches, over their number. beta 0.995 at imbalance factor 100, 0.99 at 50.

    Arguments: ``logits`` (K, B, C) of the branches, K <= 3, or (B, C) of one; the rest as ``cross_entropy``; ``reslt_beta`` beta. Returns: a scalar.
    """
    branches = logits if logits.dim() == 3 else logits[None]
    k, b, c = branches.shape
    image = torch.ones_like(branches[0, :, 0]) if weight is None else weight.to(branches.dtype)[labels]  # (B,)
    count = members(counts)[:k, labels] * image  # (K, B)
    each = F.cross_entropy(branches.reshape(-1, c), labels.repeat(k), reduction="none").view(k, b)
    whole = F.cross_entropy(branches.sum(0), labels, reduction="none")
    return reslt_beta * (count * each).sum() / count.sum() + (1 - reslt_beta) * (image * whole).sum() / image.sum()
