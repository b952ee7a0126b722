"""Logit adjustment."""

import torch
import torch.nn.functional as F

TAU = 1.0


def logit_adjustment(logits, labels, counts, weight=None) -> torch.Tensor:
    """Cross entropy on logits + tau log(n_c / N).

    Source: Menon et al. 2021, equation 10, tau = 1, at which it equals balanced softmax.
    """
    prior = counts.to(logits.dtype) / counts.sum()
    return F.cross_entropy(logits + TAU * prior.log(), labels, weight)
