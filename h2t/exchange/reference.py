"""Checkpoints in the layout of the H2T reference: read them safely, evaluate them, go on from them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from h2t import metrics, models
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.metrics import MEASURES
from h2t.models.imagenet_resnet import STAGES
from h2t.runs import Run, Step
from h2t.train import device as stepping
from h2t.train.loop import VAL_SEEN
from h2t.train.prepare import dataset, loaders, val_loader
from h2t.train.stage1 import load_model

# state_dict_block: on Places-LT the last block of the ResNet-152, the only one that is trained, is kept apart
KEYS = {
    "epoch",
    "state_dict_model",
    "state_dict_classifier",
    "state_dict_block",
    "best_acc1",
    "its_ece",
}


def read_checkpoint(file: str | Path) -> dict[str, Any]:
    """Read a ``*.pth.tar`` of the reference, weights-only: tensors and the NumPy scalar it is known to hold, no more.

    Returns: ``weights`` (our names: ``backbone.*``, ``head.*``), ``model``, ``num_classes``, ``in_channels``, ``trainable``,
    ``epoch``, ``best_acc1``. Raises: ``h2t.Error`` for a file that is missing, truncated, of another layout or model, or
    that holds any other object.
    """
    path = resolve(file)
    if not path.is_file():
        raise Error(f"there is no checkpoint {path}")
    try:
        with torch.serialization.safe_globals(_numpy_scalar()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        what = re.search(
            r"Unsupported global: GLOBAL (\S+)|Unsupported (?:class|operand|type)[^\n.]*", str(e)
        )
        why = (
            f"it holds {what.group(1) or what.group(0)}, which is not allowed"
            if what
            else "it is truncated or not a checkpoint"
        )
        raise Error(
            f"{path} was refused: {why}; only tensors, numbers and the reference's keys are read"
        ) from None
    if not isinstance(content, dict) or not {"state_dict_model", "state_dict_classifier"} <= set(
        content
    ):
        raise Error(
            f"{path} is not in the reference's layout: it lacks state_dict_model and state_dict_classifier"
        )
    if extra := set(map(str, content)) - KEYS:
        raise Error(
            f"{path} was refused: it holds {sorted(extra)[0]!r}, which the reference's layout does not have"
        )
    for key in ("epoch", "best_acc1", "its_ece"):
        value = content.get(key, 0)
        if not isinstance(value, int | float | np.number) and not (
            isinstance(value, torch.Tensor) and value.numel() == 1
        ):
            raise Error(f"{path} was refused: {key} is {type(value).__name__}, not a number")
    weights = _renamed(path, content["state_dict_model"], "backbone")
    if "state_dict_block" in content:
        weights |= _block(weights, _renamed(path, content["state_dict_block"], "block"))
    weights |= {
        k.replace("head.fc.", "head."): v
        for k, v in _renamed(path, content["state_dict_classifier"], "head").items()
    }
    return {
        "weights": weights,
        **_recognise(path, weights),
        "trainable": "last_block" if "state_dict_block" in content else "all",
        "epoch": int(content.get("epoch", 0)),
        "best_acc1": float(content.get("best_acc1", 0)),
    }


def _numpy_scalar() -> list:
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(t)) for t in ("f8", "f4")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *dtypes]


def _renamed(path: Path, state, part: str) -> dict[str, torch.Tensor]:
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise Error(f"{path} was refused: its {part} is not a dictionary of tensors")
    return {f"{part}.{k.removeprefix('module.')}": v for k, v in state.items()}


def _block(
    weights: dict[str, torch.Tensor], block: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The block that is kept apart as the next one of layer 4."""
    there = _blocks(weights, 4)
    return {
        f"backbone.layer4.{there}.{re.sub('^block[.](layer5[.])?', '', k)}": v
        for k, v in block.items()
    }


def _blocks(weights: dict[str, torch.Tensor], stage: int) -> int:
    return len({k.split(".")[2] for k in weights if k.startswith(f"backbone.layer{stage}.")})


