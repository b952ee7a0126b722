"""The files of a run: everything that a step, a table or a figure reads of it."""

import contextlib
from pathlib import Path

import torch

from h2t import Run, models
from h2t.base.errors import Error
from h2t.data.manifest import Manifest
from h2t.exchange.answers import wrong_answers
from h2t.exchange.used import inputs
from h2t.pipeline import run_plain
from h2t.study.compare.table import table
from h2t.train.evaluate import classifier_of, load_model
from h2t.train.rundata import dataset
from tests.crash_kinds import data
from tests.fuzz.damage import kind

STEPS = ("stage1", "stage2-h2t")
FILES = [f"run/{step}/{name}" for step in STEPS for name in ("params.yaml", "metrics.jsonl")]
FILES += [f"run/{step}/{name}.safetensors" for step in STEPS for name in ("weights", "outputs")]
FILES += [f"run/{step}/result.json" for step in STEPS] * 3
FILES += [f"run/{name}" for name in ("params.yaml", "split.json", "inputs.json", "indices.npy")]
FILES += ["run/labels.npy", "run/h2t.json", "run/stage1/checkpoint.pt"]


def make(folder: Path) -> None:
    recipe = {
        "source": "npz",
        "root": str(data(folder)),
        "imbalance_factor": 3.0,
        "model": "resnet20",
    }
    recipe |= {"stage1_epochs": 1, "stage2_epochs": 1, "batch_size": 12, "crop_padding": 1}
    run_plain({"run": str(folder / "run"), **recipe, "warmup_epochs": 0}, device="cpu")
    model = models.build("resnet20", 3, in_channels=1)
    state = {"epoch": 1, "model": model.state_dict(), "optimizer": {"state": {}}}
    Run(folder / "run").step("stage1").save_checkpoint(state, [{"epoch": 1, "loss": 1.0}])


def use(folder: Path) -> str:
    """All readings, each by itself; what they say of damage, to be looked at."""
    said = []

    def read(do) -> None:
        try:
            do()
        except Error as e:
            said.append(str(e))

    read(lambda: table(folder, save=False))
    with contextlib.suppress(Error):
        run = Run(folder / "run", create=False)
        steps = [run.step(name) for name in STEPS]
        read(run.results)
        read(lambda: Manifest.load(run.path))
        read(lambda: run.inputs["classes"])
        read(lambda: inputs(run))
        read(lambda: dataset(run, progress=False))
        for step in steps:
            read(lambda s=step: s.history())
            read(lambda s=step: s.load_checkpoint())
            read(lambda s=step: s.begin(s.params))
            read(lambda s=step: classifier_of(s))
            read(lambda s=step: wrong_answers(s, run.inputs["classes"]))
            read(lambda s=step: load_model(run, s.name, "cpu")(torch.zeros(1, 1, 8, 8)))
    assert all(len(text) < 1000 and "\n" not in text for text in said), said
    return " | ".join(said)


run = kind(make, use, FILES)
