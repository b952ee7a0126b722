"""The main job, run as a user runs it: notebooks 01 to 04 from a recipe, killed, run again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import papermill
import psutil
import pytest
import yaml

from h2t import Error, Run
from h2t.lab.books import execute as notebooks
from tests.helpers import ROOT, same_weights
from tests.lab.jobs import BOOKS, QUICK, RECIPES, cli, no_files, quick

__all__ = ["no_files"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The main job, shortened, through papermill in a process of its own."""
    run = tmp_path_factory.mktemp("main") / "run"
    command = [sys.executable, "-m", "h2t", "run", RECIPES[-1], *map(str, quick(run))]
    env = {**os.environ, "H2T_FIGURES": "png"}  # that of PDFs is held in tests/plots/test_plots.py
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert out.returncode == 0, out.stderr
    return run, out


def test_the_main_job_ends_with_the_table_and_the_run_directory(done):
    run, out = done
    read, held_out, *lines = out.stdout.splitlines()
    assert read == "read 10 classes, 1,078 train + 719 test images"
    assert held_out.startswith("no test part: it is held out of the training part")
    columns = ["networks", "many", "medium", "few", "all", "ECE"]
    assert lines[0].split() == ["test", "accuracy,", "%", *columns]
    names = [line[:17].strip() for line in lines[1:5]]
    assert names == ["stage 1", "DR", "DR, BN sees both", "DR + H2T"]
    assert f"run directory: {run}" in lines
    assert [line.split("h2t ")[1].split()[0] for line in lines[-3:]] == ["report", "explore", "run"]
    assert (
        "02_stage1" in out.stderr and "stage 1: epoch" in out.stderr
    )  # the bar says what it is doing
    results = Run(run).results()
    assert list(results) == ["stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"]
    for line, result in zip(lines[1:5], results.values(), strict=True):
        assert line.split()[-2] == f"{result['last']['all']:.2f}"
    assert (
        results["stage2-h2t"]["last"]["few"] > results["stage1"]["last"]["few"] + 2
    )  # the tail visibly gains


def test_executed_notebooks_and_figures_lie_in_the_run_directory(done):
    run, _ = done
    for book in BOOKS:
        cells = json.loads((run / "notebooks" / book.name).read_text())["cells"]
        assert not [c for c in cells for o in c.get("outputs", []) if o["output_type"] == "error"]
        drawing = [
            c for c in cells if c["cell_type"] == "code" and "plots.save(" in "".join(c["source"])
        ]
        for c in drawing:  # each figure is seen, not only saved
            assert [
                o for o in c["outputs"] if "image/png" in o.get("data", {})
            ] or "compare_seeds" in "".join(c["source"]), c["id"]
    figures = {p.stem for p in (run / "figures").glob("*.png")}
    assert figures >= {
        "01_counts",
        "01_strip",
        "02_learning_curves",
        "03_mask",
        "03_groups",
        "04_class_accuracy",
        "04_confusion",
        "04_weight_norms",
        "04_reliability",
    }
    assert (run / "train_list.txt").exists()
    parameters = yaml.safe_load((run / "params.yaml").read_text())
    assert (
        parameters["source"] == "digits"
        and json.loads((run / "environment.json").read_text())["packages"]["torch"]
    )


def test_what_is_done_is_not_run_again_and_a_change_is(done, no_files):
    run, _ = done
    stamp = lambda name: (run / "notebooks" / name).stat().st_mtime_ns  # noqa: E731
    before = [stamp(book.name) for book in BOOKS]
    again = cli("run", RECIPES[-1], *quick(run))
    assert again.exit_code == 0 and [stamp(book.name) for book in BOOKS] == before
    (run / "notebooks" / "02_stage1.done").unlink()
    assert cli("run", RECIPES[-1], *quick(run)).exit_code == 0
    now = [stamp(book.name) for book in BOOKS]
    assert [a > b for a, b in zip(now, before, strict=True)] == [False, True, False, False]


def test_other_parameters_for_the_same_run_end_in_the_notebooks_own_message(done):
    run, _ = done
    result = cli("run", RECIPES[-1], *quick(run), "-p", "stage1_lr", "0.05")
    assert result.exit_code == 2 and "begun with stage1_lr = 0.1, not 0.05" in result.output
    assert "Traceback" not in result.output and Run(run).step("stage1").done


