"""The jobs of a sweep, and doing one of them: in a process of its own, into a run directory of its own."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h2t.base.errors import Error, named
from h2t.base.files import link, write_json, write_yaml
from h2t.recipes import parameters as config
from h2t.recipes.names import STEPS
from h2t.runs import Run, Step

# modules that a job needs and that take seconds to import; a warm process has them before the job begins
PRELOAD = (
    "torch",
    "h2t.train.stage2",
    "h2t.exchange.reference",
    "pandas",
    "filelock",
    "safetensors.torch",
)
PRELOAD_NOTEBOOKS = (
    "matplotlib.pyplot",
    "h2t.plots",
    "h2t.lab.books.inline",
    "h2t.lab.books.execute",
    "h2t.lab.books.live",
    "h2t.train.cached.steps",
    "IPython.display",
    "ipykernel.debugger",
    "ipykernel.inprocess.ipkernel",
    "matplotlib_inline.backend_inline",
    "ipywidgets",
    "tqdm.auto",
    "h2t.lab.books.warm",
)

OWN = (
    "job.json",
    "recipe.yaml",
    "done.json",
    "failed.json",
    "log.txt",
)  # files of a run that speak of its job, not of its data


@dataclass(frozen=True)
class Job:
    """A piece of a sweep that runs by itself.

    ``name`` is the run's path under the root. ``kind`` is stage1 (data and stage 1, shared by the runs that name them alike),
    stage2 (one stage-2 variant that several runs hold) or run (a point of the grid). ``stage1`` and ``variants`` say from
    which runs (paths) finished steps are taken over, ``variants`` as (name here, path, name there). ``notebooks`` are
    executed, if there are none the steps are trained by function calls. ``needs`` names what must be done before, ``of`` the
    values of the grid that shared work belongs to. ``store`` is the URL of the object store that holds the runs, if one does.
    """

    name: str
    kind: str
    run: str
    parameters: dict[str, Any]
    notebooks: tuple[str, ...] = ()
    stage1: str = ""
    variants: tuple[tuple[str, str, str], ...] = ()
    needs: tuple[str, ...] = ()
    of: str = ""
    store: str = ""

    @property
    def label(self) -> str:
        """What a person calls it: the run's name, or for shared work what it is and of which values."""
        if self.kind == "run":
            return self.name
        step = "stage1" if self.kind == "stage1" else f"stage2-{self.parameters['variant']}"
        return STEPS.get(step, step) + self.of

    @property
    def key(self) -> str:
        return key_of(self.parameters)

    @property
    def done(self) -> bool:
        mark = _read(self.run, "done.json")
        return mark.get("key") == self.key and {Path(b).stem for b in self.notebooks} <= set(
            mark["notebooks"]
        )

    @property
    def recorded(self) -> dict[str, Any]:
        """The parameters with which its run was begun; empty where it was not."""
        return _read(self.run, "job.json").get("parameters", {})


def key_of(parameters: dict[str, Any]) -> str:
    """A hash of what a run is made from: all its parameters, except where it lies."""
    made = {k: v for k, v in parameters.items() if k != "run"}
    return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()


def _read(run: str, name: str) -> dict[str, Any]:
    try:
        return json.loads((Path(run) / name).read_bytes())
    except (OSError, ValueError):
        return {}


def perform(job: Job) -> None:
    """Do a job, or what is left of it. Raises: ``h2t.Error``, or whatever went wrong; the run then holds failed.json."""
    if not job.store:
        return _recorded(job)
    from h2t.study.sweep.store import Store

    store = Store(job.store, Path(job.run).parents[len(Path(job.name).parts) - 1])
    for name in (*job.needs, job.name):
        store.pull(name)
    with store.following(job.name):
        _recorded(job)


def _recorded(job: Job) -> None:
    start, run = time.time(), Run(job.run)
    (run.path / "failed.json").unlink(missing_ok=True)
    write_json(run.path / "job.json", {"kind": job.kind, "parameters": job.parameters})
    if job.kind != "stage2":
        write_yaml(
            run.path / "recipe.yaml", job.parameters
        )  # `h2t run .../recipe.yaml` repeats this run by itself
    try:
        _wait_for(run)
        _perform(job, run)
    except BaseException as e:
        message, notebook = _reason(e)
        failed = {"message": message, "notebook": notebook, "traceback": traceback.format_exc()}
        with contextlib.suppress(
            Error, OSError
        ):  # where the disk is full this cannot be written either
            write_json(run.path / "failed.json", failed)
        raise
    books = [Path(b).stem for b in job.notebooks]
    write_json(
        run.path / "done.json",
        {
            "key": job.key,
            "kind": job.kind,
            "notebooks": books,
            "seconds": round(time.time() - start, 3),
        },
    )


