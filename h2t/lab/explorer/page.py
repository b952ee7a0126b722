"""What the explorer leaves: figures, a recipe, a classifier in its run, and itself as one file."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import write_atomic, write_yaml
from h2t.lab import front
from h2t.lab.explorer import frames
from h2t.lab.explorer.engine import Explorer, State
from h2t.runs import check_variant

LARGEST = 20_000_000  # letters of a figure in base64, at most
MOST = 7_900_000  # bytes of a saved page
# side and quality of a saved page's pictures, none as the last resort
THUMBNAILS = ((64, 60), (32, 50), (32, 35), (32, 20), (24, 20), (16, 20), None)


def classifier(engine: Explorer, state: State, name: str) -> str:
    """Save a state's classifier as the stage-2 variant of that name. Returns: what was done."""
    result = engine.save(state, name)
    top = result["last"]["all"]
    return f"saved as {result['step']} of {engine.run.path}: {top:.2f} % of all test images"


def recipe(engine: Explorer, state: State, name: str) -> str:
    """Save parameters with which papermill runs notebook 05 to the same classifier."""
    file = _folder(engine, name) / "recipe.yaml"
    values = {
        "run": str(engine.run.path),
        "views": engine.bank.train.shape[0],
        "head_class": state.head,
        "tail_class": state.tail,
        "save_as": name,
        "settings": state.recipe.to_dict(),
    }
    write_yaml(file, values)
    return f"recipe saved: papermill notebooks/05_fusion_explorer.ipynb OUT.ipynb -f {file}"


def figures(engine: Explorer, files: dict[str, str], name: str) -> str:
    """Save figures that the front end drew, PNG or SVG in base64."""
    for file, data in files.items():
        check_variant(file)
        if not file.endswith((".png", ".svg")) or len(data) > LARGEST:
            raise Error(f"{file[:40]} is not a figure")
    folder = _folder(engine, name)
    for file, data in files.items():
        write_atomic(folder / file, base64.b64decode(data))
    return f"{len(files)} files saved in {folder}"


def title(engine: Explorer) -> str:
    return f"Fusion explorer: {engine.run.path.name}"


def page(engine: Explorer, made: list[bytes], file: str | Path) -> Path:
    """Write a finished session's frames as one file that opens anywhere, without a network.

    All classes' features and thumbnails as large as ``MOST`` bytes allow are added. Returns: the
    file. Raises as ``front.writable``.
    """
    held = [*made, *(frames.of_class(engine, c) for c in range(len(engine.bank.counts)))]
    shown = engine.shown()
    parts = np.array_split(shown, -(-len(shown) // 20_000))
    for size in THUMBNAILS:
        pictures = [frames.images(engine, part, *size) for part in parts] if size else []
        text = front.page(title(engine), "explorer_page", held + pictures)
        if len(text) <= MOST:
            break
    return front.write(file, text)


def _folder(engine: Explorer, name: str) -> Path:
    folder = engine.run.path / "explorer" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
