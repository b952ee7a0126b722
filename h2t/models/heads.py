"""Classifier heads: from features (B, D) to logits (B, classes)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class CosineHead(nn.Module):
    """Cosine classifier: scale * cos(z, w_c), no bias.

    Source: as in LDAM (Cao et al. 2019) and RIDE; scale 30.

    Arguments: ``num_features`` D, ``num_classes``, ``scale`` the logit range.
    """

    def __init__(self, num_features: int, num_classes: int, scale: float = 30.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        self.scale = scale

    def reset(self, generator: torch.Generator) -> None:
        nn.init.kaiming_normal_(self.weight, generator=generator)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.scale * F.linear(F.normalize(z), F.normalize(self.weight))


class ScaledHead(nn.Module):
    """A linear head and one learned factor per class: s_c (w_c . z + b_c).

    Source: learnable weight scaling, Kang et al. 2020, section 4.2; MiSLAS (Zhong et al. 2021) trains both parts.

    Arguments: ``head`` a linear head, kept and trained or frozen by whoever builds this; ``scale`` (C,) starts at 1.
    """

    def __init__(self, head: nn.Linear):
        super().__init__()
        self.head = head
        self.scale = nn.Parameter(torch.ones_like(head.bias))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.scale * self.head(z)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The linear head that computes the same: the factors multiplied into its rows and biases."""
        self.head.weight.mul_(self.scale[:, None])
        self.head.bias.mul_(self.scale)
        return self.head


def tau_normalised(weight: torch.Tensor, tau: float) -> torch.Tensor:
    """Rows of a classifier divided by a power of their length: w_c / ||w_c||^tau (tau-norm, Kang et al. 2020, equation 5).

    Arguments: ``weight`` (C, D); ``tau`` 0 keeps the rows, 1 brings all to length 1. Returns: (C, D); a row of zeros stays.
    """
    return weight / weight.norm(dim=1, keepdim=True).clamp_min(1e-12) ** tau


HEADS = {"linear": nn.Linear, "cosine": CosineHead}
