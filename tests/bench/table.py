"""How long the table of a large sweep takes: made-up run directories of the real layout."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from h2t.base.files import claim
from h2t.base.machine import environment
from h2t.recipes.parameters import Data, Stage1, Stage2, variants
from tests.bench.harness import Rows

RUNS = 10_000
TARGET = 30.0  # seconds for 10,000 runs of four steps each: "in seconds", not minutes


def bench_table(found: Rows) -> None:
    """Time ``h2t.table`` on made-up runs in a temporary folder, saving included.

    Every run has parameters of its own, a stage 1 and three stage 2s, and result.json files of 100
    classes. The files were written just before, so they are read from memory, not from the disk.
    """
    from h2t.study.compare.table import table

    with tempfile.TemporaryDirectory(prefix="h2t-bench-") as folder:
        env, seconds = environment(), []
        for k in range(RUNS):
            _write(Path(folder) / f"part{k // 1000}" / f"run{k}", k, env)
        for _ in range(3):
            start = time.perf_counter()
            rows = table(folder)
            seconds.append(round(time.perf_counter() - start, 2))
        size = (Path(folder) / "table.parquet").stat().st_size / 1e6
    found.add(runs=RUNS, rows=len(rows), slowest=max(seconds), parquet_MB=round(size, 1))
    found.judge("seconds, median of 3", float(np.median(seconds)), TARGET)


def _write(folder: Path, k: int, env: dict) -> None:
    """One run: parameters of its own, four finished steps."""
    r = np.random.default_rng(k)
    data = Data(imbalance_factor=float(r.choice([10, 50, 100])), split_seed=k)
    first, second = Stage1(seed=k), Stage2(seed=k, fusion_ratio=float(r.integers(1, 10) / 10))
    mark = hashlib.sha256(str(k).encode()).hexdigest()
    steps = {
        "stage1": first,
        **{f"stage2-{name}": config for name, config in variants(second).items()},
    }
    claim(folder, "run")
    (folder / "params.yaml").write_text(
        yaml.dump(
            {**data.to_dict(), "pixels_sha256": mark, "mean": [0.5] * 3, "std": [0.2] * 3},
            Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        )
    )
    (folder / "split.json").write_text(
        json.dumps(
            {"imbalance_factor": data.imbalance_factor, "hash": mark, "counts": list(range(100))}
        )
    )
    header = json.dumps(
        {"head.weight": {"dtype": "F32", "shape": [100, 64], "data_offsets": [0, 0]}}
    ).encode()
    for name, config in steps.items():
        (folder / name).mkdir()
        accuracy = r.uniform(0, 100, 100)
        measures = dict.fromkeys(
            ("all", "top5", "balanced", "many", "medium", "few", "ece"), float(accuracy.mean())
        )
        result = {
            "step": name,
            "params": config.to_dict(),
            "epochs": 200,
            "last": measures,
            "best": {"epoch": 200, **measures},
            "groups": "field",
            "per_class": accuracy.tolist(),
            "counts": list(range(100)),
            "seconds": 100.0,
            "device": "cpu",
            "precision": "fp32",
            "num_classes": 100,
            "in_channels": 3,
            "model": first.model,
            "head": first.head,
            "weights_sha256": hashlib.sha256(f"{k}{name}".encode()).hexdigest(),
            "environment": env,
        }
        (folder / name / "result.json").write_text(json.dumps(result, indent=1))
        lines = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        (folder / name / "params.yaml").write_text(
            "".join(f"{a}: {b}\n" for a, b in lines.items()) + f"stage1_weights: {mark}\n"
        )
        (folder / name / "weights.safetensors").write_bytes(
            len(header).to_bytes(8, "little") + header
        )
