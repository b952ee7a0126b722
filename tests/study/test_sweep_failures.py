"""Sweeps that are killed, that fail, and that run out of room: nothing is lost or done twice."""

import contextlib
import json
import random
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
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.job import perform
from tests.helpers import ROOT
from tests.study.sweeps import COMMAND, cli, found, recipe

SILENT = dict(cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
TIMES = ["time", "seconds", "stage1_seconds", "total_seconds"]
KILLED = [
    "kernel",
    "worker",
    "kernel",
    "sweep",
    "worker",
    "kernel",
    "server",
    "worker",
    "sweep",
    "sweep",
]


def _victims(sweep: subprocess.Popen) -> dict[str, psutil.Process]:
    """Processes that can be killed now: the sweep, the server that its jobs are forked from, and of
    the jobs one that executes a notebook (``kernel``, cells and papermill in one process) and one
    that trains without (``worker``)."""
    there = {}
    with contextlib.suppress(psutil.Error, OSError):
        for process in psutil.Process(sweep.pid).children(recursive=True):
            own = [Path(f.path).parent for f in process.open_files() if f.path.endswith("log.txt")]
            if own:
                in_notebook = list(own[0].glob("notebooks/*.part.ipynb"))
                there["kernel" if in_notebook else "worker"] = process
                there |= {"sweep": psutil.Process(sweep.pid), "server": process.parent()}
    return there


def _table(root: Path):
    """The table of runs, but for how long things took and when."""
    return h2t.table(root, copies=True, save=False).drop(columns=TIMES)


def test_a_sweep_killed_at_ten_moments_ends_with_the_table_of_one_that_was_not(
    undisturbed, tmp_path
):
    """SIGKILL to the sweep, to the server of its jobs, to a job in a notebook, to one in training,
    at random moments, also of what comes after a kill. Ended by two sweeps that start at once."""
    chance, left, files = random.Random(0), list(KILLED), []
    start = [*COMMAND, "--notebooks", "01,02"]
    while left:  # on another root where one is done before all of them have been killed
        files.append(recipe(tmp_path / str(len(files))))
        while left:
            sweep = subprocess.Popen([*start, str(files[-1])], **SILENT)
            while sweep.poll() is None and left:
                time.sleep(chance.uniform(0.0, 0.5))
                there = _victims(sweep)
                if kind := next((k for k in left if k in there), None):
                    with contextlib.suppress(psutil.NoSuchProcess):  # done just now: another one
                        there[kind].kill()
                        left.remove(kind)
            sweep.wait()
            if sweep.returncode == 0:
                break
    for file in files:
        _end(start, file)
        root = file.parent / "root"
        pandas.testing.assert_frame_equal(_table(root), _table(undisturbed[1]))
        left = [p for p in root.rglob("*") if p.name.endswith((".h2t-tmp", ".part.ipynb"))]
        assert not left and not list(root.rglob("failed.json"))
        assert len(list(root.rglob("notebooks/02_stage1.done"))) == 16


def _end(start: list[str], file: Path) -> None:
    """Two sweeps at once, until one of them has done all of it."""
    how = {**SILENT, "stderr": subprocess.PIPE, "text": True}
    for _ in range(3):  # a job that was hit twice has failed; the next sweep tries it again
        both = [subprocess.Popen([*start, str(file)], **how) for _ in range(2)]
        said = [process.communicate()[1] for process in both]
        codes = [process.returncode for process in both]
        for code, text in zip(codes, said, strict=True):
            assert code in (0, 1) or code == 2 and "a sweep is at work in" in text, said
        if 0 in codes:
            return
    raise AssertionError(said)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_a_sweep_ends_its_jobs(tmp_path, how):
    file = recipe(tmp_path, stage1_epochs=5000)
    sweep = subprocess.Popen([*COMMAND, "--plain", str(file)], **SILENT)
    left = []
    try:
        while "worker" not in (there := _victims(sweep)):
            assert sweep.poll() is None
            time.sleep(0.1)
        left = [there["server"], *there["server"].children()]
        sweep.send_signal(how)
        assert sweep.wait() == -how
        assert not psutil.wait_procs(left, timeout=20)[1]
    finally:
        for process in (sweep, *left):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_a_failure_is_named_and_the_others_go_on(tmp_path):
    changes = dict(fusion_ratio=0.3, seed=0, stage1_epochs=2, warmup_epochs=0)
    file = recipe(tmp_path, stage1_lr=[0.1, 100.0], **changes)
    result = cli("sweep", file, "--jobs", 1, "--notebooks", "01,02")
    assert result.exit_code == 1 and "1 of 2 runs are done" in result.output
    assert "2 jobs failed" in result.output and "stage 1 diverged" in result.output
    assert "02_stage1.ipynb" in result.output
    assert "not begun: it needs stage 1 of stage1_lr 1" in result.output
    failed = [json.loads(p.read_text()) for p in (tmp_path / "root").rglob("failed.json")]
    assert len(failed) == 1 and "diverged" in failed[0]["message"]
    assert Path(failed[0]["notebook"]).exists()
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


def test_a_later_notebook_is_made_up_for_and_the_earlier_one_left_as_it_is(tmp_path):
    file = recipe(tmp_path, fusion_ratio=0.3, seed=[0], stage1_epochs=1, warmup_epochs=0)
    assert cli("sweep", file, "--jobs", 1, "--notebooks", "01,02").exit_code == 0
    books = tmp_path / "root" / "seed-0" / "notebooks"
    stamp = (books / "02_stage1.ipynb").stat().st_mtime_ns
    assert cli("sweep", file, "--jobs", 1).exit_code == 0
    assert (books / "03_stage2.ipynb").exists()
    assert (books / "02_stage1.ipynb").stat().st_mtime_ns == stamp


def test_a_gpu_out_of_memory_is_named_with_the_mend_and_the_job_goes_on_when_asked_again(
    tmp_path, monkeypatch
):
    from h2t.train import loop

    changes = dict(seed=0, fusion_ratio=[0.2, 0.3], stage1_epochs=3)
    plan = sweeping.plan(recipe(tmp_path, **changes), books=None)
    job, real, trained = plan.jobs[plan.todo[0]], loop.Report.epoch, []

    def full(self, epoch, *rest):
        if epoch == 2 and not trained:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")
        return real(self, epoch, *rest)

    def noted(self, epoch, *rest):
        trained.append(epoch)
        return real(self, epoch, *rest)

    monkeypatch.setattr(loop.Report, "epoch", full)
    with pytest.raises(torch.OutOfMemoryError):
        perform(job)
    failed = json.loads((Path(job.run) / "failed.json").read_text())["message"]
    said = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"
    assert failed.startswith(said)
    assert "lower batch_size, or let fewer runs share it" in failed
    monkeypatch.setattr(loop.Report, "epoch", noted)
    perform(job)
    assert trained == [2, 3] and job.done and not (Path(job.run) / "failed.json").exists()


def test_a_full_disk_loses_nothing(tmp_path):
    """The limit on a file's size stands in for the disk: weights do not fit under it."""
    file = recipe(tmp_path, seed=0, fusion_ratio=[0.2, 0.3], stage1_epochs=1, warmup_epochs=0)
    limit = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1)); "
        "from h2t.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", limit, "sweep", str(file), "--plain"]
    full = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert full.returncode == 1 and "0 of 2 runs are done" in full.stdout, full.stderr
    assert "free some disk space" in full.stderr
    assert cli("sweep", file, "--plain").exit_code == 0 and len(found(tmp_path / "root")) == 8


def test_a_second_sweep_on_a_root_says_so(tmp_path):
    file = recipe(tmp_path)
    with Run(tmp_path / "root", kind="sweep").lock("sweep"):
        result = cli("sweep", file, "--plain")
    assert result.exit_code == 2 and "a sweep is at work in" in result.output
