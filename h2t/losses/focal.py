"""Focal loss."""

import torch
import torch.nn.functional as F

from h2t.losses.cross_entropy import mean

GAMMA = 2.0


def focal(logits, labels, counts, weight=None) -> torch.Tensor:
    """Cross entropy in which a sure answer counts less: -(1 - p)^gamma log p.

    Source: Lin et al. 2017, equation 4, gamma = 2. Deviation: softmax instead of sigmoids, as the
    field does.
    """
    log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]  # (B,)
    loss = (-torch.expm1(log_p)).clamp_min(0) ** GAMMA * -log_p  # 1 - p without cancellation
    return mean(loss, labels, weight)
