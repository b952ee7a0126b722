"""A sweep of twelve tiny runs, for the tests of this room."""

import json
import sys
from pathlib import Path

from click.testing import CliRunner

from h2t import Run
from h2t.cli import main

RECIPE = {
    "source": "digits",
    "imbalance_factor": 20.0,
    "stage1_epochs": 2,
    "warmup_epochs": 1,
    "stage2_epochs": 1,
    "fusion_ratio": [0.0, 0.3, 0.6],
    "seed": {"from": 0, "to": 3},
}
COMMAND = [sys.executable, "-m", "h2t", "sweep"]


def recipe(folder: Path, **changes) -> Path:
    """A recipe of 12 tiny runs. Returns: its file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "grid.yaml"
    values = {**RECIPE, "run": str(folder / "root"), **changes}
    file.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()))
    return file


def cli(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def found(root: Path) -> dict:
    """What the points came to: accuracies and the hash of the weights, by run and step."""
    return {
        (run.name, step): (result["last"], result["weights_sha256"])
        for run in sorted(root.iterdir())
        if (run / "done.json").exists()
        for step, result in Run(run).results().items()
    }
