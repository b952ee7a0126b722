"""What tells one feature bank of a run from another."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from h2t import encoders
from h2t.base import readers
from h2t.recipes.parameters import Stage2
from h2t.runs import OVER, Run
from h2t.train.bn_statistics import BN_BATCHES
from h2t.train.rundata import encoder_of


def bank_key(run: Run, config: Stage2) -> str:
    """What a bank depends on: stage 1's weights, the split, and how images are normalised and
    augmented."""
    params, split = run.params, split_of(run)["hash"]
    with readers.reading(run.path / "params.yaml", OVER):
        images, size = params["pixels_sha256"], params["image_size"]
    if params.get("encoder"):  # its features are there before there is a stage 1
        weights = encoders.load(encoder_of(run)).sha256
        how = [images, params["mean"], params["std"], size, config.flip]
        return _short({"weights": weights, "split": split, "how": how, "format": 1})
    augment = (config.crop_padding, config.pad_value, config.flip, config.seed, config.batch_size)
    parts = {
        "weights": run.step("stage1").result["weights_sha256"],
        "split": split,
        "images": images,
        "statistics": [params["mean"], params["std"], size],
        "augment": augment,
        "bn": [config.bn_statistics, BN_BATCHES, config.fused_branch, config.fusing_branch],
        "format": 3,
    }
    files = (config.crop, config.color_jitter, params.get("image_fit", "stretch"))
    if files != ("padded", 0, "stretch"):
        parts["files"] = [config.crop, config.color_jitter, params.get("image_fit")]
    return _short(parts)


def split_of(run: Run) -> dict[str, Any]:
    """What split.json says; ``hash`` is there."""
    record = readers.read_json(path := run.path / "split.json", OVER)
    with readers.reading(path, OVER):
        readers.agrees(record, {"hash": str}, ["hash"])
    return record


def _short(parts: dict) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
