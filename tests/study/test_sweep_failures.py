"""Sweeps that are killed, that fail, and that run out of room: nothing is lost or done twice."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import psutil
import pytest
import torch

import h2t
from h2t import Run
from h2t.base.files import held
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.job import perform, reason
from tests.helpers import ROOT
from tests.study.sweeps import cli, found, recipe, server, start

TIMES = ["time", "seconds", "stage1_seconds", "total_seconds"]
FIRST = ("--notebooks", "01")
SMALL = dict(seed=0, fusion_ratio=[0.2, 0.3])
# of a job in a notebook, a job that trains without one, and the sweep itself: who is killed, how
KILLS = [
    ("notebook", signal.SIGKILL),
    ("sweep", signal.SIGKILL),
    ("training", signal.SIGTERM),
    ("notebook", signal.SIGTERM),
    ("sweep", signal.SIGTERM),
    ("training", signal.SIGKILL),
]


def _jobs() -> dict[str, psutil.Process]:
    """The jobs that run now, by what they are doing: with notebooks, or training without."""
    there = {}
    for process in psutil.Process(server()).children():
        with contextlib.suppress(psutil.Error, OSError):
            runs = [Path(f.path).parent for f in process.open_files() if "log.txt" in f.path]
            for run in runs:
                in_notebook = list(run.glob("notebooks/*.part.ipynb"))
                there["notebook" if in_notebook else "training"] = process
    return there


def _table(root: Path):
    """The table of runs, but for how long things took and when."""
    return h2t.table(root, copies=True, save=False).drop(columns=TIMES)


def _files(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.name[0] != "."}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small sweep with notebook 01 that nobody disturbs. Returns: its root."""
    file = recipe(tmp_path_factory.mktemp("whole"), **SMALL)
    assert cli("sweep", file, *FIRST).exit_code == 0
    return file.with_name("root")


def test_a_sweep_killed_at_any_moment_leaves_what_an_undisturbed_one_leaves(whole, tmp_path):
    """At random moments, also after an earlier kill; ended by two sweeps that start at once."""
    chance, left, files = random.Random(0), list(KILLS), []
    while left:  # on another root where one is done before all of them have been killed
        files.append(recipe(tmp_path / str(len(files)), **SMALL))
        said = files[-1].with_name("said.txt")
        code = None
        while left and code != 0:
            sweep = start("sweep", files[-1], *FIRST, out=said)
            while sweep.is_alive() and left:
                time.sleep(chance.uniform(0.0, 0.3))
                there = _jobs()
                there |= {"sweep": sweep} if there else {}
                if kill := next((k for k in left if k[0] in there), None):
                    with contextlib.suppress(psutil.NoSuchProcess):  # done just now: another one
                        psutil.Process(there[kill[0]].pid).send_signal(kill[1])
                        left.remove(kill)
            sweep.join()
            code = sweep.exitcode
    for file in files:
        _end(file)
        root = file.parent / "root"
        pandas.testing.assert_frame_equal(_table(root), _table(whole))
        assert _files(root) == _files(whole)


def _end(file: Path) -> None:
    """Two sweeps at once, until one of them has done all of it."""
    for attempt in range(3):  # a job that was hit twice has failed; the next sweep tries it again
        both = [file.with_name(f"{attempt}-{k}.txt") for k in (0, 1)]
        processes = [start("sweep", file, *FIRST, out=out) for out in both]
        for process, out in zip(processes, both, strict=True):
            process.join()
            busy = process.exitcode == 2 and "is in use by another process" in out.read_text()
            assert process.exitcode in (0, 1) or busy, out.read_text()
        if 0 in [process.exitcode for process in processes]:
            return
    raise AssertionError(both[0].read_text() + both[1].read_text())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_a_sweep_ends_its_jobs(tmp_path, how):
    file = recipe(tmp_path, stage1_epochs=5000)
    sweep = start("sweep", file, "--plain", out=tmp_path / "said.txt")
    while not (jobs := _jobs()):
        assert sweep.is_alive()
        time.sleep(0.05)
    psutil.Process(sweep.pid).send_signal(how)
    sweep.join()
    assert sweep.exitcode == -how
    assert not psutil.wait_procs(jobs.values(), timeout=20)[1]


