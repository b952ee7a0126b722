"""Networks of several experts on one trunk, their features side by side, D for each expert."""

import torch
from torch import nn

from h2t.models.cifar_resnet import CifarResNet, stage

WIDTHS = {"full": (32, 64), "narrow": (24, 48)}  # channels of layers 2 and 3


class RideResNet(CifarResNet):
    """A ResNet whose stem and first stage are shared and whose others exist for each of K experts.

    Source: Wang et al., "Long-tailed recognition by routing diverse distribution-aware experts",
    ICLR 2021, section 3, without its routing (all experts answer). Parameters with 3 experts, a
    cosine head and 100 classes, ResNet-32: 1,362,064 at full width, 783,856 narrow (a ResNet-32
    itself has 470,004).

    Arguments: ``depth`` 6n + 2; ``num_experts`` K; ``width`` full (D = 64) or narrow (D = 48);
    ``in_channels`` 1 or 3.
    """

    def __init__(self, depth: int, num_experts: int, width: str, in_channels: int = 3):
        super().__init__(depth, in_channels)
        blocks, (middle, last), each = (depth - 2) // 6, WIDTHS[width], range(num_experts)
        self.num_experts, self.num_features = num_experts, num_experts * last
        self.layer2 = nn.ModuleList(stage(16, middle, blocks, 2) for _ in each)
        self.layer3 = nn.ModuleList(stage(middle, last, blocks, 2) for _ in each)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        x, experts = self.first(x), zip(self.layer2, self.layer3, strict=True)
        return torch.cat([last(middle(x)) for middle, last in experts], 1)  # (B, K D, H/4, W/4)


class ResltResNet(CifarResNet):
    """A ResNet whose last maps go through three branches, a BN each, for a classifier they share.

    Source: Cui et al., "ResLT: residual learning for long-tailed recognition", TPAMI 2022, section
    3.2, as its released code has it for CIFAR: where the paper draws a 1x1 convolution and a BN, it
    keeps the BN alone, without an activation behind it. Parameters with 100 classes, ResNet-32:
    470,388, which is 384 more than the ResNet-32 itself. The H2T reference fuses before these BNs
    and trains them in stage 2 too; here they are frozen with the rest (recipes/methods.yaml).
    """

    num_experts, num_features = 3, 3 * 64

    def __init__(self, depth: int, in_channels: int = 3):
        super().__init__(depth, in_channels)
        self.bn2 = nn.BatchNorm2d(self.num_features)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn2(super().maps(x).repeat(1, self.num_experts, 1, 1))  # (B, 3 D, H/4, W/4)
