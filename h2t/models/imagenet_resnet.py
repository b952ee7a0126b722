"""The ResNets of the large sets: torchvision's, without their classifier, its names of tensors."""

import torch
from torch import nn

from h2t.models.backbone import Backbone

# depth to block and number of them in each stage; 10 is the field's own (Liu et al. 2019)
STAGES = {
    10: ("BasicBlock", (1, 1, 1, 1)),
    18: ("BasicBlock", (2, 2, 2, 2)),
    34: ("BasicBlock", (3, 4, 6, 3)),
    50: ("Bottleneck", (3, 4, 6, 3)),
    101: ("Bottleneck", (3, 4, 23, 3)),
    152: ("Bottleneck", (3, 8, 36, 3)),
}


class ImageNetResNet(Backbone):
    """ResNet-10/18/34/50/101/152 for large images, or ResNeXt-50 32x4d: D = 512 or 2048 features.

    Source: He et al. 2016, Xie et al. 2017, as in torchvision (strides of bottlenecks on their 3x3
    convolution, which is not so in the Caffe weights of Liu et al. 2019). Parameters with 1000
    classes: ResNet-10 5,418,792, ResNet-50 25,557,032, ResNet-152 60,192,808, ResNeXt-50
    25,028,904.

    Arguments: ``depth``; ``groups`` 32 with ``width`` 4 for ResNeXt; ``in_channels`` 1 or 3. Images
    are (B, in_channels, H, W) with H, W >= 8; maps have 1/32 of their sides.
    """

    def __init__(self, depth: int, groups: int = 1, width: int = 64, in_channels: int = 3):
        from torchvision.models import resnet  # takes seconds, and most runs have no use for it

        super().__init__()
        block, stages = STAGES[depth]
        how = {"groups": groups, "width_per_group": width, "num_classes": 1}
        whole = resnet.ResNet(getattr(resnet, block), list(stages), **how)
        self.num_features = whole.fc.in_features
        for name, part in whole.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, part)
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, D, H/32, W/32)
