"""A job of a sweep: what it is made from, and doing it in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing as mp
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h2t.base.errors import Error, named
from h2t.base.files import TEMPORARY, link, write_json, write_yaml
from h2t.base.readers import read_json, read_yaml
from h2t.recipes import parameters as config
from h2t.runs import Run, Step
from h2t.study.sweep.store import Store

# What a job needs and takes seconds to import: a warm process has it before the job begins.
PRELOAD = ("h2t.train.ready", "h2t.train.stage2", "h2t.exchange.reference")
PRELOAD += ("pandas", "filelock", "safetensors.torch", "sklearn.datasets")
PRELOAD_NOTEBOOKS = ("h2t.lab.books.execute", "h2t.lab.books.inline", "h2t.lab.books.live")
PRELOAD_NOTEBOOKS += ("h2t.lab.books.warm", "h2t.train.cached.steps", "ipywidgets")
PRELOAD_NOTEBOOKS += ("ipykernel.debugger", "ipykernel.inprocess.ipkernel", "scipy.stats")

# Files of a run that speak of its job, not of its data.
OWN = ("recipe.yaml", "done.json", "log.txt")
DONE = {"key": str, "notebooks": [str]}
AGAIN = "delete it and run the sweep again: what is trained is kept"


@dataclass(frozen=True)
class Job:
    """A piece of a sweep that runs by itself.

    ``name`` is the run's path under the root, ``run`` the whole path; ``kind`` is stage1 (data and
    stage 1, shared by the runs that name it) or run (a point of the grid). ``notebooks`` are
    executed, and what they leave out is trained by function calls. ``needs`` names the stage 1 that
    is taken over; ``of`` says to which values of the grid a stage 1 belongs. ``store`` is the URL
    of the object store that holds the runs, if one does.
    """

    name: str
    kind: str
    run: str
    parameters: dict[str, Any]
    notebooks: tuple[str, ...] = ()
    needs: str = ""
    of: str = ""
    store: str = ""

    @property
    def label(self) -> str:
        """What a person calls it: the run's name, or of which values of the grid a stage 1 is."""
        if self.kind == "run":
            return self.name
        return f"stage 1 of {self.of}" if self.of else "stage 1"

    @property
    def root(self) -> Path:
        """The folder of the sweep's runs on this machine."""
        return Path(self.run).parents[len(Path(self.name).parts) - 1]

    @property
    def books(self) -> list[str]:
        return [Path(b).stem for b in self.notebooks]

    @property
    def done(self) -> bool:
        file = Path(self.run) / "done.json"
        if not file.exists():
            return False
        mark = read_json(file, AGAIN, DONE, DONE)
        return mark["key"] == key_of(self.parameters) and set(self.books) <= set(mark["notebooks"])

    @property
    def recorded(self) -> dict[str, Any]:
        """The parameters with which its run was begun; empty where it was not."""
        file = Path(self.run) / "recipe.yaml"
        return read_yaml(file, AGAIN) if file.exists() else {}


def key_of(parameters: dict[str, Any]) -> str:
    """A hash of what a run is made from: all its parameters, except where it lies."""
    made = {k: v for k, v in parameters.items() if k != "run"}
    return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()


def perform(job: Job) -> None:
    """Do a job, or what is left of it. Raises: ``h2t.Error``, or whatever went wrong."""
    if not job.store:
        return _perform(job)
    store = Store(job.store, job.root)
    for name in filter(None, (job.needs, job.name)):
        store.pull(name)
    with store.following(job.name):
        _perform(job)


def _perform(job: Job) -> None:
    run = Run(job.run)
    # `h2t run .../recipe.yaml` repeats this run by itself
    write_yaml(run.path / "recipe.yaml", job.parameters)
    _wait_for(run)
    if job.needs:
        adopt(Run(job.root / job.needs, create=False).step("stage1"), run.step("stage1"))
    _execute(job, run)
    _train(job, run)
    write_json(run.path / "done.json", {"key": key_of(job.parameters), "notebooks": job.books})


