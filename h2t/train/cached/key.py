"""Where a run's feature bank lies, and which files it has."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from h2t import encoders
from h2t.base import readers
from h2t.data.manifest import Manifest
from h2t.recipes.parameters import Stage2
from h2t.runs import OVER, Run
from h2t.train.rundata import encoder_of

FORMAT = 4  # of its files: banks of another one are not looked at
OF_IMAGES = ("pixels_sha256", "mean", "std", "image_size", "image_fit")
AUGMENTED = ("crop", "crop_padding", "pad_value", "color_jitter", "seed", "batch_size")
NORMALISED = ("bn_statistics", "fused_branch", "fusing_branch")


def bank_key(run: Run, config: Stage2) -> str:
    """What a bank depends on: the network's weights, the split, and how images are normalised and
    augmented."""
    params, encoder = run.params, encoder_of(run)
    with readers.reading(run.path / "params.yaml", OVER):
        parts = {name: params[name] for name in OF_IMAGES}
    parts |= {"split": Manifest.load(run.path).hash, "flip": config.flip, "format": FORMAT}
    if encoder:  # its features are there before there is a stage 1
        parts["weights"] = encoders.load(encoder).sha256
    else:
        parts["weights"] = run.step("stage1").result["weights_sha256"]
        parts |= {name: getattr(config, name) for name in (*AUGMENTED, *NORMALISED)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(run: Run, config: Stage2) -> Path:
    return run.path / f"bank-{bank_key(run, config)}"


def plain_parts(run: Run) -> tuple[str, ...]:
    """The parts that are not trained on: test, and val where there is one."""
    return ("test", "val") if "validation" in run.inputs["parts"] else ("test",)


def statistics_of(run: Run, config: Stage2) -> str:
    """The ``bn_statistics`` of a bank; an encoder has none that follow anything."""
    return "none" if encoder_of(run) else config.bn_statistics


def views_of(run: Run, config: Stage2, views: int) -> dict[str, list[str]]:
    """The names of the views of each branch, which with fixed statistics see the images alike.

    The fusing branch has one view: on CIFAR-100-LT, 1, 2 and 4 give the same accuracies to 0.2 of
    their spread over seeds up to p = 0.5.
    """
    own = [f"view{v}" for v in range(views)]
    return {"train": own, "lent": own if statistics_of(run, config) == "none" else ["lent0"]}


def missing(folder: Path, names: list[str]) -> list[str]:
    """Those arrays that are not there yet."""
    return [name for name in names if not (folder / f"{name}.npy").exists()]
