"""The notebooks and the command line, run as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import papermill
import psutil
import pytest
import yaml
from click.testing import CliRunner

from h2t import Error, Run
from h2t.cli import main
from h2t.lab.books import execute as notebooks
from h2t.recipes import parameters as config
from tests.helpers import ROOT, execute_inline, processes, same_weights

ALL = sorted((ROOT / "notebooks" / "recipes").glob("*.yaml"))
RECIPES = sorted(
    (p for p in ALL if not p.stem.endswith(("_sweep", "_search"))), key=lambda p: p.stem == "digits"
)  # the main job last
BOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in notebooks.MAIN]
QUICK = {"stage1_epochs": 15, "stage2_epochs": 4, "compare_seeds": 0}


def cli(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def no_files(monkeypatch):
    """Figures in the executed notebooks only: those of ``done`` are looked for as files."""
    monkeypatch.setenv("H2T_FIGURES", "")


def quick(run):
    return [x for k, v in {**QUICK, "run": run}.items() for x in ("-p", k, v)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The main job, shortened, through papermill in a process of its own."""
    run = tmp_path_factory.mktemp("main") / "run"
    command = [sys.executable, "-m", "h2t.cli", "run", RECIPES[-1], *map(str, quick(run))]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    return run, out


def test_the_main_job_ends_with_the_table_and_the_run_directory(done):
    run, out = done
    lines = out.stdout.splitlines()
    assert lines[0].split() == ["test", "accuracy,", "%", "many", "medium", "few", "all", "ece"]
    names = [line[:26].strip() for line in lines[1:5]]
    assert names == ["stage 1", "stage 2, DR", "stage 2, DR, BN sees both", "stage 2, DR + H2T"]
    assert lines[-1] == f"run directory: {run}"
    assert (
        "02_stage1" in out.stderr and "stage1: epoch" in out.stderr
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
    (run / "notebooks" / "04_analysis.done").unlink()
    assert cli("run", RECIPES[-1], *quick(run)).exit_code == 0
    assert stamp("04_analysis.ipynb") > before[3] and stamp("02_stage1.ipynb") == before[1]


def test_other_parameters_for_the_same_run_end_in_the_notebooks_own_message(done):
    run, _ = done
    result = cli("run", RECIPES[-1], *quick(run), "-p", "stage1_lr", "0.05")
    assert result.exit_code == 2 and "begun with stage1_lr = 0.1, not 0.05" in result.output
    assert "Traceback" not in result.output and Run(run).step("stage1").done


def test_a_recipe_means_the_same_in_notebooks_without_them_and_at_import(tmp_path, no_files):
    """What a recipe leaves open is the notebook's default everywhere."""
    from tests.exchange.test_reference import write

    (tmp_path / "short.yaml").write_text("source: digits\nstage1_epochs: 1\nstage2_epochs: 1\n")
    write(tmp_path / "c.pth.tar")
    assert (
        cli(
            "import",
            tmp_path / "c.pth.tar",
            "--run",
            tmp_path / "a",
            "--recipe",
            tmp_path / "short.yaml",
        ).exit_code
        == 0
    )
    assert (
        cli("run", tmp_path / "short.yaml", "--plain", "-p", "run", tmp_path / "b").exit_code == 0
    )
    papermill.execute_notebook(
        BOOKS[0],
        tmp_path / "01.ipynb",
        {"run": str(tmp_path / "a")},
        progress_bar=False,
        kernel_name="python3",
    )
    a, b = (yaml.safe_load((tmp_path / r / "params.yaml").read_text()) for r in "ab")
    assert a == b and a["test_fraction"] == 0.4
    assert Run(tmp_path / "b").step("stage1").params["batch_size"] == 64


def test_plain_training_without_notebooks_gives_the_same_weights_and_loads_no_more_than_it_needs(
    done, tmp_path
):
    run, _ = done
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "h2t.cli",
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
    # each of these takes as long to import as the epochs do to train
    assert "torch" in loaded and not loaded & {
        "torch._dynamo",
        "torchvision",
        "sklearn",
        "matplotlib",
        "papermill",
        "IPython",
    }


def test_evaluate_measures_again_what_was_recorded(done):
    run, out = done
    result = cli("evaluate", run)
    assert result.exit_code == 0
    assert result.output.splitlines()[:5] == out.stdout.splitlines()[:5]


def test_each_notebook_runs_by_papermill_itself(tmp_path, no_files):
    out = tmp_path / "01.ipynb"
    papermill.execute_notebook(
        BOOKS[0],
        out,
        {"run": str(tmp_path / "run"), "imbalance_factor": 10.0},
        progress_bar=False,
        kernel_name="python3",
    )
    assert json.loads((tmp_path / "run" / "split.json").read_text())["imbalance_factor"] == 10.0
    for parameters, message in [
        ({"imbalance_factor": 0.5}, "imbalance_factor is 0.5"),
        ({"imbalance_facto": 5.0}, "did you mean 'imbalance_factor'"),
    ]:
        with pytest.raises(papermill.PapermillExecutionError, match=message):
            papermill.execute_notebook(
                BOOKS[0],
                out,
                {"run": str(tmp_path / "bad"), **parameters},
                progress_bar=False,
                kernel_name="python3",
            )
        assert not (tmp_path / "bad").exists()


def test_a_run_without_its_earlier_step_says_which_one_is_missing(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="has no data yet; prepare it"):
        papermill.execute_notebook(
            BOOKS[1],
            tmp_path / "x.ipynb",
            {"run": str(Run(tmp_path / "run").path)},
            progress_bar=False,
            kernel_name="python3",
        )


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            ["fusion_ration", "0.3"],
            "unknown parameter 'fusion_ration'; did you mean 'fusion_ratio'?",
        ),
        (["fusion_ratio", "1.5"], "fusion_ratio is 1.5; it must be in [0, 1]"),
        (["fusion_ratio", "much"], "fusion_ratio is 'much' (str); it must be a number"),
        (["stage1_epochs", "2.5"], "stage1_epochs is 2.5 (float); it must be a whole number"),
        (["imbalance_factor", "0.1"], "imbalance_factor is 0.1; it must be at least 1"),
        (["run", "3"], "run is 3 (int)"),
        (["compare_seeds", "-1"], "compare_seeds is -1; it must be at least 0"),
        (["compare_ratios", "[0.0, 1.5]"], "compare_ratios is 1.5; it must be in [0, 1]"),
        (
            ["compare_ratios", "[]"],
            "compare_ratios is empty; name at least one ratio, or set compare_seeds to 0",
        ),
        (["views", "0"], "views is 0; it must be at least 1"),
        (
            ["stage2_method", "mislas", "-p", "head", "cosine"],
            "method mislas changes the lengths of the classifier's rows",
        ),
        (["stage2_method", "gcl"], "method gcl lowers cosines"),
        (
            ["source", "npz", "-p", "root", "/none.npz"],
            "source is 'npz', but there is nothing at root '/none.npz'; set it with `-p root PATH`",
        ),
        (
            ["source", "places_lt", "-p", "root", "/tmp:/none", "-p", "loader", "streamed"],
            "source is 'places_lt', but there is nothing at root '/none'",
        ),
        (
            ["checkpoint", "none.pth.tar"],
            "there is no checkpoint none.pth.tar; set it with `-p checkpoint FILE`",
        ),
        (["pretrained", "none.pth"], "pretrained none.pth does not exist; name a file of weights"),
    ],
)
def test_bad_parameters_are_refused_before_any_work(tmp_path, pairs, message):
    for how in ([], ["--plain"]):
        result = cli("run", RECIPES[-1], *how, "-p", "run", tmp_path / "run", "-p", *pairs)
        assert (
            result.exit_code == 2
            and f"Error: {message}" in result.output
            and not (tmp_path / "run").exists()
        )


