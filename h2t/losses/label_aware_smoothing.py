"""Label-aware smoothing (MiSLAS)."""

import math

import torch
import torch.nn.functional as F

from h2t.losses.cross_entropy import mean

HEAD, TAIL = 0.4, 0.1


def smoothing(counts: torch.Tensor, head: float = HEAD, tail: float = TAIL) -> torch.Tensor:
    """How much of its probability each class's label gives away, (C,) float64.

    e = tail + (head - tail) sin(pi/2 (n - n_min)/(n_max - n_min)).

    Source: Zhong et al. 2021, equation 8, the concave form. Arguments: ``head`` and ``tail`` in
    [0, 1], of the largest and the smallest class; ``tail`` of all where they are of one size.
    """
    n = counts.double()
    share = (n - n.min()) / (n.max() - n.min()).clamp_min(1)
    return tail + (head - tail) * torch.sin(math.pi / 2 * share)


def label_aware_smoothing(
    logits,
    labels,
    counts,
    weight=None,
    *,
    smooth_head: float = HEAD,
    smooth_tail: float = TAIL,
) -> torch.Tensor:
    """Cross entropy against labels that are softer the larger their class.

    The loss is (1 - e_y) (-log p_y) + e_y mean_c(-log p_c).

    Source: Zhong et al. 2021 (MiSLAS), equation 5 as its released code has it: what a label gives
    away is spread over all classes, itself among them. ``smooth_head`` and ``smooth_tail`` as in
    ``smoothing``.
    """
    log_p = F.log_softmax(logits, 1)  # (B, C)
    e = smoothing(counts, smooth_head, smooth_tail).to(logits.dtype)[labels]  # (B,)
    loss = (1 - e) * -log_p.gather(1, labels[:, None])[:, 0] - e * log_p.mean(1)
    return mean(loss, labels, weight)