def _reason(e: BaseException) -> tuple[str, str]:
    """Why a job failed, and the executed notebook that shows it, if one does."""
    return str(e) if isinstance(e, Error) else named(type(e).__name__, str(e)), str(
        getattr(e, "notebook", "")
    )


def _wait_for(run: Run, seconds: float = 30) -> None:
    """Give the process that did this job before, on its way out or on a machine that is lost, time to let go of the run."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with run.lock(), run.lock("notebooks"):
                return
        except Error:
            time.sleep(0.2)


def _perform(job: Job, run: Run) -> None:
    from h2t.pipeline import train_stage1
    from h2t.train.prepare import prepare
    from h2t.train.stage2 import train_stage2

    if job.stage1:
        source = Run(job.stage1, create=False)
        adopt(source.step("stage1"), run.step("stage1"), notebooks=job.kind == "run")
        for here, path, there in job.variants:
            adopt(Run(path, create=False).step(f"stage2-{there}"), run.step(f"stage2-{here}"))
    if job.notebooks:
        from h2t.lab.books import execute as notebooks
        from h2t.lab.books.inline import InlineEngine

        with run.lock("notebooks"):
            for book in map(Path, job.notebooks):
                if not notebooks.done(run, book, job.parameters):
                    notebooks.execute(run, book, job.parameters, InlineEngine)
    elif job.kind == "stage1":
        data = prepare(run, config.Data.of(job.parameters), progress=False)
        train_stage1(data, config.Stage1.of(job.parameters), progress=False)
    variants = (
        config.variants(config.Stage2.of(job.parameters), job.parameters.get("control", False))
        if job.kind == "run"
        else {}
    )
    if job.kind == "stage2":
        variants = {job.parameters["variant"]: config.Stage2.of(job.parameters)}
    for name, stage2 in variants.items():  # what the notebooks have trained is done already
        train_stage2(run, stage2, name, progress=False)


def adopt(source: Step, target: Step, notebooks: bool = False) -> None:
    """Take a finished step over from another run, with the data and, if asked for, the notebooks that led to it; hard links
    where the file system has them. What is there already stays.

    Raises: ``h2t.Error`` where ``source`` is not finished or the disk is full.
    """
    here, there, result = target.run.path, source.run.path, source.result
    with target.run.lock():
        files = [
            f
            for f in there.iterdir()
            if f.is_file() and not f.name.startswith(".") and f.name not in OWN
        ]
        if notebooks:
            files += [
                f for folder in ("notebooks", "figures") for f in (there / folder).glob("0[12]_*")
            ]
        for file in files:
            if not (place := here / file.relative_to(there)).exists():
                link(file, place)
        if target.done:
            return
        target.clear()
        for file in source.path.iterdir():
            if file.name != "result.json":
                link(file, target.path / file.name)
        names = {"step": target.name, "adopted_from": os.path.relpath(source.path, here)}
        if "variant" in result:
            names["variant"] = target.name.removeprefix("stage2-")
        write_json(target.path / "result.json", {**result, **names})


def child(job: Job, environment: dict[str, str], threads: int, pipe) -> None:
    """The body of a job's process: held to its share of the machine, silent, and gone when its parent is.

    Sends ("done", "", "") or ("failed", message, executed notebook) through ``pipe``.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to handle
    os.environ.update(environment)
    os.environ.update(
        {
            name: str(threads)
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
    )
    os.environ["TQDM_DISABLE"] = "1"  # the sweep shows how far each job is
    os.environ.setdefault(
        "H2T_FIGURES", ""
    )  # the executed notebooks hold the figures; drawing them for files too takes as long again
    with contextlib.suppress(OSError, Error):
        log = open(Run(job.run).path / "log.txt", "a", buffering=1)  # noqa: SIM115
        sys.stdout = sys.stderr = log
    try:
        import torch

        torch.set_num_threads(threads)
        perform(job)
        pipe.send(("done", "", ""))
    except BaseException as e:
        pipe.send(("failed", *_reason(e)))


def die_with_parent() -> None:
    """End this process when the one that started it ends, however that comes about. The server that forked it does not do so: it
    stays for as long as a job of its own runs."""

    def watch() -> None:
        parent.join()
        os._exit(1)

    if (parent := mp.parent_process()) is not None:
        threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":  # and when the server ends
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
