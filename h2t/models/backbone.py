"""What backbones share: pooled maps, and a part that can be frozen, its BN in eval mode."""

import torch
from torch import nn


class Backbone(nn.Module):
    """Features (B, D), the mean of ``maps`` (B, D, h, w); submodules named in ``frozen`` stay in
    eval mode.
    """

    num_experts = 1
    frozen: tuple[str, ...] = ()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.maps(x).mean((2, 3))

    def train(self, mode: bool = True):
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self


def last_block(backbone: nn.Module) -> str:
    """The name of the last residual block, such as layer4.2."""
    stage = [name for name, _ in backbone.named_children() if name.startswith("layer")][-1]
    return f"{stage}.{len(backbone.get_submodule(stage)) - 1}"


def freeze(backbone: Backbone, trainable: str) -> None:
    """Freeze a backbone before its last residual block, or nothing of it.

    Source: Liu et al. 2019 train only the last block of a ResNet-152 with ImageNet weights on
    Places-LT. The frozen part gets no gradient and its batch normalisation neither uses nor follows
    the batches, in stage 2 neither.

    Arguments: ``trainable`` all, or last_block or new_last_block, which freeze the same.
    """
    if trainable == "all":
        return
    stage, last = last_block(backbone).split(".")
    backbone.requires_grad_(False)
    backbone.get_submodule(f"{stage}.{last}").requires_grad_(True)
    before = [name for name, _ in backbone.named_children() if name != stage]
    backbone.frozen = (*before, *(f"{stage}.{k}" for k in range(int(last))))
