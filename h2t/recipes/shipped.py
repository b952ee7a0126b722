"""The recipes and notebooks that come with h2t: in the package, or beside it in a checkout."""

from __future__ import annotations

import difflib
import re
from importlib.resources import files
from pathlib import Path

from h2t.base.errors import Error
from h2t.base.files import resolve

FIRST = "01_dataset.ipynb"


def folders() -> list[Path]:
    """Where notebooks lie, those of who is asking first: here, in the package, in its checkout."""
    package = Path(str(files("h2t")))
    found = (resolve("notebooks"), package / "notebooks", package.parent / "notebooks")
    return [folder for folder in found if (folder / FIRST).exists()]


def recipe_file(recipe: str | Path) -> Path:
    """The file of a recipe, which is named by its path, or by its name alone.

    Raises: ``h2t.Error`` where there is none, with the nearest names.
    """
    path, name = resolve(recipe), str(recipe)
    if path.is_file() or "/" in name or "\\" in name or Path(name).suffix:
        return path  # who reads it says what is wrong with it
    for folder in folders():
        if (found := folder / "recipes" / f"{name}.yaml").is_file():
            return found
    near = difflib.get_close_matches(name, recipes(), 3, 0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    raise Error(f"there is no recipe {name!r}{hint} `h2t recipes` lists them, or name a file")


def recipes() -> dict[str, str]:
    """Names of the recipes that h2t brings, each with the sentence that its file begins with."""
    found: dict[str, str] = {}
    for folder in folders():
        for file in sorted((folder / "recipes").glob("*.yaml")):
            found.setdefault(file.stem, _sentence(file.read_text(encoding="utf-8")))
    return found


def _sentence(text: str) -> str:
    """The first sentence of the comment at the top."""
    comment = re.match(r"(?:# ?.*\n)*", text)[0]
    said = " ".join(line.lstrip("# ").strip() for line in comment.splitlines())
    return re.split(r"(?<=[^.\s]{3}\.) (?=[A-Z])", said, maxsplit=1)[0].rstrip(".")
