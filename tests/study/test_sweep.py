"""Sweeps: planned, shared, interrupted, and going on."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas
import psutil
import pytest
import torch
from click.testing import CliRunner

import h2t
from h2t import Error, Run
from h2t.cli import main
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.board import Board
from h2t.study.sweep.estimate import estimate
from h2t.study.sweep.job import perform
from h2t.study.sweep.pool import Pool
from tests.helpers import ROOT

RECIPE = """
source: digits
imbalance_factor: 20.0
stage1_epochs: 2
warmup_epochs: 1
stage2_epochs: 1
fusion_ratio: [0.0, 0.3, 0.6]
seed: {from: 0, to: 3}
"""


def recipe(folder: Path, **changes) -> Path:
    """A recipe of 12 tiny runs. Returns: its file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in RECIPE.splitlines() if line.split(":")[0] not in changes]
    file = folder / "grid.yaml"
    file.write_text(
        "\n".join(
            [
                *lines,
                *(
                    f"{k}: {json.dumps(v)}"
                    for k, v in {"run": str(folder / "root"), **changes}.items()
                ),
            ]
        )
    )
    return file


def cli(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def found(root: Path) -> dict:
    """What the points of a sweep came to: accuracies and the hash of the weights, by run and step."""
    return {
        (run.name, step): (result["last"], result["weights_sha256"])
        for run in sorted(root.iterdir())
        if (run / "done.json").exists()
        for step, result in Run(run).results().items()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep from the command line, nothing in its way. Returns: its recipe, root and output."""
    file = recipe(tmp_path_factory.mktemp("sweep"))
    out = subprocess.run(
        [sys.executable, "-m", "h2t.cli", "sweep", str(file), "--plain"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert out.returncode == 0, out.stderr
    return file, file.parent / "root", out


def test_a_grid_is_planned_and_its_shared_work_is_done_once(undisturbed):
    file, root, out = undisturbed
    lines = out.stdout.splitlines()
    assert lines[0] == f"12 runs over fusion_ratio, seed in {root}"
    # dr and dr-both of each seed are held by all ratios, and at ratio 0 H2T is dr-both itself
    assert lines[1] == "to do: 12 runs, sharing 4 stage 1 and 8 stage-2 variants to be trained once"
    assert lines[-1] == f"12 of 12 runs are done in {root}; compare them: h2t report {root}"
    overview = [line.split("  ")[0] for line in lines if "±" in line]
    assert overview == [
        "stage 1",
        "DR",
        "DR, BN sees both",
        "DR + H2T, p = 0.3",
        "DR + H2T, p = 0.6",
    ]
    assert len(list((root / "shared").iterdir())) == 12
    runs = [Run(p) for p in root.iterdir() if (p / "done.json").exists() and p.name != "shared"]
    assert len(runs) == 12 and all(
        list(r.results()) == ["stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"] for r in runs
    )
    for r in runs:
        names = {name: result.get("adopted_from") for name, result in r.results().items()}
        assert names["stage1"].startswith("../shared/stage1-") and (
            names["stage2-h2t"] is None
        ) == ("ratio-0_" not in r.path.name)
        assert (r.path / names["stage1"] / "weights.safetensors").samefile(
            r.path / "stage1" / "weights.safetensors"
        )
    log = (root / "sweep.log").read_text()
    assert log.count(": done in") == 24 and "fusion_ratio-0.3_seed-2: begun" in log
    assert json.loads((root / "sweep.json").read_text())["axes"] == ["fusion_ratio", "seed"]


def test_each_point_is_the_run_that_h2t_run_makes_of_it(undisturbed, tmp_path):
    _, root, _ = undisturbed
    point = root / "fusion_ratio-0.6_seed-3"
    result = cli("run", point / "recipe.yaml", "--plain", "-p", "run", tmp_path / "alone")
    assert result.exit_code == 0, result.output
    alone, swept = Run(tmp_path / "alone").results(), Run(point).results()
    assert {k: v["weights_sha256"] for k, v in alone.items()} == {
        k: v["weights_sha256"] for k, v in swept.items()
    }
    assert len({v["weights_sha256"] for v in swept.values()}) == 4


def test_what_is_done_is_not_done_again_and_a_larger_grid_adds_only_what_is_new(undisturbed):
    file, root, _ = undisturbed
    before = {p: p.stat().st_mtime_ns for p in root.rglob("result.json")}
    again = cli("sweep", file, "--plain")
    assert (
        again.exit_code == 0
        and "12 done already" in again.output
        and "nothing is left to do" in again.output
    )
    plan = sweeping.plan(file, {"fusion_ratio": [0.0, 0.3, 0.6, 0.9]}, books=None)
    assert [plan.jobs[n].kind for n in plan.todo] == ["run"] * 4
    assert {p: p.stat().st_mtime_ns for p in root.rglob("result.json")} == before


def _victims(sweep: subprocess.Popen) -> dict[str, psutil.Process]:
    """Processes that can be killed now: the sweep, the server that its jobs are forked from, and of the jobs one that executes a
    notebook (``kernel``, cells and papermill in one process) and one that trains without (``worker``)."""
    found = {}
    with contextlib.suppress(psutil.Error, OSError):
        for process in psutil.Process(sweep.pid).children(recursive=True):
            runs = [Path(f.path).parent for f in process.open_files() if f.path.endswith("log.txt")]
            if runs:
                found["kernel" if list(runs[0].glob("notebooks/*.part.ipynb")) else "worker"] = (
                    process
                )
                found |= {"sweep": psutil.Process(sweep.pid), "server": process.parent()}
    return found


def _table(root: Path):
    """The table of runs, but for how long things took and when."""
    return h2t.table(root, copies=True, save=False).drop(
        columns=["time", "seconds", "stage1_seconds", "total_seconds"]
    )


def test_a_sweep_killed_at_ten_moments_ends_with_the_table_of_one_that_was_not(
    undisturbed, tmp_path
):
    """SIGKILL to the sweep, to the server that its jobs are forked from, to a job in a notebook, to a job in training, at random
    moments, also of what comes after a kill: nothing is lost or done twice. Ended by two sweeps that start at once."""
    chance, left = (
        random.Random(0),
        [
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
        ],
    )
    files, start = [], [sys.executable, "-m", "h2t.cli", "sweep", "--notebooks", "01,02"]
    while left:  # on another root where one is done before all of them have been killed
        files.append(recipe(tmp_path / str(len(files))))
        while left:
            sweep = subprocess.Popen(
                [*start, str(files[-1])],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while sweep.poll() is None and left:
                time.sleep(chance.uniform(0.0, 0.5))
                there = _victims(sweep)
                if kind := next((k for k in left if k in there), None):
                    with contextlib.suppress(
                        psutil.NoSuchProcess
                    ):  # it was done just now: another one then
                        there[kind].kill()
                        left.remove(kind)
            sweep.wait()
            if sweep.returncode == 0:
                break
    for file in files:
        for _ in range(3):  # a job that was hit twice has failed; the next sweep tries it again
            both = [
                subprocess.Popen(
                    [*start, str(file)],
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for _ in range(2)
            ]
            said = [process.communicate()[1] for process in both]
            codes = [process.returncode for process in both]
            assert all(
                code in (0, 1) or code == 2 and "a sweep is at work in" in text
                for code, text in zip(codes, said, strict=True)
            ), said
            if 0 in codes:
                break
        assert 0 in codes, said
        pandas.testing.assert_frame_equal(_table(file.parent / "root"), _table(undisturbed[1]))
        assert (
            not list((file.parent / "root").rglob("failed.json"))
            and len(list((file.parent / "root").rglob("notebooks/02_stage1.done"))) == 16
        )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_a_sweep_ends_its_jobs(tmp_path, how):
    file = recipe(tmp_path, stage1_epochs=100_000)
    sweep = subprocess.Popen(
        [sys.executable, "-m", "h2t.cli", "sweep", "--plain", str(file)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
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
    file = recipe(
        tmp_path,
        fusion_ratio=0.3,
        seed=0,
        stage1_lr=[0.1, 1.0e14],
        stage1_epochs=1,
        warmup_epochs=0,
    )
    result = cli("sweep", file, "--jobs", 1, "--notebooks", "01,02")
    assert (
        result.exit_code == 1
        and "1 of 2 runs are done" in result.output
        and "2 jobs failed" in result.output
    )
    assert (
        "stage 1 diverged" in result.output
        and "02_stage1.ipynb" in result.output
        and "not begun: it needs stage 1 of stage1_lr 1" in result.output
    )
    failed = [json.loads(p.read_text()) for p in (tmp_path / "root").rglob("failed.json")]
    assert (
        len(failed) == 1
        and "diverged" in failed[0]["message"]
        and Path(failed[0]["notebook"]).exists()
    )
    assert (
        "Trying once more" not in (tmp_path / "root" / "sweep.log").read_text()
    )  # an error would come again
    good = next(p for p in (tmp_path / "root").iterdir() if (p / "done.json").exists())
    cells = json.loads((good / "notebooks" / "02_stage1.ipynb").read_text())["cells"]
    outputs = [o for c in cells for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs) and not any(
        o["output_type"] == "error" for o in outputs
    )
    assert any("Test accuracy is" in "".join(o.get("text", "")) for o in outputs)
    assert not any(
        "epoch/s" in "".join(o.get("text", "")) for o in outputs
    )  # no bars where nobody watches
    assert list(Run(good).results()) == ["stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"]
    # notebook 02 is left as it is when it is asked for again, and its later neighbour is made up for
    stamp = (good / "notebooks" / "02_stage1.ipynb").stat().st_mtime_ns
    assert cli("sweep", file, "-p", "stage1_lr", "[0.1]", "--jobs", 1).exit_code == 0
    assert (good / "notebooks" / "03_stage2.ipynb").exists() and (
        good / "notebooks" / "02_stage1.ipynb"
    ).stat().st_mtime_ns == stamp


def test_a_gpu_out_of_memory_is_named_with_the_mend_and_the_job_goes_on_when_it_is_asked_again(
    tmp_path, monkeypatch
):
    from h2t.train import loop as report

    plan = sweeping.plan(
        recipe(tmp_path, seed=0, fusion_ratio=[0.2, 0.3], stage1_epochs=3), books=None
    )
    job, real = plan.jobs[plan.todo[0]], report.Report.epoch

    def full(self, epoch, *rest):
        if epoch == 2:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 8 GiB"
            )
        return real(self, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(report.Report, "epoch", full)
        with pytest.raises(torch.OutOfMemoryError):
            perform(job)
    failed = json.loads((Path(job.run) / "failed.json").read_text())["message"]
    assert (
        failed.startswith("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")
        and "lower batch_size, or let fewer runs share it" in failed
    )
    trained = []
    monkeypatch.setattr(
        report.Report,
        "epoch",
        lambda self, epoch, *rest: (trained.append(epoch), real(self, epoch, *rest))[1],
    )
    perform(job)
    assert trained == [2, 3] and job.done and not (Path(job.run) / "failed.json").exists()


def test_a_full_disk_loses_nothing(tmp_path):
    """The limit on a file's size stands in for the disk: weights do not fit under it."""
    file = recipe(tmp_path, seed=0, fusion_ratio=[0.2, 0.3], stage1_epochs=1, warmup_epochs=0)
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1)); from h2t.cli import main; main(sys.argv[1:])"
    full = subprocess.run(
        [sys.executable, "-c", limit, "sweep", str(file), "--plain"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (
        full.returncode == 1
        and "0 of 2 runs are done" in full.stdout
        and "free some disk space" in full.stderr
    ), full.stderr
    assert cli("sweep", file, "--plain").exit_code == 0 and len(found(tmp_path / "root")) == 8


def test_a_second_sweep_on_a_root_says_so(tmp_path):
    file = recipe(tmp_path)
    with Run(tmp_path / "root").lock("sweep"):
        result = cli("sweep", file, "--plain")
    assert result.exit_code == 2 and "a sweep is at work in" in result.output


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (
            {"seed": [0, "x"]},
            [],
            "seed is 'x' (str); it must be a whole number (in the grid's point",
        ),
        ({"sede": [0, 1]}, [], "unknown parameter 'sede'; did you mean 'seed'?"),
        ({"fusion_ratio": [0.5, 1.5]}, [], "fusion_ratio is 1.5; it must be in [0, 1]"),
        (
            {"source": "folder", "root": "/nowhere/at/all"},
            [],
            "there is nothing at root '/nowhere/at/all'",
        ),
        ({"source": "lists", "root": "/nowhere:/tmp"}, [], "there is nothing at root '/nowhere'"),
        ({"run": ["a", "b"]}, [], "run is the folder of the whole sweep"),
        ({"seed": 0, "fusion_ratio": 0.3}, [], "one point only"),
        ({}, ["--notebooks", "03"], "they build on one another"),
        ({}, ["--gpus", "2"], "a run trains on one GPU"),
        ({}, ["--jobs", "-1"], "jobs is -1"),
    ],
)
def test_bad_sweeps_are_refused_before_anything_runs(tmp_path, changes, options, message):
    result = cli("sweep", recipe(tmp_path, **changes), *options)
    assert result.exit_code == 2 and message in result.output, result.output
    assert not (tmp_path / "root").exists()


