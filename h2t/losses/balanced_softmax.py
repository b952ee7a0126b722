"""Balanced softmax (BSCE)."""

import torch
import torch.nn.functional as F


def balanced_softmax(logits, labels, counts, weight=None) -> torch.Tensor:
    """Cross entropy on logits + log n_c, so that logits need not carry how frequent classes are.

    Source: Ren et al. 2020, equation 4.
    """
    return F.cross_entropy(logits + counts.to(logits.dtype).log(), labels, weight)
