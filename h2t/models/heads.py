"""Classifier heads: from features (B, D) to logits (B, classes)."""

import torch
import torch.nn.functional as F
from torch import nn

SCALE = 30.0  # the logit range of a cosine head


class CosineHead(nn.Module):
    """Cosine classifier: scale * cos(z, w_c); of several experts the mean, each on its block of z.

    Source: as in LDAM (Cao et al. 2019) and RIDE, with their scale, 30; rows begin at length 1,
    which sets how fast they turn.

    Arguments: ``num_features`` of all experts; ``num_classes``; ``num_experts`` K.
    """

    def __init__(self, num_features: int, num_classes: int, num_experts: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        self.num_experts = num_experts

    def reset(self, generator: torch.Generator) -> None:
        nn.init.uniform_(self.weight, -1, 1, generator=generator)
        with torch.no_grad():
            self.weight.copy_(unit(self.weight, self.num_experts))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        cosines = F.linear(unit(z, self.num_experts), unit(self.weight, self.num_experts))
        return SCALE / self.num_experts * cosines

    def each(self, z: torch.Tensor) -> torch.Tensor:
        """Logits of every expert, (K, B, classes); their mean is what ``forward`` returns."""
        k = self.num_experts
        blocks = (unit(t, k).unflatten(1, (k, -1)) for t in (z, self.weight))
        return SCALE * torch.einsum("bkd,ckd->kbc", *blocks)


def unit(x: torch.Tensor, num_experts: int = 1) -> torch.Tensor:
    """Vectors (..., K D) with each of their K blocks at length 1."""
    if num_experts == 1:
        return F.normalize(x, dim=-1)
    return F.normalize(x.unflatten(-1, (num_experts, -1)), dim=-1).flatten(-2)


class SharedHead(nn.Linear):
    """One linear classifier for all K experts, whose logits are added up: sum_k (W z_k + b).

    Source: ResLT (Cui et al. 2022), section 3.2. Arguments: as ``CosineHead``. ``weight`` is
    (classes, D).
    """

    def __init__(self, num_features: int, num_classes: int, num_experts: int):
        super().__init__(num_features // num_experts, num_classes)
        self.num_experts = num_experts

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = z.unflatten(1, (self.num_experts, -1)).sum(1)
        return F.linear(z, self.weight, self.num_experts * self.bias)

    def each(self, z: torch.Tensor) -> torch.Tensor:
        """Logits of every expert, (K, B, classes); their sum is what ``forward`` returns."""
        z = z.unflatten(1, (self.num_experts, -1))
        return F.linear(z, self.weight, self.bias).movedim(1, 0)


class ScaledHead(nn.Module):
    """A linear head and one learned factor per class: s_c (w_c . z + b_c).

    Source: learnable weight scaling, Kang et al. 2020, section 4.2; MiSLAS (Zhong et al. 2021)
    trains both parts. ``scale`` (C,) starts at 1.
    """

    def __init__(self, head: nn.Linear):
        super().__init__()
        self.head = head
        self.scale = nn.Parameter(torch.ones_like(head.bias))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.scale * self.head(z)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The linear head that computes the same: the factors in its rows and biases."""
        self.head.weight.mul_(self.scale[:, None])
        self.head.bias.mul_(self.scale)
        return self.head


def tau_normalised(weight: torch.Tensor, tau: float) -> torch.Tensor:
    """Rows of a classifier (C, D) divided by a power of their length: w_c / ||w_c||^tau.

    Source: Kang et al. 2020, equation 5. A row of zeros stays.
    """
    return weight / weight.norm(dim=1, keepdim=True).clamp_min(1e-12) ** tau
