"""Sweeps of tiny runs for the tests of this room, in processes that have all imported already."""

import contextlib
import json
import multiprocessing as mp
import sys
from multiprocessing import forkserver
from pathlib import Path

from click.testing import CliRunner

from h2t import Run
from h2t.cli import main
from h2t.study.sweep.job import PRELOAD, PRELOAD_NOTEBOOKS

RECIPE = {
    "source": "digits",
    "imbalance_factor": 20.0,
    "n_max": 40,
    "model": "resnet20",
    "stage1_epochs": 2,
    "warmup_epochs": 1,
    "stage2_epochs": 1,
    "fusion_ratio": [0.0, 0.3, 0.6],
    "seed": {"from": 0, "to": 1},
}
CONTEXT = mp.get_context("forkserver")


def recipe(folder: Path, **changes) -> Path:
    """A recipe of 6 tiny runs. Returns: its file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "grid.yaml"
    values = {**RECIPE, "run": str(folder / "root"), **changes}
    file.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()))
    return file


def server() -> int:
    """The process that all jobs of these tests are forked from. Returns: its id."""
    CONTEXT.set_forkserver_preload(["pytest", "h2t.cli", *PRELOAD, *PRELOAD_NOTEBOOKS])
    forkserver.ensure_running()
    return forkserver._forkserver._forkserver_pid


def cli(*arguments):
    server()
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def start(*arguments, out: Path) -> mp.Process:
    """The command line in a process of its own, which takes its jobs from the same server.

    Else it would start one anew, and import all for seconds. Arguments: ``out`` what it says.
    """
    server()
    address = forkserver._forkserver._forkserver_address
    arguments = [str(a) for a in arguments]
    process = CONTEXT.Process(target=_command, args=(arguments, address, out))
    process.start()
    return process


def _command(arguments: list[str], address: str, out: Path) -> None:
    own = forkserver._forkserver
    own._forkserver_address, own.ensure_running = address, lambda: None
    with open(out, "a") as said, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        sys.exit(main(arguments))


def found(root: Path) -> dict:
    """What the points came to: accuracies and the hash of the weights, by run and step."""
    return {
        (run.name, step): (result["last"], result["weights_sha256"])
        for run in sorted(root.iterdir())
        if (run / "done.json").exists()
        for step, result in Run(run).results().items()
    }
