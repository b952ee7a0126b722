"""Trained networks of others, such as the H2T reference's: read safely, and gone on from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from h2t import models
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.base.readers import reading, sha256
from h2t.models.imagenet_resnet import STAGES
from h2t.models.weights import ONLY, differs, read_weights
from h2t.runs import Run
from h2t.train.evaluate import check_fit, evaluate
from h2t.train.rundata import RunData, dataset


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """Read a trained network of a known layout (``h2t.models.weights``), weights-only.

    Returns: ``weights`` (our names: ``backbone.*``, ``head.*``), ``model``, ``head``,
    ``num_classes``, ``in_channels``, ``trainable``, ``epoch``, ``best_acc1``. Raises: ``h2t.Error``
    for a file that is missing, damaged, of another layout or model, or that holds code.
    """
    path = resolve(file)
    if not path.exists():
        raise Error(f"there is no checkpoint {path}")
    found, beside = read_weights(path)
    weights = {
        f"head.{k[3:]}" if k.startswith("fc.") else f"backbone.{k}": v for k, v in found.items()
    }
    with reading(path, ONLY):
        epoch, accuracy = (_number(k, beside.get(k, 0)) for k in ("epoch", "best_acc1"))
    return {
        "weights": weights,
        **_recognise(path, weights),
        "trainable": "last_block" if "state_dict_block" in beside else "all",
        "epoch": int(epoch),
        "best_acc1": accuracy,
    }


def _number(name: str, value: Any) -> float:
    single = isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex()
    if not single and not isinstance(value, int | float | np.number):
        raise ValueError(f"{name} is {type(value).__name__}, not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {float(value)}")
    return float(value)


def _recognise(path: Path, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Which of our models the tensors belong to, by rebuilding it and comparing every shape."""
    known = f"known are {', '.join(models.BACKBONES)} with a linear or cosine classifier"
    head, stem = weights.get("head.weight"), weights.get("backbone.conv1.weight")
    if head is None and stem is not None:
        raise Error(f"{path} holds no classifier; to begin from a backbone, set pretrained to it")
    if head is None or stem is None or head.dim() != 2 or stem.dim() != 4:
        raise Error(f"{path} holds another model ({known})")
    name, classes, channels = _name(weights), len(head), stem.shape[1]
    if name not in models.BACKBONES:
        raise Error(f"{path} holds another model: {name} ({known})")
    if channels not in (1, 3) or classes < 2:
        what = f"{channels} channels and {classes} classes"
        raise Error(f"{path} holds a network of {what}; known are 1 or 3, and two or more")
    kind = {"head": "linear" if "head.bias" in weights else "cosine", "in_channels": channels}
    want = models.build(name, classes, **kind).state_dict()
    for k in {**want, **weights}:
        if why := differs(k, weights.get(k), want.get(k), name):
            raise Error(f"{path} holds another model: {why} ({known})")
    return {"model": name, "num_classes": classes, **kind}


def _name(weights: dict[str, torch.Tensor]) -> str:
    """The name of the model that tensors of these names would be."""

    def blocks(stage: int) -> int:
        return len({k.split(".")[2] for k in weights if k.startswith(f"backbone.layer{stage}.")})

    if "backbone.layer4.0.conv1.weight" in weights:
        stages = tuple(map(blocks, (1, 2, 3, 4)))
        block = "Bottleneck" if "backbone.layer1.0.conv3.weight" in weights else "BasicBlock"
        inner = weights.get("backbone.layer1.0.conv2.weight")
        if inner is not None and inner.dim() == 4 and inner.shape[1] == 4:
            return "resnext50"
        depths = [f"resnet{depth}" for depth, own in STAGES.items() if own == (block, stages)]
        return depths[0] if depths else f"{block} x {stages}"
    name = f"resnet{6 * blocks(1) + 2}"
    last = weights.get("backbone.layer3.0.0.conv1.weight")
    if last is not None:  # a stage for each expert
        return f"ride{blocks(3)}_{name}{'_narrow' if len(last) == 48 else ''}"
    return f"reslt_{name}" if "backbone.bn2.weight" in weights else name


def import_checkpoint(
    file: str | Path,
    run: RunData | Run | str,
    *,
    again: bool = False,
    device: str = "auto",
    precision: str = "auto",
    made: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a reference checkpoint the finished stage 1 of a run, and evaluate it where the run has
    data.

    Arguments: ``made`` parameters of a recipe that asked for it, which the step records. Raises:
    ``h2t.Error`` as ``read_checkpoint`` does, and where its class count or channels differ from the
    run's data.
    """
    content = read_checkpoint(file)
    given, run = run, run.run if isinstance(run, RunData) else Run(run)
    step = run.step("stage1")
    data = dataset(given) if (run.path / "split.json").exists() else None
    if data:
        check_fit(content, data, str(file))
    with run.lock():
        if not again and step.done and not step.result.get("imported"):
            own = f"run {run.path} has a stage 1 of its own"
            raise Error(f"{own}; choose another run or give `--again`")
        params = {k: content[k] for k in ("model", "head", "trainable")}
        step.begin({**params, **(made or {})}, again=True)
        source = {"file": Path(file).name, "sha256": sha256(resolve(file))}
        source |= {k: content[k] for k in ("epoch", "best_acc1")}
        kind = {k: content[k] for k in ("model", "head", "num_classes", "in_channels")}
        result = step.finish(content["weights"], {}, {"imported": source, **kind})
    return evaluate(data, device=device, precision=precision)["stage1"] if data else result
