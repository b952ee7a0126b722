"""Cross entropy."""

import torch
import torch.nn.functional as F


def cross_entropy(logits, labels, counts, weight=None) -> torch.Tensor:
    """Cross entropy, the mean over the batch of -log softmax(logits)[label]."""
    return F.cross_entropy(logits, labels, weight)


def mean(losses: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """The mean of ``losses`` (B,), weighted by class as ``cross_entropy`` does."""
    if weight is None:
        return losses.mean()
    w = weight[labels]
    return (w * losses).sum() / w.sum()
