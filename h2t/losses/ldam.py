"""Label-distribution-aware margins (LDAM)."""

import torch
import torch.nn.functional as F

MAX_MARGIN, SCALE = 0.5, 30.0


def ldam(logits, labels, counts, weight=None) -> torch.Tensor:
    """Cross entropy in which the true class must win by a margin, m_y ~ n_y^(-1/4).

    Source: Cao et al. 2019, equations 11 to 13: cosine logits, largest margin 0.5, scale 30. With
    deferred re-weighting (``drw_from`` 0.8) it is LDAM-DRW. ``logits`` are of a cosine head, which
    has multiplied them by the scale.
    """
    margins = counts.to(logits.dtype) ** -0.25
    margins = SCALE * MAX_MARGIN * margins / margins.max()  # (C,)
    off = torch.zeros_like(logits).scatter(1, labels[:, None], margins[labels][:, None])
    return F.cross_entropy(logits - off, labels, weight)
