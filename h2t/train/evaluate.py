"""What a trained step answers: its model, logits, measures, features, and its classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from h2t import encoders, metrics, models
from h2t.base.errors import Error
from h2t.base.readers import reading
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
    run: RunData | Run | str,
    step: str = "stage1",
    device: str | torch.device = "auto",
    ranks: Ranks = ALONE,
) -> models.Classifier:
    """The trained model of a step, in eval mode; of several ``ranks`` the first reads it."""
    run = run_of(run)
    own, first = run.step(step), run.step("stage1")
    result, weights = ranks.first(lambda: (own.result, own.weights()))
    frozen = ranks.first(lambda: first.params.get("trainable", "all"))
    with reading(own.path / "weights.safetensors", own.over):
        classes, channels = len(weights["head.weight"]), 3  # of an encoder
        if not encoders.known(result["model"]):
            channels = weights["backbone.conv1.weight"].shape[1]
        if (classes, channels) != (result["num_classes"], result["in_channels"]):
            raise ValueError(f"{classes} classes and {channels} channels, other than result.json")
        how = {"head": result["head"], "in_channels": result["in_channels"]}
        model = models.build(result["model"], result["num_classes"], **how)
        model.load_state_dict(weights)
    models.freeze(model.backbone, frozen)
    return to_device(model, pick_device(device)).eval()


@torch.inference_mode()
def predict(
    model: nn.Module, loader, precision: str = "auto", batch_size: int = 500
) -> torch.Tensor:
    """Logits (N, C) of a whole split in order, float32 on the CPU, in eval mode, each process's
    share gathered."""
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
    """What result.json says of test logits (N, C): ``last``, the measures, ``per_class`` accuracies
    in %, None without images, and by which counts and groups."""
    answers = logits.numpy()
    each = metrics.per_class(answers, labels)
    return {
        "last": metrics.summary(answers, labels, counts, scheme),
        "per_class": [None if np.isnan(a) else float(a) for a in each],
        "counts": counts.tolist(),
        "groups": scheme,
    }


def evaluate(
    run: RunData | Run | str, *, device: str = "auto", precision: str = "auto"
) -> dict[str, dict[str, Any]]:
    """Evaluate every finished step of a run on the test set, from its weights.

    Arguments: ``precision`` auto is the one in which a step was measured before, so that the same
    comes out on another machine. Returns: step name to result, with ``last`` as measured now. An
    imported step gains its outputs and measures; what was trained here is left as recorded.
    """
    given, run = run, run_of(run)
    steps, data, device = run.steps(), dataset(given), pick_device(device)
    for step in steps:
        check_fit(step.result, data, f"{step.name} of run {run.path}")
    with run.lock():
        test, val = data.loader("test", device), data.loader("val", device)
        return {step.name: _evaluate(step, data, test, val, device, precision) for step in steps}


def _evaluate(step: Step, data: RunData, test, val, device, precision: str) -> dict[str, Any]:
    model, result = load_model(step.run, step.name, device), step.result
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
    now |= {"device": str(device), "precision": precision_of(device, precision)}
    outputs = {"logits": logits, "labels": torch.from_numpy(np.asarray(labels))}
    return step.finish(model.state_dict(), outputs, {**result, **now})


def check_fit(kind: dict[str, Any], data: RunData, what: str) -> None:
    """Refuse a network of other classes or channels than the data, called ``what``."""
    classes, channels = kind["num_classes"], kind["in_channels"]
    if classes != len(data.classes):
        raise Error(f"{what} has {classes} classes, but the run's data have {len(data.classes)}")
    if channels != data.channels:
        has = f"but the run's images have {data.channels}; set the parameter channels"
        raise Error(f"{what} takes {channels} channels, {has}")


def head_norms(step: Step) -> np.ndarray:
    """The length of each class's row of the classifier (C,)."""
    return step.weights()["head.weight"].norm(dim=1).numpy()


def classifier_of(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """A step's classifier: weight (C, D) and bias (C,), zeros where it has none; one that experts
    share is repeated for each."""
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
def features_of(run: RunData | Run | str, step: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features (N, D) and labels (N,) of a part (train, test, val), unaugmented, in eval
    mode."""
    model = load_model(run, step)
    images = dataset(run, progress=False).loader(part, pick_device())
    with threads_for(images, 128):
        z = torch.cat([model.features(x) for x, _ in images.batches(128)])
    return z.cpu().numpy(), images.labels.cpu().numpy()


@torch.inference_mode()
def one_batch(run: RunData | Run | str) -> tuple[torch.Tensor, torch.Tensor, tuple[str, str]]:
    """Stage 1's features (D,) of an image of the rarest class, to be fused, and of one of the most
    frequent, with the names of both."""
    data, model = dataset(run), load_model(run, "stage1", "cpu")
    images, counts = data.loader("train", torch.device("cpu")), data.train.counts
    pair = int(counts.argmin()), int(counts.argmax())
    first = [int((images.labels == c).nonzero()[0]) for c in pair]
    z = model.features(images.plain(torch.tensor(first)))
    return z[0], z[1], (data.classes[pair[0]], data.classes[pair[1]])
