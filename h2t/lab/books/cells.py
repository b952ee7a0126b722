"""What stands in the notebooks: where they are, their code, the parameters they declare."""

from __future__ import annotations

import ast
import functools
import json
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.recipes.shipped import FIRST, folders

MAIN = ("01_dataset", "02_stage1", "03_stage2", "04_analysis")


def find(recipe: Path | None = None) -> Path:
    """The folder of notebooks of a recipe: the one above its ``recipes/``, else those here or of
    the package."""
    above = [recipe.resolve().parent.parent] if recipe else []
    for folder in (*above, *folders()):
        if (folder / FIRST).exists():
            return folder
    raise Error("cannot find the notebooks; install h2t, or go to its checkout")


def code_cells(notebook: Path) -> list[tuple[list[str], str]]:
    """Tags and source of a notebook's code cells."""
    return _read(notebook, notebook.stat().st_mtime_ns)[0]


def declared(notebook: Path) -> dict[str, tuple[Any, str]]:
    """What a parameters cell declares by ``name: type = value``: name to (value, type)."""
    return _read(notebook, notebook.stat().st_mtime_ns)[1]


@functools.lru_cache(64)
def _read(notebook: Path, changed: int):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        (c["metadata"].get("tags", []), "".join(c["source"]))
        for c in cells
        if c["cell_type"] == "code"
    ]
    source = next((s for tags, s in code if "parameters" in tags), "")
    nodes = [n for n in ast.parse(source).body if isinstance(n, ast.AnnAssign) and n.value]
    return code, {
        n.target.id: (ast.literal_eval(n.value), ast.unparse(n.annotation)) for n in nodes
    }
