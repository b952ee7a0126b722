"""What a trained step answers: its model, logits, measures, features, and its classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from h2t import encoders, metrics, models
from h2t.base.errors import Error
from h2t.base.readers import reading
from h2t.metrics import MEASURES
from h2t.models.batchnorm import fold
from h2t.runs import Run, Step
from h2t.train.device import autocast, pick_device, precision_of, threads_for, to_device
from h2t.train.processes.ranks import ALONE, Ranks
from h2t.train.rundata import RunData, dataset, run_of

PIXELS_AT_ONCE = 8_000_000  # of a batch whose network only answers: 159 images of 224 x 224
VAL_SEEN = (
    "stage 1 was imported: it may have been trained on these images, so that they are no validation"
)


def load_model(
    run: RunData | Run | str, step: str = "stage1", device: str = "auto", ranks: Ranks = ALONE
) -> models.Classifier:
    """The trained model of a step, in eval mode; of several ``ranks`` the first reads it.

    Raises: ``h2t.Error`` where the step has none.
    """
    run = run_of(run)
    result, weights, frozen = ranks.first(
        lambda: (
            run.step(step).result,
            run.step(step).weights(),
            run.step("stage1").params.get("trainable", "all"),
        )
    )
    own = run.step(step)
    with reading(own.path / "weights.safetensors", own.over):
        kind = len(weights["head.weight"]), _channels(result["model"], weights)
        if kind != (result["num_classes"], result["in_channels"]):  # before anything is made
            raise ValueError(f"{kind[0]} classes and {kind[1]} channels, other than result.json")
        how = {"head": result["head"], "in_channels": result["in_channels"]}
        model = models.build(result["model"], result["num_classes"], **how)
        model.load_state_dict(weights)
    models.freeze(model.backbone, frozen)
    return to_device(model, pick_device(device)).eval()


def _channels(model: str, weights: dict[str, torch.Tensor]) -> int:
    """How many channels a backbone's weights take; an encoder has three."""
    return 3 if encoders.known(model) else weights["backbone.conv1.weight"].shape[1]


