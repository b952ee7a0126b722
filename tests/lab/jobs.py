"""What the tests of the notebooks share: the command line, the recipes, and a quick run."""

import pytest
from click.testing import CliRunner

from h2t.cli import main
from h2t.lab.books import execute as notebooks
from tests.helpers import ROOT, execute_inline, processes

ALL = sorted((ROOT / "notebooks" / "recipes").glob("*.yaml"))
RECIPES = sorted(
    (p for p in ALL if not p.stem.endswith(("_sweep", "_search"))), key=lambda p: p.stem == "digits"
)  # the main job last
BOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in notebooks.MAIN]
QUICK = {"stage1_epochs": 10, "stage2_epochs": 4, "compare_seeds": 0}


def cli(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def no_files(monkeypatch):
    """Figures in the executed notebooks only: those of ``done`` are looked for as files."""
    monkeypatch.setenv("H2T_FIGURES", "")


def quick(run):
    return [x for k, v in {**QUICK, "run": run}.items() for x in ("-p", k, v)]


def in_one_process(run, books, parameters) -> int:
    """Execute notebooks as the jobs of a sweep do. Returns: the exit code."""
    process = processes().Process(target=execute_inline, args=(run, books, parameters))
    process.start()
    process.join()
    return process.exitcode
