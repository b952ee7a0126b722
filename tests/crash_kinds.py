"""What is killed at its crash points: a run, a sweep with its jobs, and notebooks in one process.

Each kind is a function of a folder and of a set of images, which does all that is still to be done
there.
"""

from __future__ import annotations

import multiprocessing as mp
import os
from pathlib import Path

import numpy as np
import yaml

from h2t.exchange.export import export
from h2t.lab.books import execute as notebooks
from h2t.pipeline import run_plain
from h2t.study.sweep.drive import sweep as drive
from h2t.study.sweep.job import Job, perform
from h2t.study.sweep.plan import plan
from h2t.study.sweep.pool import Pool

STAGES = {
    "imbalance_factor": 3.0,
    "crop_padding": 1,
    "model": "resnet20",
    "batch_size": 12,
    "stage1_epochs": 2,
    "warmup_epochs": 0,
    "stage2_epochs": 2,
    "control": True,
    "precision": "fp32",
    "eval_every": 1,
}


def data(folder: Path) -> Path:
    """A set of 12 training and 6 test images of three classes."""
    draw = np.random.default_rng(0)
    parts = {}
    for part, counts in (("train", (6, 4, 2)), ("test", (2, 2, 2))):
        labels = np.repeat(np.arange(3), counts)
        images = draw.integers(0, 256, (len(labels), 8, 8), np.uint8)
        parts |= {f"{part}_images": images, f"{part}_labels": labels[:, None]}
    np.savez(folder / "set.npz", **parts)
    return folder / "set.npz"


def _parameters(folder: Path, images: Path, **changes) -> dict:
    source = {"source": "npz", "root": str(images)}
    return {"run": str(folder / "run"), **source, **STAGES, **changes}


def run(folder: Path, images: Path) -> None:
    """Both stages of a run, and what is made of it."""
    run_plain(_parameters(folder, images), device="cpu")
    export(str(folder / "run"), "stage2-h2t")


class Forked(Pool):
    """One job at a time, forked from the sweep itself: what counts the calls goes with it."""

    def __init__(self):
        super().__init__(jobs=1, notebooks=False)
        self._context = mp.get_context("fork")


def sweep(folder: Path, images: Path) -> None:
    """Two runs that share a stage 1. A job that is killed is tried again by the sweep itself."""
    short = dict(stage1_epochs=1, stage2_epochs=1, control=False)
    recipe = images.with_name(f"{folder.name}.yaml")
    recipe.write_text(yaml.safe_dump(_parameters(folder, images, fusion_ratio=[0.2, 0.5], **short)))
    failed = drive(plan(recipe, books=None), Forked(), progress=False)
    assert not failed, failed


def inline(folder: Path, images: Path) -> None:
    """Notebooks 01 to 03 with the engine of a sweep's jobs, in this process."""
    os.environ.setdefault("H2T_FIGURES", "")  # as such a job does
    short = dict(compare_seeds=0, stage1_epochs=1, stage2_epochs=1)
    recipe = images.with_name(f"{folder.name}.yaml")
    recipe.write_text(yaml.safe_dump(_parameters(folder, images, **short)))
    parameters, books = notebooks.load_recipe(recipe, {})
    complete = notebooks.complete(parameters, books)
    perform(Job("run", "run", str(folder / "run"), complete, tuple(map(str, books[:3]))))


KINDS = {"run": run, "sweep": sweep, "inline": inline}
