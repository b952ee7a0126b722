"""What stands in the notebooks: where they are, their code, the parameters they declare."""

from __future__ import annotations

import ast
import functools
import json
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.recipes.shipped import folders

MAIN = ("01_dataset", "02_stage1", "03_stage2", "04_analysis")


def find(recipe: Path | None = None) -> Path:
    """The folder of notebooks of a recipe: the one above its ``recipes/``, else those here or of
    the package."""
    above = [recipe.resolve().parent.parent] if recipe else []
    for folder in (*above, *folders()):
        if (folder / f"{MAIN[0]}.ipynb").exists():
            return folder
    raise Error("cannot find the notebooks; install h2t, or go to its checkout")


def code_cells(notebook: Path) -> list[tuple[set[str], str]]:
    """Tags and source of a notebook's code cells."""
    return list(_code_cells(notebook, notebook.stat().st_mtime_ns))


@functools.lru_cache(64)
def _code_cells(notebook: Path, changed: int) -> tuple[tuple[set[str], str], ...]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return tuple(
        (set(c["metadata"].get("tags", [])), "".join(c["source"]))
        for c in cells
        if c["cell_type"] == "code"
    )


def declared(notebook: Path) -> dict[str, tuple[Any, str]]:
    """What a parameters cell declares by ``name: type = value``: name to (value, type)."""
    return dict(_declared(notebook, notebook.stat().st_mtime_ns))


@functools.lru_cache(64)
def _declared(notebook: Path, changed: int) -> dict[str, tuple[Any, str]]:
    source = next((s for tags, s in code_cells(notebook) if "parameters" in tags), "")
    nodes = [
        n for n in ast.parse(source).body if isinstance(n, ast.AnnAssign) and n.value is not None
    ]
    return {n.target.id: (ast.literal_eval(n.value), ast.unparse(n.annotation)) for n in nodes}