def test_a_recipe_with_an_unknown_parameter_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("source: digits\nlearning_rate: 0.1\n")
    result = cli("run", tmp_path / "r.yaml")
    assert result.exit_code == 2 and "unknown parameter 'learning_rate'" in result.output
    assert "none.yaml does not exist" in cli("run", tmp_path / "none.yaml").output


def test_a_run_in_use_is_refused(done):
    run, _ = done
    with Run(run).lock("notebooks"):
        result = subprocess.run(
            [sys.executable, "-m", "h2t.cli", "run", RECIPES[-1], *map(str, quick(run))],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    assert result.returncode == 2 and "in use by another process" in result.stderr


def test_a_job_killed_in_training_goes_on_to_the_same_end(done, tmp_path):
    run = tmp_path / "run"  # notebook 01 is done
    shutil.copytree(done[0], run, ignore=shutil.ignore_patterns("stage*", "0[234]_*", ".lock*"))
    command = [sys.executable, "-m", "h2t.cli", "run", RECIPES[-1], *map(str, quick(run))]
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
        # first the kernel alone: the notebook is tried once more, and goes on from the checkpoint; then all of them
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
    ):  # its kernel notices that the parent is gone and lets go of the run
        try:
            with Run(run).lock():
                break
        except Error:
            time.sleep(0.2)
    assert cli("run", RECIPES[-1], "--plain", *quick(run)).exit_code == 0
    for name in ("stage1", "stage2-h2t"):
        assert same_weights(Run(run).step(name), Run(done[0]).step(name))


