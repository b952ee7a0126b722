"""Focal loss."""

import torch
import torch.nn.functional as F

GAMMA = 2.0


def focal(
    logits: torch.Tensor,
    labels: torch.Tensor,
    counts: torch.Tensor,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy in which a sure answer counts less: -(1 - p)^gamma log p.

    Source: Lin et al. 2017, equation 4, gamma = 2. Deviation: softmax instead of sigmoids, as the
    field does. Arguments and result as ``cross_entropy``.
    """
    log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]  # (B,)
    loss = (-torch.expm1(log_p)).clamp_min(0) ** GAMMA * -log_p  # 1 - p without cancellation
    if weight is None:
        return loss.mean()
    w = weight[labels]
    return (w * loss).sum() / w.sum()
