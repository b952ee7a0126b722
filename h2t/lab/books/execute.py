"""A recipe through the notebooks: what is done already, and papermill to run the rest.

The executed notebook is never the sign that a run is done: a key of code, parameters and package
source is, and it is written last, beside the executed copy.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from h2t.base.errors import Error, named
from h2t.base.files import write_atomic
from h2t.base.machine import DEVICE
from h2t.base.readers import parse_yaml, read_yaml
from h2t.lab.books.cells import MAIN, code_cells, declared, find
from h2t.pipeline import begun, check_files, forget
from h2t.recipes import grid
from h2t.recipes import methods as recipes
from h2t.recipes import parameters as config
from h2t.recipes.names import STEPS
from h2t.recipes.shipped import recipe_file
from h2t.runs import Run

_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}


def parse_value(text: str) -> Any:
    """A value of the command line as papermill reads it: YAML, where 1e-3 is a number too."""
    try:
        value = parse_yaml(text)
    except (ValueError, yaml.YAMLError):
        return text
    return _numbers(value) if text.strip() else ""


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
    config.check({**complete({}, notebooks), **parameters}, also=known)
    for name, value in parameters.items():
        if name not in known:
            raise Error(f"parameter {name!r} belongs to no notebook that is run here")
        want = _TYPES.get(known[name].split("[")[0])
        if name in config.declared() or want is None:
            continue
        fits = isinstance(value, want | int if want is float else want)
        if not fits or (isinstance(value, bool) and want is not bool):
            kind = f"notebook parameters declare it as {known[name]}"
            raise Error(f"{name} is {value!r} ({type(value).__name__}); {kind}")


def load_recipe(recipe: str | Path, overrides: dict[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """A recipe with overrides, checked, and the notebooks it goes through.

    Raises: ``h2t.Error`` before any work.
    """
    path = recipe_file(recipe)
    folder = find(path)
    notebooks = [folder / f"{name}.ipynb" for name in MAIN]
    defaults = complete({}, notebooks)
    given = grid.settle(grid.merge(read_yaml(path), overrides), set(defaults))
    parameters = recipes.merged(given, overrides, defaults)
    check(parameters, notebooks)
    return parameters, notebooks


def complete(parameters: dict[str, Any], notebooks: list[Path]) -> dict[str, Any]:
    """Parameters, with the notebooks' defaults for what they leave open."""
    defaults = {name: value for nb in notebooks for name, (value, _) in declared(nb).items()}
    return {**defaults, **parameters}


def run_recipe(
    parameters: dict[str, Any],
    notebooks: list[Path],
    *,
    again: bool = False,
    progress: bool = True,
    device: str = "auto",
) -> Run:
    """Run notebooks 01 to 04 into one run directory; what is done already is not run again.

    Arguments: ``device`` to train on, auto, cpu or cuda.
    Raises: ``h2t.Error`` with the notebook's own message where a cell fails.
    """
    place = parameters.get("run") or declared(notebooks[0])["run"][0]
    if again or not begun(place):
        check_files(complete(parameters, notebooks))
    run = Run(place)
    if again:
        forget(run)
    with run.lock("notebooks"), _on(device):
        todo = [nb for nb in notebooks if not done(run, nb, parameters)]
        # one cell more each: papermill injects the parameters
        with _bar(run, sum(len(code_cells(nb)) + 1 for nb in todo), progress) as (advance, say):
            for nb in todo:
                say(nb.stem)
                execute(run, nb, parameters, counting(advance))
    return run


@contextlib.contextmanager
def _on(device: str):
    """Let the kernels that are started train on a device: they inherit the environment."""
    before = os.environ.get(DEVICE)
    if device != "auto":
        os.environ[DEVICE] = device
    try:
        yield
    finally:
        if device != "auto":
            os.environ.pop(DEVICE)
            os.environ.update({DEVICE: before} if before is not None else {})


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


