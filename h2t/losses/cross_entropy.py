"""Cross entropy."""

import torch
import torch.nn.functional as F


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    counts: torch.Tensor,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy, the mean over the batch of -log softmax(logits)[label].

    Arguments: ``logits`` (B, C), ``labels`` (B,) int64, ``counts`` (C,) training images per class
    (not used here), ``weight`` (C,) of classes or None. Returns: a scalar.
    """
    return F.cross_entropy(logits, labels, weight)