@torch.inference_mode()
def predict(
    model: nn.Module, loader, precision: str = "auto", batch_size: int = 500
) -> torch.Tensor:
    """Logits of a whole split in order, in eval mode, each process's share gathered; of large
    images fewer at a time.

    Returns: (N, C) float32 on the CPU.
    """
    # folding pays on the CPU; on a GPU the copy takes longer than what it saves
    network = fold(model) if loader.device.type == "cpu" else model
    training = model.training
    model.eval()
    batch_size = min(batch_size, max(1, PIXELS_AT_ONCE // (loader.height * loader.width)))
    # forward alone is about a quarter of a training step's work
    with autocast(loader.device, precision), threads_for(loader, batch_size // 4):
        logits = torch.cat([network(images).float() for images, _ in loader.batches(batch_size)])
    model.train(training)
    return Ranks(*loader.shard).gather(logits, len(loader)).cpu()


def measures(logits: torch.Tensor, labels: np.ndarray, counts: np.ndarray, scheme: str) -> dict:
    """What result.json says of logits (N, C): ``last``, the measures, and ``per_class``, accuracies
    in %, None for a class without images."""
    answers = logits.numpy()
    each = metrics.per_class(answers, labels)
    return {
        "last": metrics.summary(answers, labels, counts, scheme),
        "per_class": [None if np.isnan(a) else float(a) for a in each],
    }


def evaluate(
    run: RunData | Run | str, *, device: str = "auto", precision: str = "auto"
) -> dict[str, dict[str, Any]]:
    """Evaluate every finished step of a run on the test set, from its weights.

    Arguments: ``precision`` fp32 or bf16; auto is the one in which a step was measured before, so
    that the same comes out on another machine, or for a step just imported the device's.
    Returns: step name to result, with ``last`` as measured now. An imported step gains its outputs
    and measures in the run directory; what a step trained here has recorded is left as it is.
    Raises: ``h2t.Error`` where no step is finished or the run has no data.
    """
    given, run = run, run_of(run)
    steps = run.steps()
    if not steps:
        raise Error(
            f"run {run.path} has no finished step; "
            f"train one with `h2t run RECIPE -p run {run.path}` or import one"
        )
    data, device = dataset(given), pick_device(device)
    for step in steps:
        check_fit(step.result, data, f"{step.name} of run {run.path}")
    with run.lock():
        test, val = data.loader("test", device), data.loader("val", device)
        return {step.name: _evaluate(step, data, test, val, device, precision) for step in steps}


def _evaluate(step: Step, data: RunData, test, val, device, precision: str) -> dict[str, Any]:
    model, result = load_model(step.run, step.name, str(device)), step.result
    if precision == "auto":
        precision = result.get("precision", precision)
    logits, counts, labels = predict(model, test, precision), data.counts, data.test.labels
    now = measures(logits, labels, counts, data.scheme)
    if val is not None:
        answers = predict(model, val, precision).numpy()
        now["val"] = metrics.summary(answers, data.val.labels, counts, data.scheme)
    if "last" in result:
        return {**result, **now}
    if val is not None:
        now["val_is"] = VAL_SEEN
    now |= {
        "counts": counts.tolist(),
        "groups": data.scheme,
        "device": str(device),
        "precision": precision_of(device, precision),
    }
    outputs = {"logits": logits, "labels": torch.from_numpy(np.asarray(labels))}
    return step.finish(model.state_dict(), outputs, {**result, **now})


def check_fit(kind: dict[str, Any], data: RunData, what: str) -> None:
    """Refuse a network for other classes or channels than a run's data have. Raises ``h2t.Error``
    that begins with ``what``."""
    if kind["num_classes"] != len(data.classes):
        raise Error(
            f"{what} has {kind['num_classes']} classes, but the run's data have {len(data.classes)}"
        )
    if kind["in_channels"] != data.channels:
        raise Error(
            f"{what} takes {kind['in_channels']} channels, but the run's images have "
            f"{data.channels}; set the parameter channels"
        )


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
    has no weights."""
    return step.weights()["head.weight"].norm(dim=1).numpy()


def classifier_of(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """A step's classifier as (weight (C, D), bias (C,)), zeros where it has no bias; one that
    experts share is spread out over the features of all of them."""
    weights, model = step.weights(), step.result["model"]
    with reading(step.path / "weights.safetensors", step.over):
        weight = weights["head.weight"]
        bias = weights.get("head.bias", torch.zeros(len(weight)))
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(f"its classifier is {tuple(weight.shape)}, {tuple(bias.shape)}")
        if models.shares_head(model):  # sum_k (W z_k + b) is one classifier of all features
            k = models.num_experts(model)
            weight, bias = weight.repeat(1, k), k * bias
    return weight.numpy(), bias.numpy()


@torch.inference_mode()
def features_of(
    run: RunData | Run | str, step: str, part: str = "test", device: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features of a step's backbone in eval mode, unaugmented.

    Arguments: ``part`` train, test or val. Returns: features (N, D) float32 and labels (N,).
    Raises: ``h2t.Error`` where the step or the data are missing.
    """
    model = load_model(run, step, device)
    images = dataset(run, progress=False).loader(part, pick_device(device))
    with threads_for(images, 128):
        z = torch.cat([model.features(x) for x, _ in images.batches(128)])
    return z.cpu().numpy(), images.labels.cpu().numpy()


@torch.inference_mode()
def one_batch(run: RunData | Run | str) -> tuple[torch.Tensor, torch.Tensor, tuple[str, str]]:
    """Features of one image of the rarest and one of the most frequent class, to show what fusion
    does to them.

    Returns: the fused and the fusing feature (D,), stage 1's backbone in eval mode, and the names
    of the two classes.
    """
    data, model = dataset(run), load_model(run, "stage1", "cpu")
    images, counts = data.loader("train", torch.device("cpu")), data.train.counts
    pair = int(counts.argmin()), int(counts.argmax())
    first = [int((images.labels == c).nonzero()[0]) for c in pair]
    z = model.features(images.plain(torch.tensor(first)))
    return z[0], z[1], (data.classes[pair[0]], data.classes[pair[1]])
