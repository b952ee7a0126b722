"""The ResNets of the CIFAR experiments: He et al. 2016, section 4.2."""

import torch
import torch.nn.functional as F
from torch import nn

from h2t.models.backbone import Backbone


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that subsamples and pads with zeros (option A)."""

    def __init__(self, in_planes: int, planes: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.stride, self.pad = stride, (planes - in_planes) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out.add_(x), inplace=True)


def stage(in_planes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of which the first changes width and size."""
    first = BasicBlock(in_planes, planes, stride)
    return nn.Sequential(first, *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))


class CifarResNet(Backbone):
    """ResNet-20/32/44/56/110 for small images: stages of 16, 32 and 64 channels, D = 64 features.

    Source: He et al. 2016; widths and names as in the H2T reference (ResNet-32 with 100 classes:
    0.47 M parameters).

    Arguments: ``depth`` 6n + 2; ``in_channels`` 1 or 3. Images are (B, in_channels, H, W), H, W
    >= 8.
    """

    num_features = 64

    def __init__(self, depth: int, in_channels: int = 3):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, blocks, 1)
        self.layer2 = stage(16, 32, blocks, 2)
        self.layer3 = stage(32, 64, blocks, 2)

    def first(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer1(F.relu(self.bn1(self.conv1(x)), inplace=True))  # (B, 16, H, W)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer3(self.layer2(self.first(x)))  # (B, 64, H/4, W/4)
