"""Checkpoints in the layout of the H2T reference: read them safely, evaluate them, go on from them."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from h2t import metrics, models
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.base.readers import reading
from h2t.metrics import MEASURES
from h2t.models.imagenet_resnet import STAGES
from h2t.models.weights import ONLY, differs, read_weights
from h2t.runs import Run, Step
from h2t.train import device as stepping
from h2t.train.loop import VAL_SEEN
from h2t.train.prepare import dataset, loaders, val_loader
from h2t.train.stage1 import load_model


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
    weights = {re.sub(r"^(?!fc\.)", "backbone.", k): v for k, v in found.items()}
    weights = {re.sub(r"^fc\.", "head.", k): v for k, v in weights.items()}
    with reading(path, ONLY):
        epoch = _number("epoch", beside.get("epoch", 0))
        best = _number("best_acc1", beside.get("best_acc1", 0))
        _number("its_ece", beside.get("its_ece", 0))
    return {
        "weights": weights,
        **_recognise(path, weights),
        "trainable": "last_block" if "state_dict_block" in beside else "all",
        "epoch": int(epoch),
        "best_acc1": best,
    }


def _number(name: str, value: Any) -> float:
    single = isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex()
    if not single and not isinstance(value, int | float | np.number):
        raise ValueError(f"{name} is {type(value).__name__}, not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {float(value)}")
    return float(value)


def _blocks(weights: dict[str, torch.Tensor], stage: int) -> int:
    return len({k.split(".")[2] for k in weights if k.startswith(f"backbone.layer{stage}.")})


def _recognise(path: Path, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Which of our models the tensors belong to, by rebuilding it and comparing every shape."""
    known = f"known are {', '.join(models.BACKBONES)} with a linear or cosine classifier"
    head, stem = weights.get("head.weight"), weights.get("backbone.conv1.weight")
    if head is None and stem is not None:
        raise Error(
            f"{path} holds no classifier; a backbone alone is where a training begins: set "
            "pretrained to it"
        )
    if head is None or stem is None or head.dim() != 2 or stem.dim() != 4:
        raise Error(f"{path} holds another model ({known})")
    name = _name(weights)
    if name not in models.BACKBONES:
        raise Error(f"{path} holds another model: {name} ({known})")
    kind = {
        "model": name,
        "head": "linear" if "head.bias" in weights else "cosine",
        "num_classes": len(head),
        "in_channels": stem.shape[1],
    }
    if kind["in_channels"] not in (1, 3) or kind["num_classes"] < 2:
        what = f"{kind['in_channels']} channels and {kind['num_classes']} classes"
        raise Error(f"{path} holds a network of {what}; known are 1 or 3, and two or more")
    want = models.build(
        name, kind["num_classes"], head=kind["head"], in_channels=kind["in_channels"]
    ).state_dict()
    for k in {**want, **weights}:
        if why := differs(k, weights.get(k), want.get(k), name):
            raise Error(f"{path} holds another model: {why} ({known})")
    return kind


def _name(weights: dict[str, torch.Tensor]) -> str:
    """The name of the model that tensors of these names would be."""
    if "backbone.layer4.0.conv1.weight" in weights:
        stages = tuple(_blocks(weights, k) for k in (1, 2, 3, 4))
        block = "Bottleneck" if "backbone.layer1.0.conv3.weight" in weights else "BasicBlock"
        inner = weights.get("backbone.layer1.0.conv2.weight")
        if inner is not None and inner.dim() == 4 and inner.shape[1] == 4:
            return "resnext50"
        depths = [f"resnet{depth}" for depth, own in STAGES.items() if own == (block, stages)]
        return depths[0] if depths else f"{block} x {stages}"
    name = f"resnet{6 * _blocks(weights, 1) + 2}"
    last = weights.get("backbone.layer3.0.0.conv1.weight")
    if last is not None:  # a stage for each expert
        return f"ride{_blocks(weights, 3)}_{name}{'_narrow' if len(last) == 48 else ''}"
    return f"reslt_{name}" if "backbone.bn2.weight" in weights else name


def import_checkpoint(
    file: str | Path,
    run: Run | str,
    *,
    again: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Make a reference checkpoint the finished stage 1 of a run, and evaluate it where the run has
    data.

    Raises: ``h2t.Error`` as ``read_checkpoint`` does, and where its class count or channels differ
    from the run's data.
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
        step.begin({k: content[k] for k in ("model", "head", "trainable")})
        kind = {k: content[k] for k in ("model", "head", "num_classes", "in_channels")}
        result = {
            "imported": {
                "file": Path(file).name,
                "sha256": hashlib.sha256(resolve(file).read_bytes()).hexdigest(),
                "epoch": content["epoch"],
                "best_acc1": content["best_acc1"],
            },
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

    Arguments: ``precision`` fp32 or bf16; auto is the one in which a step was measured before, so
    that the same comes out on another machine, or for a step just imported the device's. Returns:
    step name to result, with ``last`` as measured now. An imported step gains its outputs and
    measures in the run directory; what a step trained here has recorded is left as it is.
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

    Arguments: ``results`` step name to the content of its result.json; ``part`` last, on the test
    set, or val, on the validation part. Returns: a pandas DataFrame, without the steps that have no
    such measures.
    """
    import pandas as pd

    rows = {name: {m: r[part].get(m) for m in MEASURES} for name, r in results.items() if part in r}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(MEASURES)).astype(float)


def head_norms(step: Step) -> np.ndarray:
    """The length of each class's row of the classifier, (C,). Raises ``h2t.Error`` where the step
    has no weights.
    """
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