def _wait_for(run: Run, seconds: float = 30) -> None:
    """Give a process that did this job before time to let go of the run."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with run.lock(), run.lock("notebooks"):
                return
        except Error:
            time.sleep(0.2)


def _execute(job: Job, run: Run) -> None:
    if not job.notebooks:
        return
    from h2t.lab.books import execute as notebooks

    with run.lock("notebooks"):
        for book in map(Path, job.notebooks):
            if not notebooks.done(run, book, job.parameters):
                notebooks.execute(run, book, job.parameters)


def _train(job: Job, run: Run) -> None:
    """Train what the notebooks have not."""
    from h2t.pipeline import train_stage1, train_variants
    from h2t.train.prepare import prepare
    from h2t.train.rundata import dataset

    if job.kind == "run":
        data = run if "03_stage2" in job.books else dataset(run)
        stage2, control = config.Stage2.of(job.parameters), job.parameters.get("control", False)
        train_variants(data, stage2, control, progress=False)
    elif not run.step("stage1").done:
        data = prepare(run, config.Data.of(job.parameters), progress=False)
        train_stage1(data, config.Stage1.of(job.parameters), progress=False)


def adopt(source: Step, target: Step) -> None:
    """Take a finished step over from another run, by hard links where the file system has them,
    with the data and notebooks that led to it; what is there already stays."""
    here, there, result = target.run.path, source.run.path, source.result
    with target.run.lock():
        led = [*_files(there / "notebooks"), *_files(there / "figures")]
        for file in [*_files(there), *(f for f in led if f.name.startswith(("01_", "02_")))]:
            if not (place := here / file.relative_to(there)).exists():
                link(file, place)
        if target.done:
            return
        target.clear()
        for file in _files(source.path):
            if file.name != "result.json":
                link(file, target.path / file.name)
        adopted = {"step": target.name, "adopted_from": os.path.relpath(source.path, here)}
        write_json(target.path / "result.json", {**result, **adopted})


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder that another run may want: whole ones, and none of a job or a lock."""
    for file in folder.iterdir() if folder.is_dir() else ():
        passing = file.name.startswith(".") or file.name.endswith((TEMPORARY, ".part.ipynb"))
        if file.is_file() and not passing and file.name not in OWN:
            yield file


def child(job: Job, environment: dict[str, str], threads: int, pipe) -> None:
    """The body of a job's process: held to its share of the machine, and gone when its parent is.

    Sends ("done", "") or ("failed", why) through ``pipe``; what it says goes to the run's log.txt.
    """
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to handle
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    os.environ.update({**environment, **dict.fromkeys(limits, str(threads))})
    os.environ["TQDM_DISABLE"] = "1"  # the sweep shows how far each job is
    # The executed notebooks hold the figures; drawing them for files too takes as long again.
    os.environ.setdefault("H2T_FIGURES", "")
    with contextlib.suppress(OSError, Error):
        log = open(Run(job.run).path / "log.txt", "a", buffering=1)  # noqa: SIM115
        sys.stdout = sys.stderr = log
    try:
        import torch

        torch.set_num_threads(threads)
        perform(job)
        pipe.send(("done", ""))
    except BaseException as e:
        with contextlib.suppress(OSError):  # a full disk has no room for this either
            traceback.print_exc()
        pipe.send(("failed", reason(e)))


def reason(e: BaseException) -> str:
    """Why a job failed."""
    return str(e) if isinstance(e, Error) else named(type(e).__name__, str(e))


def _end_with_parent() -> None:
    """End this process when the sweep that started it ends, however that comes about."""

    def watch() -> None:
        parent.join()
        os._exit(1)

    if (parent := mp.parent_process()) is not None:
        threading.Thread(target=watch, daemon=True).start()