def test_gpus_that_nobody_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = cli("sweep", recipe(tmp_path), "--gpus", 1)
    assert result.exit_code == 2 and "no GPU can be seen here" in result.output


def test_jobs_are_dealt_to_gpus_and_threads_to_jobs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    pool = Pool(gpus_per_run=0.5)
    assert pool.slots == 4 and [e["CUDA_VISIBLE_DEVICES"] for e in pool.environments] == [
        "0",
        "3",
        "0",
        "3",
    ]
    assert Pool().slots == 2 and Pool(gpus_per_run=0).environments[0] == {
        "CUDA_VISIBLE_DEVICES": ""
    }
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("h2t.study.sweep.pool.cores", lambda: 8)
    monkeypatch.setattr("h2t.study.sweep.pool.memory", lambda: 6 * 2**31)
    assert (Pool().slots, Pool().threads) == (6, 1) and (Pool(2).slots, Pool(2).threads) == (2, 4)


def test_a_root_that_is_a_run_and_a_run_of_other_parameters_are_refused(undisturbed, tmp_path):
    _, root, _ = undisturbed
    point = root / "fusion_ratio-0.3_seed-0"
    with pytest.raises(Error, match="is itself a run"):
        sweeping.plan(recipe(tmp_path, run=str(point)))
    with pytest.raises(Error, match="was made with stage1_epochs = 2, not 3"):
        sweeping.plan(recipe(tmp_path, run=str(root), stage1_epochs=3))
    assert (
        sweeping.plan(recipe(tmp_path, run=str(root), imbalance_factor=20), books=None).todo == ()
    )  # 20 is 20.0


