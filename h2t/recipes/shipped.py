"""The recipes and notebooks that come with h2t: in the package, or beside it in a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from h2t.base.errors import Error, nearest
from h2t.base.files import resolve

FIRST = "01_dataset.ipynb"


def folders() -> list[Path]:
    """Where notebooks lie, those of who is asking first: here, in the package, in its checkout."""
    package = Path(str(files("h2t")))
    found = (resolve("notebooks"), package / "notebooks", package.parent / "notebooks")
    return [folder for folder in found if (folder / FIRST).exists()]


def _files() -> dict[str, Path]:
    found = [f for folder in folders() for f in sorted((folder / "recipes").glob("*.yaml"))]
    return {file.stem: file for file in reversed(found)}


def recipe_file(recipe: str | Path) -> Path:
    """The file of a recipe, which is named by its path, or by its name alone."""
    path, name = resolve(recipe), str(recipe)
    if path.is_file() or "/" in name or "\\" in name or Path(name).suffix:
        return path  # who reads it says what is wrong with it
    if name in (known := _files()):
        return known[name]
    near = nearest(name, known)
    raise Error(f"there is no recipe {name!r};{near} `h2t recipes` lists them, or name a file")


def recipes() -> dict[str, str]:
    """Names of the recipes that h2t brings, each with the comment that its file begins with."""
    texts = {name: file.read_text(encoding="utf-8") for name, file in sorted(_files().items())}
    return {name: text.split("\n")[0].strip("# .") for name, text in texts.items()}
