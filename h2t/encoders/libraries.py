"""Networks and weights of torchvision and timm, from their cache or hub."""

import contextlib
import math

import torch
from torch import nn

from h2t.base.errors import Error
from h2t.encoders import Encoder, hash_of


def torchvision(name: str) -> Encoder:
    """A classification network of torchvision with its default weights, up to pooled features."""
    from torchvision import models

    try:
        weights = models.get_model_weights(name).DEFAULT
    except ValueError:
        raise Error(f"torchvision has no network {name!r}; see its list of models") from None
    with _had(f"torchvision:{name}"):
        network = models.get_model(name, weights=weights)
    network = _without_classifier(network, name)
    how = weights.transforms()
    size, resized = how.crop_size[0], how.resize_size[0]
    fit = f"crop {min(1, size / resized):.4g} {how.interpolation.value}"
    colours = tuple(how.mean), tuple(how.std)
    return _encoder(f"torchvision:{name}", network, size, fit, colours, f"torchvision {weights}")


def timm(name: str) -> Encoder:
    """A network of timm with its pretrained weights, pooled, without its classifier."""
    try:
        import timm as library
    except ImportError:
        raise Error(f"encoder timm:{name} needs timm: `pip install timm`") from None
    if not library.is_model(name):
        raise Error(f"timm has no network {name!r}; see timm.list_models('*')")
    with _had(f"timm:{name}"):
        network = library.create_model(name, pretrained=True, num_classes=0)
    how = library.data.resolve_model_data_config(network)
    _, height, size = how["input_size"]
    if height != size:
        raise Error(f"timm:{name} sees {size} x {height} pixels; take an encoder of square images")
    share = size / math.floor(size / how["crop_pct"])  # whole pixels, rounded as timm rounds
    kind = "stretch" if how["crop_mode"] == "squash" else f"crop {share:.4g}"
    fit, colours = f"{kind} {how['interpolation']}", (tuple(how["mean"]), tuple(how["std"]))
    licence = str(getattr(network, "pretrained_cfg", {}).get("license") or "")
    return _encoder(f"timm:{name}", network, size, fit, colours, f"timm {name}", licence)


@contextlib.contextmanager
def _had(name: str):
    """Turn whatever keeps weights from being had into one ``h2t.Error``."""
    try:
        yield
    except Exception as e:  # whatever a hub's client raises without a network
        why = " ".join(str(e).split())[:200]
        raise Error(
            f"the weights of encoder {name} could not be had ({type(e).__name__}: {why}); "
            "put them into that library's cache, or take encoder lite0, which needs no hub"
        ) from None


def _without_classifier(network: nn.Module, name: str) -> nn.Module:
    """Replace a torchvision network's last linear layer by nothing."""
    for attribute in ("fc", "head", "heads", "classifier"):
        last = getattr(network, attribute, None)
        if isinstance(last, nn.Linear):
            setattr(network, attribute, nn.Identity())
            return network
        if isinstance(last, nn.Sequential) and isinstance(last[-1], nn.Linear):
            last[-1] = nn.Identity()
            return network
    raise Error(f"torchvision:{name} does not end in a linear layer, so its features are unknown")


def _encoder(name, network, size, fit, colours, source, licence="") -> Encoder:
    network = network.eval().requires_grad_(False)
    with torch.inference_mode():
        out = network(torch.zeros(1, 3, size, size))
    if out.dim() != 2:
        raise Error(f"encoder {name} gives {tuple(out.shape)}, not pooled features (1, D)")
    about = source, licence, hash_of(network)
    return Encoder(name, network, out.shape[1], size, fit, *colours, *about)
