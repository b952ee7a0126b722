"""What a user meets before any training: versions, imports, the command line, the shape of the checkout."""

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


def test_importing_h2t_loads_neither_torch_nor_numpy():
    code = "import sys, h2t; print([m for m in ('torch', 'numpy', 'pandas', 'matplotlib') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_every_public_name_resolves():
    import h2t

    for name in h2t.__all__:
        assert getattr(h2t, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = h2t.nonsense


def test_help_loads_no_torch():
    code = "import sys; from h2t.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip().endswith("False") and "evaluate" in out and "import" in out


def test_planning_a_sweep_loads_neither_torch_nor_papermill_nor_ray():
    code = "import sys; from h2t.study.sweep.plan import plan; plan('notebooks/recipes/digits_sweep.yaml'); print([m for m in ('torch', 'papermill', 'ray', 'IPython') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip()
        == "[]"
    )


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return {m for m in found if m.startswith("h2t.")}


LEAVES = ("data", "models", "losses", "fusion", "metrics", "runs", "plots")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "h2t").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_arrows_of_the_design(path):
    """Leaves do not import one another or what is above them; nothing imports the command line."""
    parts = path.relative_to(ROOT / "h2t").with_suffix("").parts
    used = {m.split(".")[1] for m in imports(path)}
    if parts[0] in LEAVES:
        door = {"study"} if parts[0] == "runs" else set()  # runs.table loads it when it is called
        assert used <= {parts[0], "base", "__version__", *door}, used
    if parts[-1] == "__main__":  # a command of its own
        return
    assert "cli" not in used
    if parts[0] in ("train", "losses", "models", "data"):
        assert not used & {"lab", "study", "plots"}


def test_no_torch_at_module_level_where_it_is_not_needed():
    for name in (
        "cli",
        "runs",
        "plots/__init__",
        "plots/style",
        "plots/classes",
        "metrics",
        "lab/books/execute",
        "base/files",
        "data/split",
        "data/sources",
        "data/longtail",
        "recipes/parameters",
        "recipes/fields",
        "recipes/methods",
        "study/sweep/plan",
        "recipes/grid",
        "study/sweep/job",
        "study/sweep/pool",
        "study/sweep/estimate",
        "study/sweep/board",
        "study/sweep/cluster",
        "study/sweep/store",
    ):
        tree = ast.parse((ROOT / f"h2t/{name}.py").read_text())
        top = {
            a.name.split(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names
        }
        top |= {
            n.module.split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom) and n.module
        }
        assert not top & {"torch", "torchvision", "papermill"}, name


def tracked() -> list[Path]:
    out = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if out.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in out.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_top_level_is_what_the_design_says():
    top = {p.relative_to(ROOT).parts[0] for p in tracked()}
    allowed = {
        "notebooks",
        "h2t",
        "tests",
        "environment.yml",
        "README.md",
        "pyproject.toml",
        "LICENSE",
        "CITATION.cff",
        ".ci",
        ".gitignore",
    }
    assert {t for t in top if t not in allowed} == set()


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
