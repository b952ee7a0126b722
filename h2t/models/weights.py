"""Weights to begin with: torchvision's by name, or those of a file."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from h2t.base.errors import Error
from h2t.models.backbone import last_block


def load_pretrained(
    backbone: nn.Module, model: str, pretrained: str, trainable: str = "all"
) -> None:
    """Load weights into a backbone; a classifier that comes with them is left out.

    Arguments: ``model`` name of the backbone; ``pretrained`` a name of torchvision's weights for it, such as IMAGENET1K_V1, which is
    downloaded once into torch's cache, or a file: safetensors, or a state dict in torch's format, opened weights-only;
    ``trainable`` new_last_block leaves the last residual block as it was initialised.
    Raises: ``h2t.Error`` where they cannot be had, hold anything but tensors, or belong to another network.
    """
    source = Path(pretrained).expanduser()
    state = _read(source) if source.suffix or source.exists() else _download(model, pretrained)
    state = {re.sub(r"^(module\.)?(backbone\.)?", "", k): v for k, v in state.items()}
    want = backbone.state_dict()
    for name, tensor in want.items():
        found = state.get(name)
        if (
            name.endswith("num_batches_tracked") and found is None
        ):  # weights of before 2018 lack them
            state[name] = tensor
        elif found is None or found.shape != tensor.shape:
            what = (
                "is missing"
                if found is None
                else f"is {tuple(found.shape)} where {model} has {tuple(tensor.shape)}"
            )
            raise Error(f"pretrained {pretrained} is of another network: {name} {what}")
    if more := [k for k in state if k not in want and not k.startswith(("fc.", "head."))]:
        raise Error(f"pretrained {pretrained} is of another network: {model} has no {more[0]}")
    keep = last_block(backbone) + "." if trainable == "new_last_block" else "-"
    backbone.load_state_dict({k: want[k] if k.startswith(keep) else state[k] for k in want})


def _download(model: str, name: str) -> dict[str, torch.Tensor]:
    from torchvision.models import get_model_weights

    try:
        known = {
            w.name: w for w in get_model_weights({"resnext50": "resnext50_32x4d"}.get(model, model))
        }
    except ValueError:
        known = {}
    if name not in known:
        choice = (
            f"torchvision has {', '.join(known)} for {model}"
            if known
            else f"torchvision has no weights for {model}"
        )
        raise Error(f"pretrained is {name!r}; {choice}, or name a file (.pth, .pt or .safetensors)")
    try:
        return known[name].get_state_dict(progress=False, check_hash=True)
    except Exception as e:  # of the network, the disk or the hash
        file = known[name].url.rsplit("/", 1)[-1]
        raise Error(
            f"the weights {name} of {model} could not be downloaded ({' '.join(str(e).split())}); get the file {file} elsewhere and set pretrained to its path"
        ) from None


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise Error(
            f"pretrained {path} does not exist; name a file of weights, or torchvision's weights such as IMAGENET1K_V1"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        what = re.search(r"Unsupported global: GLOBAL (\S+)", str(e))
        why = (
            f"it holds {what.group(1)}, which is not allowed"
            if what
            else "it is damaged or not a file of weights"
        )
        raise Error(f"pretrained {path} was refused: {why}; only tensors are read") from None
    for key in ("state_dict", "model"):  # of a training checkpoint
        content = content.get(key, content) if isinstance(content, dict) else content
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    ):
        raise Error(f"pretrained {path} was refused: it is not a dictionary of tensors")
    return content
