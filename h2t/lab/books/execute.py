"""A recipe through the notebooks: what is done already, and papermill to run the rest.

The executed notebook is never the sign that a run is done: a key of code, parameters and package
source is, and it is written last, beside the executed copy.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from h2t.base.errors import Error, named
from h2t.base.files import write_atomic
from h2t.base.readers import parse_yaml, read_yaml
from h2t.lab.books.cells import MAIN, code_cells, declared, find
from h2t.recipes import methods as recipes
from h2t.recipes import parameters as config
from h2t.recipes.names import STEPS
from h2t.recipes.shipped import recipe_file
from h2t.runs import Run

_TYPES = {"int": [int], "float": [int, float], "str": [str], "bool": [bool], "list": [list]}


def parse_value(text: str) -> Any:
    """A value of the command line as papermill reads it: YAML, where 1e-3 is a number too."""
    if not text.strip():
        return ""
    try:
        return _numbers(parse_yaml(text))
    except ValueError:
        return text


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    with contextlib.suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def check(parameters: dict[str, Any], notebooks: list[Path]) -> None:
    """Refuse a parameter that no notebook declares, or a value that its declaration forbids."""
    known = {name: kind for nb in notebooks for name, (_, kind) in declared(nb).items()}
    # with their defaults: some values do not go together
    config.check(complete(parameters, notebooks), also=known)
    for name, value in parameters.items():
        if name not in known:
            raise Error(f"parameter {name!r} belongs to no notebook that is run here")
        if name in config.described_parameters():
            continue
        if type(value) not in _TYPES[known[name].split("[")[0]]:
            kind = f"notebook parameters declare it as {known[name]}"
            raise Error(f"{name} is {value!r} ({type(value).__name__}); {kind}")


def load_recipe(recipe: str | Path, overrides: dict[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """A recipe with overrides, checked, and the notebooks it goes through."""
    path = recipe_file(recipe)
    folder = find(path)
    notebooks = [folder / f"{name}.ipynb" for name in MAIN]
    defaults = complete({}, notebooks)
    parameters = recipes.merged(read_yaml(path), overrides, defaults)
    check(parameters, notebooks)
    return parameters, notebooks


def complete(parameters: dict[str, Any], notebooks: list[Path]) -> dict[str, Any]:
    """Parameters, with the notebooks' defaults for what they leave open."""
    defaults = {name: value for nb in notebooks for name, (value, _) in declared(nb).items()}
    return {**defaults, **parameters}


def _own(notebook: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in parameters.items() if k in declared(notebook)}


@functools.cache
def _package() -> str:
    sources = sorted(Path(__file__).parents[2].rglob("*.py"))
    text = "\0".join(p.read_text(encoding="utf-8") for p in sources)
    return hashlib.sha256(text.encode()).hexdigest()


def _key(notebook: Path, parameters: dict[str, Any], reads: str) -> str:
    # a run may be moved, or taken over by another
    own = {k: v for k, v in _own(notebook, parameters).items() if k != "run"}
    parts = [s for _, s in code_cells(notebook)] + [_package(), reads]
    parts.append(json.dumps(own, sort_keys=True, default=str))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def done(run: Run, notebook: Path, parameters: dict[str, Any], reads: str = "") -> bool:
    """Whether a run holds the finished copy of a notebook as it is, with these parameters.

    Arguments: ``reads`` stands for what else it depends on, such as the hash of a table.
    """
    mark = run.path / "notebooks" / f"{notebook.stem}.done"
    return mark.exists() and mark.read_text() == _key(notebook, parameters, reads)


def execute(run: Run, notebook: Path, parameters: dict[str, Any], reads: str = "") -> None:
    """Execute one notebook into a run, by papermill, with the imports that this process has.

    Call under ``run.lock("notebooks")``, in a process with no other IPython, such as that of a
    command or of a sweep's job.

    Arguments: ``reads`` as in ``done``. Raises: ``h2t.Error`` with the notebook's own message where
    a cell fails.
    """
    import papermill as pm

    from h2t.lab.books.inline import InlineEngine

    pm.engines.papermill_engines.register("h2t", InlineEngine)
    out = run.path / "notebooks" / notebook.name
    part = out.with_suffix(".part.ipynb")
    out.parent.mkdir(exist_ok=True)
    own = _own(notebook, parameters)
    if "run" in declared(notebook):
        own["run"] = str(run.path)
    how = {"engine_name": "h2t", "kernel_name": "python3", "progress_bar": False}
    try:
        pm.execute_notebook(notebook, part, own, **how)
    except pm.PapermillExecutionError as e:
        if e.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from None
        part.replace(out)
        raise Error(_explain(e, out)) from None
    part.replace(out)
    write_atomic(out.with_suffix(".done"), _key(notebook, parameters, reads).encode())


def _explain(e, out: Path) -> str:
    if e.ename == "Error":  # h2t.Error: its message says what to do
        return str(e.evalue)
    said = named(e.ename, e.evalue)
    return f"cell {e.exec_count} of {out.name} ended in {said}\nThe executed copy is {out}"


def state(run: Run) -> str:
    """What a run is training right now: step, epoch, latest test accuracy and the time that its
    step still takes; empty where nothing is under way."""
    for folder in sorted(run.path.glob("stage*")):
        step = run.step(folder.name)
        if step.done:
            continue
        try:
            params, rows = step.params, step.history()
        except Error:  # a file of it is damaged: who opens it says so
            continue
        name = STEPS.get(step.name, step.name)
        epochs = params.get("stage1_epochs" if step.name == "stage1" else "stage2_epochs")
        if not epochs or not rows:
            return f"{name}: begun"
        last, measured = rows[-1], [r["all"] for r in rows if r.get("all") is not None]
        spent = sum(r["seconds"] + r.get("eval_seconds", 0) for r in rows)
        left = tqdm.format_interval((epochs - last["epoch"]) * spent / len(rows))
        accuracy = f", test top-1 {measured[-1]:.1f} %" if measured else ""
        return f"{name}: epoch {last['epoch']}/{epochs}{accuracy}, {left} left"
    return ""
