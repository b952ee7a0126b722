"""The wheel, in a fresh environment and an empty folder: recipes and notebooks go with it."""

import json
import os
import shutil
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = ["stage1_epochs", "1", "warmup_epochs", "0", "stage2_epochs", "1", "compare_seeds", "0"]
TINY += ["n_max", "40", "imbalance_factor", "10"]
OPTIONS = [x for k in range(0, len(TINY), 2) for x in ("-p", *TINY[k : k + 2])]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs h2t from the wheel in an empty folder. Returns: it and the folder."""
    if not shutil.which("uv"):
        pytest.skip("uv, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("installed")
    build = ["uv", "build", "--wheel", "--offline", "-o", str(folder), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, is not cached and cannot be fetched")
    assert built.returncode == 0, built.stderr
    # what h2t depends on is taken from this environment, h2t itself from the wheel
    venv.create(folder / "venv")
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = next((folder / "venv" / scripts).glob("python*"))
    own = next((folder / "venv").rglob("site-packages"))
    (own / "depends.pth").write_text(sysconfig.get_path("purelib"))
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(own)
    (folder / "empty").mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"H2T_FIGURES": ""}

    def h2t(*arguments):
        command = [str(python), "-m", "h2t", *arguments]
        how = dict(capture_output=True, text=True, cwd=folder / "empty", env=environment)
        done = subprocess.run(command, **how)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = [str(python), "-c", "import h2t; print(h2t.__file__)"]
    where = subprocess.run(code, capture_output=True, text=True, cwd=folder, env=environment)
    assert str(own) in where.stdout, where
    return h2t, folder / "empty"


def test_recipes_are_listed_with_a_sentence(installed):
    listed = dict(line.split(maxsplit=1) for line in installed[0]("recipes").splitlines()[1:-1])
    assert set(listed) == {f.stem for f in (ROOT / "notebooks" / "recipes").glob("*.yaml")}
    assert all(len(sentence) > 20 for sentence in listed.values()), listed


def test_a_recipe_runs_by_its_name(installed):
    h2t, here = installed
    out = h2t("run", "digits", *OPTIONS)
    assert "DR + H2T" in out and f"run directory: {here / 'runs' / 'digits'}" in out
    assert len(list((here / "runs/digits/notebooks").glob("*.done"))) == 4


def test_a_sweep_runs_by_its_name(installed):
    one = ["-p", "seed", "[0]", "-p", "fusion_ratio", "[0.2, 0.4]"]
    out = installed[0]("sweep", "digits_sweep", "--plain", *one, *OPTIONS)
    assert "2 of 2 runs are done in" in out


def test_lab_copies_the_notebooks_and_leaves_a_changed_one_as_it_is(installed):
    h2t, here = installed
    h2t("lab", "--version")
    books = here / "notebooks"
    first, second = books / "01_dataset.ipynb", books / "02_stage1.ipynb"
    assert {p.name for p in books.glob("*.ipynb")} == {
        p.name for p in (ROOT / "notebooks").glob("*.ipynb")
    }
    mine = json.loads(first.read_text()) | {"metadata": {"mine": True}}
    first.write_text(json.dumps(mine))
    second.unlink()
    h2t("lab", "--version")
    assert json.loads(first.read_text()) == mine
    assert second.read_bytes() == (ROOT / "notebooks" / second.name).read_bytes()
    assert (books / "recipes" / "digits.yaml").exists()
