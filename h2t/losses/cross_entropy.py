"""Cross entropy."""

import torch
import torch.nn.functional as F


def cross_entropy(logits, labels, counts, weight=None) -> torch.Tensor:
    """Cross entropy, the mean over the batch of -log softmax(logits)[label].

    Arguments: ``logits`` (B, C), ``labels`` (B,) int64, ``counts`` (C,) training images per class
    (not used here), ``weight`` (C,) of classes or None. Returns: a scalar.
    """
    return F.cross_entropy(logits, labels, weight)


def mean(losses: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """The mean of ``losses`` (B,), weighted by class as ``cross_entropy`` does."""
    if weight is None:
        return losses.mean()
    w = weight[labels]
    return (w * losses).sum() / w.sum()
