"""The parameters cells of the notebooks, written from the fields.

python -m tests.cells writes those of notebooks 01 to 03 anew.
"""

import json

from h2t.recipes.listing import BLOCKS
from h2t.recipes.parameters import Beside, Data, Stage1, Stage2
from h2t.recipes.validation import described
from tests.helpers import ROOT

# what stands at the top of a cell and is the notebook's own, and the steps whose fields follow
CELLS = {
    "01_dataset": ("run directory: all that goes on to the next notebook", (Data,)),
    "02_stage1": ("run directory, prepared by notebook 01", (Stage1,)),
    "03_stage2": ("run directory with a finished stage 1", (Stage2, Beside)),
}


TYPES = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
    "array": "list[float]",
}


def line(it) -> str:
    """A parameter as its cell declares it, on one line."""
    value = repr(it.default) if isinstance(it.default, bool) else json.dumps(it.default)
    return f"{it.name}: {TYPES[it.kind]} = {value}  # {it.text}"


def source(book: str) -> str:
    """A notebook's parameters cell."""
    where, steps = CELLS[book]
    fields = {name: it for step in steps for name, it in described(step).items()}
    lines = [f'run: str = "runs/digits"  # {where}']
    for block in BLOCKS:
        inside = [it for it in fields.values() if it.group == block]
        lines += ["", f"# {block}", *map(line, inside)] if inside else []
    return "\n".join(lines)


def write(book: str) -> None:
    path = ROOT / "notebooks" / f"{book}.ipynb"
    content = json.loads(path.read_text(encoding="utf-8"))
    cell = next(c for c in content["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell["source"] = source(book).splitlines(keepends=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in CELLS:
        write(name)
