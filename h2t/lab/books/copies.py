"""A working copy of the notebooks where the user is, and JupyterLab opened on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from h2t.base.errors import Error
from h2t.base.files import claim, owned, resolve, write_atomic, write_json
from h2t.base.readers import read_json, sha256
from h2t.recipes.shipped import FIRST

KIND, RECORD = "notebooks", ".given.json"  # the record: each file as it was copied, by its hash


def command(arguments: Sequence[str]) -> list[str]:
    """The command that opens the notebooks in JupyterLab, a working copy made first if need be.

    Its root is the folder above them, so that runs and saved figures can be opened too.
    """
    books = working_copy(resolve("notebooks"))
    place = [f"--ServerApp.root_dir={books.parent}", "--LabApp.default_url=/lab/tree/notebooks"]
    return [sys.executable, "-m", "jupyterlab", *place, *arguments]


def working_copy(folder: Path) -> Path:
    """Copy the package's notebooks and recipes into a folder; a checkout's own are let be.

    What is there already and was changed stays as it is; what was not is brought up to date.
    Raises: ``h2t.Error`` where the folder holds something else.
    """
    shipped = Path(str(files("h2t"))) / "notebooks"
    if (folder / FIRST).exists() and not (owned(folder, KIND) and shipped.is_dir()):
        return folder
    if not shipped.is_dir():
        raise Error(f"there are no notebooks in {folder}; go to h2t's checkout, or install h2t")
    claim(folder, KIND)
    record = folder / RECORD
    given = read_json(record) if record.exists() else {}
    for file in sorted(p for p in shipped.rglob("*") if p.is_file()):
        name = file.relative_to(shipped).as_posix()
        place = folder / name
        changed = place.exists() and sha256(place) != given.get(name)
        if not changed:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(place, file.read_bytes())
            given[name] = sha256(place)
    write_json(record, given)
    return folder