def execute(run: Run, notebook: Path, parameters: dict[str, Any], engine, reads: str = "") -> None:
    """Execute one notebook into a run, by papermill. Call under ``run.lock("notebooks")``.

    Arguments: ``engine`` of papermill: ``counting`` or ``inline.InlineEngine``; ``reads`` as in
    ``done``. Raises: ``h2t.Error`` with the notebook's own message where a cell fails; its
    ``notebook`` is the executed copy, which shows where.
    """
    pm = papermill()
    pm.engines.papermill_engines.register("h2t", engine)
    out = run.path / "notebooks" / notebook.name
    part = out.with_suffix(".part.ipynb")
    out.parent.mkdir(exist_ok=True)
    own = _own(notebook, parameters)
    if "run" in declared(notebook):
        own["run"] = str(run.path)
    # the kernel would warn of TCP on loopback at every start
    how = {"progress_bar": False, "extra_arguments": ["--log-level=40"], "engine_name": "h2t"}
    how |= {"cwd": str(Path.cwd()), "kernel_name": "python3"}
    for attempt in (1, 2):
        try:
            pm.execute_notebook(notebook, part, own, **how)
            break
        except pm.PapermillExecutionError as e:
            part.replace(out)
            error = Error(_explain(e, out))
            error.notebook = out
            raise error from None
        except Exception as e:
            if type(e).__name__ != "DeadKernelError":
                raise
            if attempt == 2:
                why = f"(out of memory?); {part} shows how far it came"
                raise Error(f"the kernel of {notebook.name} died twice {why}") from None
    part.replace(out)
    write_atomic(out.with_suffix(".done"), _key(notebook, parameters, reads).encode())


def _explain(e, out: Path) -> str:
    if e.ename == "Error":  # h2t.Error: its message says what to do
        return str(e.evalue)
    said = named(e.ename, e.evalue)
    return f"cell {e.exec_count} of {out.name} ended in {said}\nThe executed copy is {out}"


def papermill():
    """papermill, imported when it is needed. Raises ``h2t.Error`` where it is not installed."""
    try:
        import papermill
        import papermill.engines
    except ImportError:
        way = "use --plain to train without them"
        raise Error(f"papermill is not installed, so the notebooks cannot run; {way}") from None
    return papermill


def counting(advance: Callable[[], None]):
    """papermill's engine with a kernel of this environment, which counts the code cells it ran."""
    from h2t.lab.books.kernel import OwnKernel

    class Counting(papermill().engines.NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, *args, **how):
            complete = nb_man.cell_complete

            def counted(cell, *a, **k):
                if cell.cell_type == "code":
                    advance()
                return complete(cell, *a, **k)

            nb_man.cell_complete = counted
            how["kernel_manager_class"] = OwnKernel
            return super().execute_managed_notebook(nb_man, *args, **how)

    return Counting


@contextlib.contextmanager
def _bar(run: Run, total: int, progress: bool):
    """A bar over code cells that also says which step trains: a function to count, one to name."""
    from tqdm import tqdm

    stop, form = threading.Event(), "{l_bar}{bar:20}| {elapsed}{postfix}"
    with tqdm(total=total, unit="cell", disable=not progress, bar_format=form) as bar:

        def follow():
            while not stop.wait(0.5):
                bar.set_postfix_str(state(run), refresh=True)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield bar.update, bar.set_description_str
        finally:
            stop.set()
            thread.join()
            bar.set_postfix_str("")


def state(run: Run) -> str:
    """What a run is training right now: step, epoch, latest test accuracy and the time that its
    step still takes; empty where nothing is under way."""
    for folder in sorted(run.path.glob("stage*")):
        step = run.step(folder.name)
        if step.done:
            continue
        try:
            params, rows = step.params, step.history()
        except (OSError, ValueError, Error):
            continue
        name = STEPS.get(step.name, step.name)
        epochs = params.get("stage1_epochs" if step.name == "stage1" else "stage2_epochs")
        if not epochs or not rows:
            return f"{name}: begun"
        last, measured = rows[-1], [r["all"] for r in rows if r.get("all") is not None]
        spent = sum(r["seconds"] + r.get("eval_seconds", 0) for r in rows)
        left = spell((epochs - last["epoch"]) * spent / len(rows))
        accuracy = f", test top-1 {measured[-1]:.1f} %" if measured else ""
        return f"{name}: epoch {last['epoch']}/{epochs}{accuracy}, {left} left"
    return ""


def spell(seconds: float) -> str:
    """A duration as one says it."""
    hours = seconds / 3600
    for limit, value, unit, digits in (
        (90 / 3600, seconds, "s", 0),
        (1.5, 60 * hours, "min", 0),
        (10, hours, "h", 1),
        (48, hours, "h", 0),
    ):
        if hours < limit:
            return f"{value:.{digits}f} {unit}"
    return f"{hours / 24:.0f} days"
