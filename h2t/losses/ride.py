"""The loss of RIDE: diverse experts."""

import torch
import torch.nn.functional as F

from h2t.losses.ldam import ldam

DIVERSITY, TEMPERED = -0.2, 0.05


def temperatures(counts: torch.Tensor) -> torch.Tensor:
    """Temperatures (C,) in (0, 1] of classes: 0.05 C n_c / N + 0.95, over the largest."""
    n = counts.double()
    t = TEMPERED * len(n) * n / n.sum() + 1 - TEMPERED
    return t / t.max()


def ride(logits, labels, counts, weight=None, *, ride_diversity: float = DIVERSITY) -> torch.Tensor:
    """The sum over experts of their LDAM loss and of diversity * T^2 KL(mean of experts || expert).

    Source: Wang et al. 2021 (RIDE), equations 2 and 3, with its released settings: the mean's
    distribution is a constant; with ``weight`` (from ``drw_from`` on) temperatures are
    ``temperatures``, before that 1; T is their mean.

    Arguments: ``logits`` (K, B, C) of the experts, from cosine heads, or (B, C) of one;
    ``ride_diversity`` lambda, below 0 (-0.45 at reduced width).
    """
    experts = logits if logits.dim() == 3 else logits[None]
    t = experts.new_ones(len(counts)) if weight is None else temperatures(counts).to(experts.dtype)
    mean = F.softmax(experts.detach().mean(0) / t, 1)  # (B, C)
    loss = experts.new_zeros(())
    for own in experts:  # (B, C)
        divergence = F.kl_div(F.log_softmax(own / t, 1), mean, reduction="batchmean")
        loss = loss + ldam(own, labels, counts, weight)
        loss = loss + ride_diversity * t.mean() ** 2 * divergence
    return loss