def _recognise(path: Path, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Which of our models the tensors belong to, by rebuilding it and comparing every name and shape."""
    known = f"known are {', '.join(models.BACKBONES)} with a linear classifier"
    head, stem = weights.get("head.weight"), weights.get("backbone.conv1.weight")
    if head is None or stem is None or head.dim() != 2 or stem.dim() != 4:
        raise Error(f"{path} holds another model ({known})")
    name = _name(weights)
    if name not in models.BACKBONES:
        raise Error(f"{path} holds another model: {name} ({known})")
    kind = {"model": name, "num_classes": head.shape[0], "in_channels": stem.shape[1]}
    want = models.build(name, kind["num_classes"], in_channels=kind["in_channels"]).state_dict()
    for k in {**want, **weights}:
        a, b = want.get(k), weights.get(k)
        if a is None or b is None or a.shape != b.shape:
            shapes = f"{None if b is None else tuple(b.shape)} where {name} has {None if a is None else tuple(a.shape)}"
            raise Error(f"{path} holds another model: {k} is {shapes} ({known})")
    return kind


def _name(weights: dict[str, torch.Tensor]) -> str:
    """The name of the model that tensors of these names would be."""
    if "backbone.layer4.0.conv1.weight" in weights:
        stages = tuple(_blocks(weights, k) for k in (1, 2, 3, 4))
        block = "Bottleneck" if "backbone.layer1.0.conv3.weight" in weights else "BasicBlock"
        if weights["backbone.layer1.0.conv2.weight"].shape[1] == 4:
            return "resnext50"
        return next(
            (f"resnet{depth}" for depth, known in STAGES.items() if known == (block, stages)),
            f"{block} x {stages}",
        )
    name = f"resnet{6 * _blocks(weights, 1) + 2}"
    last = weights.get("backbone.layer3.0.0.conv1.weight")
    if last is not None:  # a stage for each expert
        k = len({k.split(".")[2] for k in weights if k.startswith("backbone.layer3.")})
        return f"ride{k}_{name}{'_narrow' if len(last) == 48 else ''}"
    return f"reslt_{name}" if "backbone.bn2.weight" in weights else name


def import_checkpoint(
    file: str | Path,
    run: Run | str,
    *,
    again: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Make a reference checkpoint the finished stage 1 of a run, and evaluate it where the run has data.

    Raises: ``h2t.Error`` as ``read_checkpoint`` does, and where its class count or channels differ from the run's data.
    """
    content = read_checkpoint(file)
    run = Run(run)
    step = run.step("stage1")
    data = dataset(run) if (run.path / "split.json").exists() else None
    if data is not None:
        _check_fit(content, data, str(file))
    with run.lock():
        if not again and step.done and not step.result.get("imported"):
            raise Error(
                f"run {run.path} has a stage 1 of its own; choose another run or give `--again`"
            )
        step.clear()
        step.begin({"model": content["model"], "head": "linear", "trainable": content["trainable"]})
        kind = {k: content[k] for k in ("model", "num_classes", "in_channels")}
        result = {
            "imported": {
                "file": Path(file).name,
                "sha256": hashlib.sha256(resolve(file).read_bytes()).hexdigest(),
                "epoch": content["epoch"],
                "best_acc1": content["best_acc1"],
            },
            "head": "linear",
            **kind,
        }
        result = step.finish(content["weights"], {}, result)
    return result if data is None else evaluate(run, device=device, precision=precision)["stage1"]


def _check_fit(kind: dict[str, Any], data, what: str) -> None:
    classes, channels = len(data.train.classes), data.train.images.shape[3]
    if kind["num_classes"] != classes:
        raise Error(f"{what} has {kind['num_classes']} classes, but the run's data have {classes}")
    if kind["in_channels"] != channels:
        raise Error(
            f"{what} takes {kind['in_channels']} channels, but the run's images have {channels}; set the parameter channels"
        )


def evaluate(
    run: Run | str, *, device: str = "auto", precision: str = "auto"
) -> dict[str, dict[str, Any]]:
    """Evaluate every finished step of a run on the test set, from its weights.

    Arguments: ``precision`` fp32 or bf16; auto is the one in which a step was measured before, so that the same comes out on
    another machine, or for a step just imported the device's. Returns: step name to result, with ``last`` as measured now. An imported
    step gains its outputs and measures in the run directory; what a step trained here has recorded is left as it is.
    Raises: ``h2t.Error`` where no step is finished or the run has no data.
    """
    run, device = Run(run, create=False), stepping.pick_device(device)
    steps = run.steps()
    if not steps:
        raise Error(
            f"run {run.path} has no finished step; train one with `h2t run RECIPE -p run {run.path}` or import one"
        )
    data = dataset(run)
    for step in steps:
        _check_fit(step.result, data, f"{step.name} of run {run.path}")
    with run.lock():
        test, val = loaders(run, data, device)[1], val_loader(run, data, device)
        return {
            step.name: _evaluate(step, data, test, val, str(device), precision) for step in steps
        }


def _evaluate(step: Step, data, test, val, device: str, precision: str) -> dict[str, Any]:
    model = load_model(step.run, step.name, device)
    if precision == "auto":
        precision = step.result.get("precision", precision)
    logits, scheme = stepping.predict(model, test, precision), step.run.params["groups"]
    counts, labels = data.train.counts, data.test.labels
    now = {"last": metrics.summary(logits.numpy(), labels, counts, scheme)}
    now["per_class"] = [
        None if np.isnan(a) else float(a) for a in metrics.per_class(logits.numpy(), labels)
    ]
    if val is not None:
        now["val"] = metrics.summary(
            stepping.predict(model, val, precision).numpy(), data.val.labels, counts, scheme
        )
    if "last" in step.result:
        return {**step.result, **now}
    if val is not None:
        now["val_is"] = VAL_SEEN
    result = {
        **step.result,
        **now,
        "counts": counts.tolist(),
        "groups": scheme,
        "device": device,
        "precision": stepping.precision_of(torch.device(device), precision),
    }
    outputs = {"logits": logits, "labels": torch.from_numpy(np.asarray(labels))}
    return step.finish(model.state_dict(), outputs, result)


def results_table(results: dict[str, dict[str, Any]], part: str = "last"):
    """Steps and their measures as a table: one row a step, accuracies and ECE in %.

    Arguments: ``results`` step name to the content of its result.json; ``part`` last, on the test set, or val, on the
    validation part. Returns: a pandas DataFrame, without the steps that have no such measures.
    """
    import pandas as pd

    rows = {name: {m: r[part].get(m) for m in MEASURES} for name, r in results.items() if part in r}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(MEASURES)).astype(float)


def head_norms(step: Step) -> np.ndarray:
    """The length of each class's row of the classifier, (C,). Raises ``h2t.Error`` where the step has no weights."""
    return step.weights()["head.weight"].norm(dim=1).numpy()


def classifier_of(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """A step's classifier as (weight (C, D), bias (C,)), zeros where it has no bias; one that
    experts share is spread out over the features of all of them."""
    weights = step.weights()
    weight = weights["head.weight"]
    bias = weights.get("head.bias", torch.zeros(len(weight)))
    if models.shares_head(
        step.result["model"]
    ):  # sum_k (W z_k + b) is one classifier of all features
        k = models.num_experts(step.result["model"])
        weight, bias = weight.repeat(1, k), k * bias
    return weight.numpy(), bias.numpy()