def test_a_dry_run_starts_nothing_and_estimates_from_what_has_run(undisturbed, tmp_path):
    result = cli("sweep", recipe(tmp_path), "--dry-run", "--plain")
    assert (
        result.exit_code == 0
        and "a rule of thumb" in result.output
        and not (tmp_path / "root").exists()
    )
    plan = sweeping.plan(
        recipe(tmp_path, run=str(undisturbed[1])), {"seed": [0, 1, 2, 3, 4]}, books=None
    )
    assert "from the runs that are done" in estimate(plan, Pool(notebooks=False))
    own = recipe(tmp_path, source="folder", root=str(tmp_path), run=str(tmp_path / "own"))
    assert "the number of images" in estimate(sweeping.plan(own), Pool())


@pytest.fixture
def at_work(tmp_path):
    """A sweep whose first job has trained an epoch. Returns: its plan and that job."""
    plan = sweeping.plan(recipe(tmp_path), books=None)
    job = plan.jobs[plan.todo[0]]
    step = Path(job.run) / "stage1"
    step.mkdir(parents=True)
    (step / "params.yaml").write_text("stage1_epochs: 4\n")
    (step / "metrics.jsonl").write_text(
        json.dumps({"epoch": 1, "seconds": 50.0, "eval_seconds": 10.0, "all": 43.21}) + "\n"
    )
    return plan, job


