"""Runs that do not fit the digits: a checkpoint of others, images of one's own."""

import numpy as np
import papermill
import yaml

from h2t import Run
from h2t.lab.books import execute as notebooks
from tests.lab.jobs import BOOKS, RECIPES, cli, in_one_process, no_files

__all__ = ["no_files"]


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


def folders_of(root, *sizes):
    """A folder a class, of noise that is the brighter the later the class."""
    from PIL import Image

    r = np.random.default_rng(0)
    for k, n in enumerate(sizes):
        (root / f"kind {k}").mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(r.normal(60 + 70 * k, 30, (12, 10, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"kind {k}" / f"{i}.png")


def test_ones_own_few_images_and_an_imported_stage1_go_through_all_notebooks(tmp_path, monkeypatch):
    """Nothing here fits the digits: a natural set, all classes *few*, colour, no test part, a
    stage 1 without history."""
    from tests.exchange.test_reference import write

    folders_of(tmp_path / "images", 16, 9, 6)
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
        "moves the smaller classes by" in books["03_stage2"]
        and not (run / "figures" / "02_learning_curves.png").exists()
    )
    rows = (run / "figures" / "03_exact_and_cached.csv").read_text().splitlines()
    assert (
        len(rows) == 1 + 2 * 2 * 2 and not Run(run).step("stage2-exact-p0-s0").done
    )  # the control is that very run


def test_a_folder_that_is_not_there_and_one_class_alone_are_refused(tmp_path):
    folders_of(tmp_path / "single", 16)
    nothing = ["-p", "root", tmp_path / "nothing", "-p", "run", tmp_path / "x"]
    wrong = cli("run", RECIPES[-1], "-p", "source", "folder", *nothing)
    assert wrong.exit_code == 2 and "nothing" in wrong.output and "Traceback" not in wrong.output
    single = [
        "-p",
        "root",
        tmp_path / "single",
        "-p",
        "image_size",
        12,
        "-p",
        "run",
        tmp_path / "y",
    ]
    one = cli("run", RECIPES[-1], "-p", "source", "folder", *single)
    assert one.exit_code == 2 and "has one class" in one.output
