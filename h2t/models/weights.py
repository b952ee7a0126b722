"""Weights to begin with: torchvision's by name, or those of a file in one of this field's layouts.

A file is safetensors, or what torch.save wrote, opened weights-only. Layouts, by their keys:

    state_dict_model, state_dict_classifier    H2T, MiSLAS (Zhong et al. 2021); its second stage has
                                               state_dict_lws_model, factors of the classes, too;
                                               on Places-LT state_dict_block, the last block, apart
    state_dict_best: feat_model, classifier    decoupling (Kang et al. 2020)
    state_dict, or model                       LDAM-DRW (Cao et al. 2019), and most others
    names of tensors                           a plain state dict

Names may begin with module., backbone. or encoder., and the classifier be called fc, linear,
classifier or head.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from h2t.base.errors import Error
from h2t.base.readers import read_pickled, read_tensors, reading
from h2t.models.backbone import last_block

ONLY = "only tensors, numbers and known names are read"
WEIGHTS = {"state_dict_model", "state_dict_classifier", "state_dict_block", "state_dict_lws_model"}
WEIGHTS |= {"state_dict_best", "state_dict", "model"}
# what else a training's checkpoint holds
BESIDE = {"epoch", "best_epoch", "best_acc1", "best_acc", "its_ece", "arch", "optimizer"}
BESIDE |= {"centroids", "scheduler", "lr_scheduler", "args"}


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a file in fp32, under torchvision's names (conv1.weight, ..., fc.bias), and
    what lies beside them.

    Raises: ``h2t.Error`` for a file that is missing, damaged, of another layout, or that holds code
    or tensors that are no weights.
    """
    if path.suffix == ".safetensors":
        found = read_tensors(path, ONLY)
    else:
        found = read_pickled(path, ONLY, _numpy_scalars())
    with reading(path, ONLY):
        if not isinstance(found, dict) or not found:
            raise ValueError("it is not a dictionary of tensors")
        return {name: _checked(name, t) for name, t in _flat(found).items()}, found


def _numpy_scalars() -> list:
    """What a pickle of a NumPy number names, by NumPy 1 and 2: the reference records its_ece so."""
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(t)) for t in ("f8", "f4")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *dtypes]


def _flat(content: dict[str, Any]) -> dict[str, torch.Tensor]:
    """One dictionary of tensors out of whichever layout."""
    if not WEIGHTS & content.keys():
        return _named(content)
    if more := sorted(map(str, content.keys() - WEIGHTS - BESIDE)):
        raise ValueError(f"it holds {more[0][:60]!r}, which no known layout does")
    parts = dict(content)
    if isinstance(best := parts.get("state_dict_best"), dict):
        parts["state_dict_model"] = best.get("feat_model", {})
        parts["state_dict_classifier"] = best.get("classifier", {})
    if "state_dict_model" not in parts:
        return _named(parts.get("state_dict", parts.get("model")))
    flat = _named(parts["state_dict_model"])
    head = _named(parts.get("state_dict_classifier", {}))
    flat |= {f"fc.{name.removeprefix('fc.')}": tensor for name, tensor in head.items()}
    there = len({k.split(".")[1] for k in flat if k.startswith("layer4.")})
    for name, tensor in _named(parts.get("state_dict_block", {})).items():
        flat[f"layer4.{there}.{name.removeprefix('layer5.')}"] = tensor
    for factors in _named(parts.get("state_dict_lws_model", {})).values():
        flat["fc.weight"] = flat["fc.weight"] * factors.reshape(-1, 1)
        flat["fc.bias"] = flat["fc.bias"] * factors.reshape(-1)
    return flat


def _named(state: Any) -> dict[str, torch.Tensor]:
    """A state dict under torchvision's names."""
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise ValueError("it is not a dictionary of tensors")
    renamed = {}
    for name, tensor in state.items():
        # the classifier of LDAM (Cao et al. 2019) with normalised columns is stored transposed
        bare = name.endswith("linear.weight") and name.removesuffix("weight") + "bias" not in state
        tensor = tensor.t() if bare and tensor.dim() == 2 else tensor
        name = re.sub(r"^(module\.)?((backbone|encoder)\.)?", "", name)
        renamed[re.sub(r"^(fc|linear|classifier|head)\.(fc\.)?", "fc.", name)] = tensor
    return renamed


def _checked(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of numbers that are on file; raises ``ValueError``."""
    name = name[:60]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError(f"{name} is quantised, sparse or empty")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name} is {tuple(tensor.shape)}, of which the file holds less")
    if name.endswith("num_batches_tracked"):
        return tensor
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is {tensor.dtype}, where weights are float")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} holds NaN or infinite numbers")
    return tensor.float()


def load_pretrained(
    backbone: nn.Module, model: str, pretrained: str, trainable: str = "all"
) -> None:
    """Load weights into a backbone; a classifier that comes with them is left out.

    Arguments: ``model`` name of the backbone; ``pretrained`` a file, or a name of torchvision's
    weights for it, such as IMAGENET1K_V1, which are downloaded once into torch's cache;
    ``trainable`` new_last_block leaves the last residual block as it was initialised.
    Raises: ``h2t.Error`` where they cannot be had, or belong to another network.
    """
    file = Path(pretrained).expanduser()
    if file.is_file():
        state = read_weights(file)[0]
    elif file.suffix:
        name = "a file of weights, or torchvision's weights such as IMAGENET1K_V1"
        raise Error(f"pretrained {file} does not exist; name {name}")
    else:
        state = _download(model, pretrained)
    want = backbone.state_dict()
    for name in {**want, **state}:
        if name not in state and name.endswith("num_batches_tracked"):  # weights of before 2018
            state[name] = want[name]
        why = differs(name, state.get(name), want.get(name), model)
        if why and not name.startswith("fc."):
            raise Error(f"pretrained {pretrained} is of another network: {why}")
    keep = last_block(backbone) + "." if trainable == "new_last_block" else "-"
    backbone.load_state_dict({k: want[k] if k.startswith(keep) else state[k] for k in want})


def differs(
    name: str, found: torch.Tensor | None, wanted: torch.Tensor | None, model: str
) -> str | None:
    """In words what a file has of a tensor and what ``model`` has, or None where they agree."""
    if found is None:
        return f"{name} is missing"
    if wanted is None:
        return f"{model} has no {name}"
    if found.shape != wanted.shape:
        return f"{name} is {tuple(found.shape)} where {model} has {tuple(wanted.shape)}"
    return None


def _download(model: str, name: str) -> dict[str, torch.Tensor]:
    from torchvision.models import get_model_weights

    known = {}
    with contextlib.suppress(ValueError):
        called = {"resnext50": "resnext50_32x4d"}.get(model, model)
        known = {w.name: w for w in get_model_weights(called)}
    if name not in known:
        has = f"{', '.join(known) or 'no weights'} for {model}"
        raise Error(f"pretrained is {name!r}; torchvision has {has}, or name a file (.pth)")
    try:
        return known[name].get_state_dict(progress=False, check_hash=True)
    except Exception as e:  # of the network, the disk or the hash
        get = f"get the file {Path(known[name].url).name} elsewhere and set pretrained to its path"
        what = f"the weights {name} of {model} could not be downloaded"
        raise Error(f"{what} ({' '.join(str(e).split())}); {get}") from None