def test_plain_training_without_notebooks_gives_the_same_weights_and_loads_no_more_than_it_needs(
    done, tmp_path
):
    run, _ = done
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "h2t",
        "run",
        RECIPES[-1],
        "--plain",
        *map(str, quick(tmp_path / "plain")),
    ]
    plain = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert plain.returncode == 0, plain.stderr[-2000:]
    for name in ("stage1", "stage2-h2t"):
        assert same_weights(Run(run).step(name), Run(tmp_path / "plain").step(name))
    loaded = {
        line.split("|")[-1].strip()
        for line in plain.stderr.splitlines()
        if line.startswith("import time:")
    }
    # each of these takes as long to import as the epochs do to train; torch's own SGD brings the
    # compiler, and scikit-learn the digits
    assert "torch" in loaded and not loaded & {
        "torchvision",
        "matplotlib",
        "papermill",
        "IPython",
    }


def test_evaluate_measures_again_what_was_recorded(done):
    run, out = done
    result = cli("evaluate", run)
    assert result.exit_code == 0
    both = zip(result.output.splitlines()[1:5], out.stdout.splitlines()[3:7], strict=True)
    assert all(now.split()[-5:] == then.split()[-5:] for now, then in both)


def test_a_run_in_use_is_refused(done):
    run, _ = done
    with Run(run).lock("notebooks"):
        result = cli("run", RECIPES[-1], *quick(run))
    assert result.exit_code == 2 and "in use by another process" in result.output


def test_a_job_killed_in_training_goes_on_to_the_same_end(done, tmp_path):
    run = tmp_path / "run"  # notebook 01 is done
    shutil.copytree(done[0], run, ignore=shutil.ignore_patterns("stage*", "0[234]_*", ".lock*"))
    command = [sys.executable, "-m", "h2t", "run", RECIPES[-1], *map(str, quick(run))]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        start_new_session=True,
    )
    for epochs, kill in (
        (1, lambda: psutil.Process(process.pid).children()[0].kill()),
        (3, lambda: os.killpg(process.pid, signal.SIGKILL)),
    ):
        # first the notebooks' process alone: another one goes on from the checkpoint; then all
        log, deadline = run / "stage1" / "metrics.jsonl", time.time() + 120
        while time.time() < deadline and not (
            log.exists() and len(log.read_text().splitlines()) >= epochs
        ):
            time.sleep(0.02)
        assert process.poll() is None
        kill()
    process.wait()
    assert not (run / "notebooks" / "02_stage1.done").exists()
    deadline = time.time() + 30
    while (
        time.time() < deadline
    ):  # the notebooks' process notices that the parent is gone and lets go of the run
        try:
            with Run(run).lock():
                break
        except Error:
            time.sleep(0.2)
    assert cli("run", RECIPES[-1], "--plain", *quick(run)).exit_code == 0
    for name in ("stage1", "stage2-h2t"):
        assert same_weights(Run(run).step(name), Run(done[0]).step(name))


def test_a_notebook_shows_what_it_shows_in_a_kernel(done, tmp_path):
    """The same cells with the same outputs, except for where they ran and how long it took."""
    (parameters, (book, *_)), alone = (
        notebooks.load_recipe(RECIPES[-1], QUICK),
        tmp_path / "a.ipynb",
    )
    own = {k: v for k, v in parameters.items() if k in notebooks.declared(book)}
    how = {"progress_bar": False, "kernel_name": "python3", "cwd": ROOT}
    papermill.execute_notebook(book, alone, {**own, "run": str(tmp_path / "run")}, **how)
    copies = {done[0]: done[0] / "notebooks" / book.name, tmp_path / "run": alone}
    both = [
        json.loads(copy.read_text().replace(str(run), "RUN"))["cells"]
        for run, copy in copies.items()
    ]
    for a, b in zip(*both, strict=True):
        assert a["source"] == b["source"] and a.get("execution_count") == b.get("execution_count")
        kinds = [
            [
                (o["output_type"], o.get("text"), sorted(o.get("data", {})))
                for o in c.get("outputs", [])
            ]
            for c in (a, b)
        ]
        assert kinds[0] == kinds[1]
