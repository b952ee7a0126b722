"""Run directories with made-up results: the files of finished steps, without any training."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

import h2t
from h2t import Data, Stage1, Stage2, metrics
from h2t.base.files import claim
from h2t.recipes.parameters import variants

COUNTS = np.array([200, 150, 60, 30, 10, 5])
LABELS = np.repeat(np.arange(6), 20)
REVISION = "a" * 40
ENVIRONMENT = {
    "h2t": "0.1.0",
    "python": "3.12",
    "packages": {"torch": "2"},
    "cpu": "c",
    "cores": 2,
    "time": "t",
}

CIFAR = {"batch_size": 128, "crop_padding": 4, "flip": True}  # what is published for CIFAR-100-LT


def make_run(
    folder: Path,
    seed: int = 0,
    *,
    imbalance_factor: float = 50.0,
    ratio: float = 0.3,
    quality=None,
    split_seed: int = 0,
    revision: str = REVISION,
    device: str = "cpu",
    names=("dr", "dr-both", "h2t"),
    **stage1,
) -> Path:
    """A run with a stage 1 and stage 2s. ``quality`` step name to the mean margin of its logits:
    higher is better."""
    quality = {
        "stage1": 0.5,
        "stage2-dr": 1.0,
        "stage2-dr-both": 1.1,
        "stage2-h2t": 1.6,
        **(quality or {}),
    }
    data = Data(source="digits", imbalance_factor=imbalance_factor, split_seed=split_seed)
    split = hashlib.sha256(f"{imbalance_factor} {split_seed}".encode()).hexdigest()
    claim(folder, "run")
    params = {**data.to_dict(), "pixels_sha256": "p" * 64, "mean": [0.5], "std": [0.2]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / "split.json").write_text(
        json.dumps({"imbalance_factor": imbalance_factor, "hash": split, "counts": COUNTS.tolist()})
    )
    released = {**CIFAR, "model": "resnet32", "stage1_weight_decay": 2e-4}
    first = Stage1(**{**released, "seed": seed, "stage1_epochs": 4, **stage1})
    second = variants(Stage2(**CIFAR, seed=seed, fusion_ratio=ratio, stage2_epochs=3))
    base = make_step(
        folder,
        "stage1",
        first.to_dict(),
        quality["stage1"],
        (seed, split),
        revision,
        device,
        seconds=100.0,
    )
    for name in names:
        extra = {"stage1_weights": base["weights_sha256"]}
        make_step(
            folder,
            f"stage2-{name}",
            second[name].to_dict(),
            quality[f"stage2-{name}"],
            (seed, split, str(second[name])),
            revision,
            device,
            seconds=10.0,
            **extra,
        )
    return folder


def repeats(folder: Path, seeds: int, **how) -> Path:
    """A run whose stage 2s were trained for several seeds, as notebook 03 does."""
    run = make_run(folder, 0, **how)
    base = json.loads((run / "stage1" / "result.json").read_text())["weights_sha256"]
    for seed in range(1, seeds):
        other = make_run(folder.parent / f".{folder.name}-{seed}", seed, **how)
        for step in sorted(other.glob("stage2-*")):
            target = run / f"{step.name}-s{seed}"
            shutil.move(step, target)
            file = target / "result.json"
            result = json.loads(file.read_text()) | {"step": target.name, "stage1_weights": base}
            file.write_text(json.dumps(result))
        shutil.rmtree(other)
    return run


def make_step(
    folder: Path,
    name: str,
    params: dict,
    quality: float,
    draw,
    revision=REVISION,
    device="cpu",
    seconds=10.0,
    **more,
) -> dict:
    """One finished step: params.yaml, metrics.jsonl, weights, test outputs, result.json. Returns:
    the result."""
    generator = np.random.default_rng(
        int(hashlib.sha256(repr(draw[:2]).encode()).hexdigest()[:8], 16)
    )
    logits = generator.normal(size=(len(LABELS), 6)).astype(
        np.float32
    )  # the same noise for all steps of a seed: they are paired
    logits += np.random.default_rng(len(name)).normal(size=logits.shape).astype(np.float32) * 0.3
    logits[np.arange(len(LABELS)), LABELS] += quality
    step = folder / name
    step.mkdir()
    (step / "params.yaml").write_text(yaml.safe_dump({**params, **more}, sort_keys=False))
    last = metrics.summary(logits, LABELS, COUNTS)
    epochs = params.get("stage1_epochs", params.get("stage2_epochs"))
    rows = _history(epochs, seconds, last)
    (step / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    shapes = {"head.weight": (6, 8), "backbone.bn.running_mean": 5, "backbone.w": (3, 4)}
    weights = {k: np.zeros(shape, np.float32) for k, shape in shapes.items()}
    save_file(weights, step / "weights.safetensors")
    save_file({"logits": logits, "labels": LABELS}, step / "outputs.safetensors")
    result = {
        "step": name,
        "params": params,
        "epochs": epochs,
        "last": last,
        "best": {"epoch": epochs - 1, **last, "all": last["all"] + 1},
        "per_class": metrics.per_class(logits, LABELS).tolist(),
        "counts": COUNTS.tolist(),
        "groups": "field",
        "seconds": seconds,
        "device": device,
        "precision": "fp32",
        "num_classes": 6,
        "in_channels": 1,
        "model": params.get("model", "resnet20"),
        "head": "linear",
        "parameters": 6 * 8 + 3 * 4,
        "width": 8,
        **more,
        "weights_sha256": hashlib.sha256(repr((name[:6], params, more, draw)).encode()).hexdigest(),
        "environment": {**ENVIRONMENT, "revision": revision, "device": device},
    }
    (step / "result.json").write_text(json.dumps(result))
    return result


def _history(epochs: int, seconds: float, last: dict) -> list[dict]:
    """The rows of metrics.jsonl: every second epoch and the last are evaluated."""
    rows = []
    for e in range(1, epochs + 1):
        rows.append({"epoch": e, "lr": 0.1, "loss": 2 / e, "seconds": seconds / epochs})
        if e % 2 == 0 or e == epochs:
            rows[-1] |= {k: None if v is None else v * e / epochs for k, v in last.items()}
    return rows


def adopt(source: Path, target: Path, *steps: str) -> None:
    """Copy finished steps into another run, as a sweep does."""
    for name in steps:
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(source / name, target / name)
        result = json.loads((target / name / "result.json").read_text())
        (target / name / "result.json").write_text(
            json.dumps({**result, "adopted_from": os.path.relpath(source / name, target)})
        )


def sweep(root: Path, seeds=5, ratios=(0.3,), factors=(50.0,), **how) -> Path:
    """Runs that share a stage 1 and both controls, in ``root/shared``, and one run a ratio that
    holds copies of them."""
    for factor in factors:
        for seed in range(seeds):
            shared = make_run(
                root / "shared" / f"if{factor:g} s{seed}",
                seed,
                imbalance_factor=factor,
                names=("dr", "dr-both"),
                **how,
            )
            for ratio in ratios:
                run = make_run(
                    root / f"if{factor:g}" / f"p{ratio:g} s{seed}",
                    seed,
                    imbalance_factor=factor,
                    ratio=ratio,
                    **how,
                )
                adopt(shared, run, "stage1", "stage2-dr", "stage2-dr-both")
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = sweep(tmp_path_factory.mktemp("many"), seeds=5, ratios=(0.1, 0.3), factors=(10.0, 50.0))
    return root, h2t.table(root, save=False)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    root = tmp_path_factory.mktemp("single")
    make_run(root / "r")
    return root, h2t.table(root, save=False)
