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


HEADS = {"linear": nn.Linear, "cosine": CosineHead}