def test_import_and_evaluate_from_the_command_line(tmp_path):
    from tests.exchange.test_reference import write

    write(tmp_path / "c.pth.tar")
    result = cli(
        "import", tmp_path / "c.pth.tar", "--run", tmp_path / "run", "--recipe", RECIPES[-1]
    )
    assert result.exit_code == 0 and result.output.splitlines()[1].startswith("stage 1")
    assert (
        cli("evaluate", tmp_path / "run").output.splitlines()[:2] == result.output.splitlines()[:2]
    )
    bad = cli("import", tmp_path / "c.pth.tar", "--run", tmp_path / "x", "-p", "sourc", "digits")
    assert bad.exit_code == 2 and "unknown parameter 'sourc'" in bad.output
    np.save(tmp_path / "i.npy", np.array([0, 0]))
    bad = cli(
        "import",
        tmp_path / "c.pth.tar",
        "--run",
        tmp_path / "x",
        "--recipe",
        RECIPES[-1],
        "--indices",
        tmp_path / "i.npy",
    )
    assert bad.exit_code == 2 and "twice" in bad.output


def test_ones_own_few_images_and_an_imported_stage1_go_through_all_notebooks(tmp_path, monkeypatch):
    """Nothing here fits the digits: a natural set, all classes *few*, colour, no test part, a stage 1 without history."""
    from PIL import Image

    from tests.exchange.test_reference import write

    r = np.random.default_rng(0)
    for k, n in enumerate((16, 9, 6)):
        folder = tmp_path / "images" / f"kind {k}"
        folder.mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(r.normal(60 + 70 * k, 30, (12, 10, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    write(tmp_path / "c.pth.tar", classes=3, channels=3)
    monkeypatch.setenv("H2T_FIGURES", "png")
    run = tmp_path / "run"
    assert cli("import", tmp_path / "c.pth.tar", "--run", run).exit_code == 0
    wanted = {
        "source": "folder",
        "root": tmp_path / "images",
        "image_size": 12,
        "profile": "natural",
        "batch_size": 8,
        "stage2_epochs": 2,
        "compare_ratios": "[0.0, 0.5]",
        "compare_seeds": 2,
        "views": 2,
        "run": run,
    }
    parameters, books = notebooks.load_recipe(
        RECIPES[-1], {k: notebooks.parse_value(str(v)) for k, v in wanted.items()}
    )
    assert in_one_process(run, books, parameters) == 0
    books = {b.stem: (run / "notebooks" / b.name).read_text() for b in BOOKS}
    assert (
        "was imported from c.pth.tar" in books["02_stage1"]
        and "on the larger classes" in books["02_stage1"]
    )
    assert (
        "H2T moves the smaller classes by" in books["03_stage2"]
        and not (run / "figures" / "02_learning_curves.png").exists()
    )
    rows = (run / "figures" / "03_exact_and_cached.csv").read_text().splitlines()
    assert (
        len(rows) == 1 + 2 * 2 * 2 and not Run(run).step("stage2-exact-p0-s0").done
    )  # the control is that very run
    wrong = cli(
        "run",
        RECIPES[-1],
        "-p",
        "source",
        "folder",
        "-p",
        "root",
        tmp_path / "nothing",
        "-p",
        "run",
        tmp_path / "x",
    )
    assert wrong.exit_code == 2 and "nothing" in wrong.output and "Traceback" not in wrong.output
    shutil.copytree(tmp_path / "images" / "kind 0", tmp_path / "single" / "kind 0")
    one = cli(
        "run",
        RECIPES[-1],
        "-p",
        "source",
        "folder",
        "-p",
        "root",
        tmp_path / "single",
        "-p",
        "image_size",
        12,
        "-p",
        "run",
        tmp_path / "y",
    )
    assert one.exit_code == 2 and "has one class" in one.output


def in_one_process(run, books, parameters) -> int:
    """Execute notebooks as the jobs of a sweep do. Returns: the exit code."""
    process = processes().Process(target=execute_inline, args=(run, books, parameters))
    process.start()
    process.join()
    return process.exitcode


def test_the_engine_of_sweeps_gives_what_a_kernel_gives(done, tmp_path):
    """The same cells with the same outputs, except for where they ran and how long it took."""
    parameters, books = notebooks.load_recipe(RECIPES[-1], QUICK)
    assert in_one_process(tmp_path / "run", books[:1], parameters) == 0
    both = [
        json.loads((run / "notebooks" / books[0].name).read_text().replace(str(run), "RUN"))[
            "cells"
        ]
        for run in (done[0], tmp_path / "run")
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
    assert notebooks.done(Run(tmp_path / "run"), books[0], parameters)


@pytest.mark.parametrize(
    "book", [*BOOKS, ROOT / "notebooks" / "06_compare_runs.ipynb"], ids=lambda p: p.stem
)
def test_the_contract_of_a_notebook(book):
    cells = json.loads(book.read_text())["cells"]
    first = "".join(cells[0]["source"])
    assert (
        first.startswith(f"# {book.stem[:2]} · ")
        and first.split("\n")[0].endswith("?")
        and "**Cost:**" in first
        and "**Series:**" in first
    )
    tagged = [k for k, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", [])]
    assert tagged == [1]
    for line in cells[1]["source"]:
        name, rest = line.split(":", 1)
        assert "  # " in rest and "=" in rest, line
    for cell in cells[2:]:
        if cell["cell_type"] == "code":
            assert len(cell["source"]) <= 18 and not any(
                line.startswith("class ") for line in cell["source"]
            )
    assert any(line.startswith("assert ") for line in cells[-1]["source"])


@pytest.mark.parametrize("book", BOOKS, ids=lambda p: p.stem)
def test_notebook_parameters_are_the_fields_of_their_step(book):
    step = {"01": config.Data, "02": config.Stage1, "03": config.Stage2}.get(book.stem[:2])
    declared = notebooks.declared(book)
    values = {k: v for k, (v, _) in declared.items()}
    own = (
        {*config.Cached().to_dict(), *config.Control().to_dict()}
        if book.stem[:2] == "03"
        else set()
    )
    if step:
        assert {*step().to_dict(), "run", *own} == set(declared)
        step.of(values)
    recipe = yaml.safe_load(RECIPES[-1].read_text())
    assert RECIPES[-1].stem == "digits"
    assert {k: v for k, v in values.items() if k in recipe} == {
        k: v for k, v in recipe.items() if k in values
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_valid(recipe):
    parameters, books = notebooks.load_recipe(recipe, {})
    assert books == BOOKS and parameters["run"] == f"runs/{recipe.stem}"


@pytest.mark.parametrize("recipe", [p for p in ALL if p not in RECIPES], ids=lambda p: p.stem)
def test_every_sweep_is_valid(recipe):
    from h2t.study.sweep.plan import plan

    planned = plan(recipe)
    assert planned.root.name == recipe.stem and len(planned.points) > 1 and "seed" in planned.axes


def test_values_are_read_as_papermill_reads_them():
    read = notebooks.parse_value
    assert [read(x) for x in ("3", "0.5", "1e-3", "true", "digits", "[0.8, 0.9]", "")] == [
        3,
        0.5,
        0.001,
        True,
        "digits",
        [0.8, 0.9],
        "",
    ]
    assert [read(x) for x in ("[5e-4, ce, 2]", "{from: 1e-4, to: 1e-3}")] == [
        [0.0005, "ce", 2],
        {"from": 0.0001, "to": 0.001},
    ]