def test_progress_in_a_notebook_is_one_text_that_is_replaced(at_work, monkeypatch):
    import IPython

    plan, job = at_work
    texts = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr(
        "IPython.display.display",
        lambda *a, **k: SimpleNamespace(update=lambda data, raw: texts.append(data["text/plain"])),
    )
    with Board(plan, Pool(2), True) as board:
        board.began(job.name)
        board.show([job.name])
        assert texts[-1].splitlines()[:2] == [
            texts[-1].splitlines()[0],
            "  stage 1 of seed 0: stage 1: epoch 1/4, test top-1 43.2 %, 3 min left",
        ]
        assert (
            texts[-1].startswith("jobs:   0%|")
            and "0/24" in texts[-1]
            and "0 of 12 runs done" in texts[-1]
        )
        board.ended(job.name, None)
        for name in plan.todo[1:]:
            board.ended(name, "it broke")
    assert (
        "24/24" in texts[-1]
        and "FAILED" in texts[-1].splitlines()[0]
        and texts[-1].count("it broke") == 12
        and "earlier in" in texts[-1]
    )
    log = (plan.root / "sweep.log").read_text()
    assert log.count("it broke") == 23 and "stage 1 of seed 0: done in 0 s" in log


def test_progress_in_a_file_is_what_happened_and_the_log_has_the_state_once_a_minute(
    at_work, capsys, monkeypatch
):
    plan, job = at_work
    monkeypatch.setattr("h2t.study.sweep.board.EVERY", -1)
    with pytest.raises(KeyboardInterrupt), Board(plan, Pool(2), True) as board:
        board.began(job.name)
        board.show([job.name])
        raise KeyboardInterrupt
    said = capsys.readouterr().err
    assert (
        "12 runs, 0 done already, 24 jobs to do: 2 at a time" in said
        and "stopped: KeyboardInterrupt; run it again to go on" in said
        and "\r" not in said
    )
    assert (
        "0 of 12 runs done, 0 failed; stage 1 of seed 0: stage 1: epoch 1/4, test top-1 43.2 %, 3 min left"
        in (plan.root / "sweep.log").read_text()
    )


def test_a_thousand_runs_are_checked_one_by_one(tmp_path):
    plan = sweeping.plan(
        recipe(tmp_path, seed=list(range(50)), fusion_ratio=[k / 20 for k in range(20)])
    )
    assert len(plan.points) == 1000 and len(plan.jobs) == 1000 + 50 + 2 * 50
    wanted = {n: set(plan.jobs[n].needs) for n in plan.todo}
    seen = set()
    for name, needs in wanted.items():  # each comes after what it needs
        assert needs <= seen
        seen.add(name)
