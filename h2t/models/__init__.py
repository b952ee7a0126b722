"""Models: a backbone (features) and a head (classifier), always apart.

Stage 2 holds the one and trains the other.

    backbone.py: what backbones share; freezing a part of one
    batchnorm.py: batch normalisation over several processes, and folded into convolutions
    cifar_resnet.py: ResNets for small images
    experts.py: RIDE and ResLT, several experts on one trunk
    heads.py: linear and cosine classifiers, shared and scaled ones
    imagenet_resnet.py: ResNets for large images
    weights.py: weights to begin with, in the layouts of this field
"""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as F
from torch import nn

from h2t import encoders
from h2t.base.choices import HEADS
from h2t.base.errors import Error
from h2t.models.backbone import freeze
from h2t.models.cifar_resnet import CifarResNet
from h2t.models.experts import ResltResNet, RideResNet
from h2t.models.heads import CosineHead, SharedHead
from h2t.models.imagenet_resnet import STAGES, ImageNetResNet
from h2t.models.weights import load_pretrained

__all__ = ["BACKBONES", "Classifier", "build", "freeze", "initialise", "load_pretrained"]
__all__ += ["num_experts", "num_parameters", "shares_head"]

# A name says everything: the depth, and for experts the method, their number and width.
BACKBONES = {f"resnet{n}": functools.partial(CifarResNet, n) for n in (20, 32, 44, 56, 110)}
BACKBONES |= {f"resnet{n}": functools.partial(ImageNetResNet, n) for n in STAGES}
BACKBONES |= {"resnext50": functools.partial(ImageNetResNet, 50, 32, 4)}
for _n in (20, 32):
    for _k in (2, 3, 4):
        BACKBONES[f"ride{_k}_resnet{_n}"] = functools.partial(RideResNet, _n, _k, "full")
        BACKBONES[f"ride{_k}_resnet{_n}_narrow"] = functools.partial(RideResNet, _n, _k, "narrow")
    BACKBONES[f"reslt_resnet{_n}"] = functools.partial(ResltResNet, _n)


class Classifier(nn.Module):
    """A ``backbone``, from images (B, C, H, W) to features (B, D), and a ``head``, from those to
    logits (B, classes).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)  # (B, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


class Frozen(nn.Module):
    """An encoder as a backbone: images are enlarged to its size where they are smaller; always in
    eval mode.
    """

    num_experts = 1

    def __init__(self, encoder: encoders.Encoder):
        super().__init__()
        self.network, self.num_features = encoder.network.requires_grad_(False), encoder.width
        self.size = encoder.size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[2:]) < self.size:
            size = self.size, self.size
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return self.network(x)

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def build(
    model: str, num_classes: int, *, head: str = "linear", in_channels: int = 3, generator=None
) -> Classifier:
    """Build a model by name, initialised as the field does (``initialise``).

    Arguments: ``model`` one of ``BACKBONES``, or an encoder; ``head`` one of ``HEADS``;
    ``in_channels`` 1 or 3; ``generator`` for the initialisation (CPU; a fixed one if None).
    Raises: ``h2t.Error`` for an unknown name.
    """
    if encoders.known(model):
        backbone = Frozen(copy.deepcopy(encoders.load(model)))
        return Classifier(backbone, nn.Linear(backbone.num_features, num_classes))
    if model not in BACKBONES:
        raise Error(f"model is {model!r}; choose one of {', '.join(BACKBONES)}")
    if head not in HEADS:
        raise Error(f"head is {head!r}; choose one of {', '.join(HEADS)}")
    generator = generator or torch.Generator().manual_seed(0)
    # torch initialises on construction, from the global generator
    with torch.random.fork_rng(devices=[]):
        backbone = BACKBONES[model](in_channels=in_channels)
        sizes = backbone.num_features, num_classes
        if shares_head(model):
            classifier = SharedHead(*sizes, backbone.num_experts)
        elif head == "cosine":
            classifier = CosineHead(*sizes, backbone.num_experts)
        else:
            classifier = nn.Linear(*sizes)
    network = Classifier(backbone, classifier)
    initialise(network, generator, torchvision=isinstance(backbone, ImageNetResNet))
    return network


def num_experts(model: str) -> int:
    """How many experts a model has: blocks of features, each with a permutation of its own."""
    if encoders.known(model):
        return 1
    backbone = BACKBONES[model]
    return backbone.args[1] if backbone.func is RideResNet else backbone.func.num_experts


def shares_head(model: str) -> bool:
    """Whether a model's experts have one classifier in common, so that its head is on file once."""
    return model.startswith("reslt")


def initialise(network: nn.Module, generator: torch.Generator, torchvision: bool = False) -> None:
    """Initialise as the reference, or, for large images, as torchvision.

    The reference: kaiming-normal (fan in) on conv and linear weights, the linear bias uniform;
    torchvision: kaiming-normal (fan out, for ReLU) on conv weights, linear weights and bias uniform
    in +-1 / sqrt(features).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            if torchvision and isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            else:
                how = ("fan_out", "relu") if torchvision else ("fan_in", "leaky_relu")
                nn.init.kaiming_normal_(module.weight, 0, *how, generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif hasattr(module, "reset"):
            module.reset(generator)


def num_parameters(module: nn.Module) -> int:
    """How many parameters a module has, trained and frozen; buffers do not count."""
    return sum(p.numel() for p in module.parameters())