def test_a_failure_is_named_and_the_others_go_on(tmp_path):
    changes = dict(fusion_ratio=0.3, seed=0, batch_size=16, stage1_epochs=2, warmup_epochs=0)
    file = recipe(tmp_path, stage1_lr=[0.1, 100.0], **changes)
    result = cli("sweep", file, "--jobs", 1, "--notebooks", "01,02")
    assert result.exit_code == 1 and "1 of 2 runs are done" in result.output
    assert "2 jobs failed" in result.output and "stage 1 diverged" in result.output
    assert "not begun: it needs stage 1 of stage1_lr 1" in result.output
    failed = [p for p in (tmp_path / "root").rglob("log.txt") if "Traceback" in p.read_text()]
    assert len(failed) == 1 and "diverged" in failed[0].read_text()
    assert (failed[0].parent / "notebooks" / "02_stage1.ipynb").exists()  # shows where
    # an error would come again
    assert "Trying once more" not in (tmp_path / "root" / "sweep.log").read_text()
    good = next(p for p in (tmp_path / "root").iterdir() if (p / "done.json").exists())
    outputs = _outputs(good / "notebooks" / "02_stage1.ipynb")
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not any(o["output_type"] == "error" for o in outputs)
    shown = [[o.get("text", ""), *o.get("data", {}).values()] for o in outputs]
    text = " ".join("".join(part) for parts in shown for part in parts)
    assert "Test accuracy is" in text and "epoch/s" not in text  # no bars where nobody watches
    assert list(Run(good).results()) == ["stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"]


def _outputs(book: Path) -> list[dict]:
    cells = json.loads(book.read_text())["cells"]
    return [o for c in cells for o in c.get("outputs", [])]


def test_a_later_notebook_is_made_up_for_and_the_earlier_one_left_as_it_is(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "root")
    books = tmp_path / "root" / "fusion_ratio-0.2" / "notebooks"
    stamp = (books / "01_dataset.ipynb").stat().st_mtime_ns
    file = recipe(tmp_path, **SMALL)
    assert cli("sweep", file, "--jobs", 1, "--notebooks", "01,02").exit_code == 0
    assert (books / "02_stage1.ipynb").exists()
    assert (books / "01_dataset.ipynb").stat().st_mtime_ns == stamp


def test_a_gpu_out_of_memory_is_named_with_the_mend_and_the_job_goes_on_when_asked_again(
    tmp_path, monkeypatch
):
    from h2t.train import loop

    plan = sweeping.plan(recipe(tmp_path, **SMALL, stage1_epochs=3), books=None)
    job, real, trained = plan.jobs[plan.todo[0]], loop.Report.epoch, []

    def full(self, epoch, *rest):
        if epoch == 2 and not trained:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")
        return real(self, epoch, *rest)

    def noted(self, epoch, *rest):
        trained.append(epoch)
        return real(self, epoch, *rest)

    monkeypatch.setattr(loop.Report, "epoch", full)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        perform(job)
    failed = reason(caught.value)
    said = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"
    assert failed.startswith(said)
    assert "lower batch_size, or let fewer runs share it" in failed
    monkeypatch.setattr(loop.Report, "epoch", noted)
    perform(job)
    assert trained == [2, 3] and job.done


def test_a_full_disk_loses_nothing(tmp_path):
    """The limit on a file's size stands in for the disk: weights do not fit under it."""
    file = recipe(tmp_path, **SMALL, stage1_epochs=1, warmup_epochs=0)
    limit = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1)); "
        "from h2t.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", limit, "sweep", str(file), "--plain"]
    whole = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # Python's own cache would be cut too
    full = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=whole)
    assert full.returncode == 1 and "0 of 2 runs are done" in full.stdout, full.stderr
    assert "free some disk space" in full.stderr
    assert cli("sweep", file, "--plain").exit_code == 0 and len(found(tmp_path / "root")) == 8


def test_a_second_sweep_on_a_root_says_so(tmp_path):
    file, root = recipe(tmp_path), Run(tmp_path / "root", kind="sweep").path
    with held(root / ".lock-sweep", "it"):
        result = cli("sweep", file, "--plain")
    assert result.exit_code == 2 and f"sweep {root} is in use by another" in result.output
