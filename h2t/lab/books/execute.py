"""A recipe through the notebooks: what they declare, what is done already, and papermill to run the rest.

The executed notebook is never the sign that a run is done: a key of code, parameters and package source is, and it is
written last, beside the executed copy.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from h2t.base.errors import Error, named
from h2t.base.files import resolve, write_atomic
from h2t.base.readers import read_yaml
from h2t.pipeline import begun, check_files, forget
from h2t.recipes import grid
from h2t.recipes import methods as recipes
from h2t.recipes import parameters as config
from h2t.recipes.names import STEPS
from h2t.runs import Run

MAIN = ("01_dataset", "02_stage1", "03_stage2", "04_analysis")
_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}


def find(recipe: Path | None = None) -> Path:
    """The folder of notebooks that belongs to a recipe: the one above its ``recipes/``, else the checkout's."""
    above = [recipe.resolve().parent.parent] if recipe else []
    for folder in (*above, resolve("notebooks"), Path(__file__).parents[3] / "notebooks"):
        if (folder / f"{MAIN[0]}.ipynb").exists():
            return folder
    raise Error(
        f"cannot find the notebooks{f' of {recipe}' if recipe else ''}; keep recipes in notebooks/recipes/ of a checkout"
    )


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
    """What a notebook's parameters cell declares: name to (default, type), each line ``name: type = value  # why``."""
    return dict(_declared(notebook, notebook.stat().st_mtime_ns))


@functools.lru_cache(64)
def _declared(notebook: Path, changed: int) -> dict[str, tuple[Any, str]]:
    source = next((s for tags, s in code_cells(notebook) if "parameters" in tags), "")
    nodes = [
        n for n in ast.parse(source).body if isinstance(n, ast.AnnAssign) and n.value is not None
    ]
    return {n.target.id: (ast.literal_eval(n.value), ast.unparse(n.annotation)) for n in nodes}


def parse_value(text: str) -> Any:
    """A command-line value as papermill reads it: YAML, and 1e-3 is a number, also in a list or a range."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
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
    """Refuse a parameter that no notebook declares, or a value that its declaration does not admit."""
    known = {name: kind for nb in notebooks for name, (_, kind) in declared(nb).items()}
    for name, value in parameters.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise Error(
                f"unknown parameter {name!r}{hint} Declared are: {', '.join(sorted(known))}"
            )
        if name not in config.declared() and (want := _TYPES.get(known[name].split("[")[0])):
            fits = isinstance(value, want | int if want is float else want) and (
                want is bool or not isinstance(value, bool)
            )
            if not fits:
                raise Error(
                    f"{name} is {value!r} ({type(value).__name__}); notebook parameters declare it as {known[name]}"
                )
    config.check(
        complete(parameters, notebooks), also=known
    )  # with their defaults: some values do not go together


def load_recipe(recipe: str | Path, overrides: dict[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """A recipe with overrides, checked, and the notebooks it goes through. Raises ``h2t.Error`` before any work."""
    path = resolve(recipe)
    folder = find(path)
    notebooks = [folder / f"{name}.ipynb" for name in MAIN]
    given = grid.settle(
        grid.merge(read_yaml(path), overrides), {name for nb in notebooks for name in declared(nb)}
    )
    parameters = recipes.merged(given, overrides, complete({}, notebooks))
    check(parameters, notebooks)
    return parameters, notebooks


def complete(parameters: dict[str, Any], notebooks: list[Path]) -> dict[str, Any]:
    """Parameters with the notebooks' defaults for what they leave open, so that the same recipe means the same without
    notebooks."""
    return {
        **{name: value for nb in notebooks for name, (value, _) in declared(nb).items()},
        **parameters,
    }


def run_recipe(
    parameters: dict[str, Any], notebooks: list[Path], *, again: bool = False, progress: bool = True
) -> Run:
    """Run notebooks 01 to 04 with papermill into one run directory; what is done already is not run again.

    Raises: ``h2t.Error`` with the notebook's own message where a cell fails; the executed copy shows where.
    """
    place = parameters.get("run") or declared(notebooks[0])["run"][0]
    if again or not begun(place):
        check_files(complete(parameters, notebooks))
    run = Run(place)
    if again:
        forget(run)
    with run.lock("notebooks"):
        todo = [nb for nb in notebooks if not done(run, nb, parameters)]
        # one cell more each: papermill injects the parameters
        with _bar(run, sum(len(code_cells(nb)) + 1 for nb in todo), progress) as (advance, say):
            engine = counting(advance)
            for nb in todo:
                say(nb.stem)
                execute(run, nb, parameters, engine)
    return run


def _own(notebook: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in parameters.items() if k in declared(notebook)}


@functools.cache
def _package() -> str:
    sources = sorted(Path(__file__).parents[2].rglob("*.py"))
    return hashlib.sha256(
        "\0".join(p.read_text(encoding="utf-8") for p in sources).encode()
    ).hexdigest()


def _key(notebook: Path, parameters: dict[str, Any], reads: str) -> str:
    parts = [s for _, s in code_cells(notebook)] + [_package(), reads]
    own = {
        k: v for k, v in _own(notebook, parameters).items() if k != "run"
    }  # a run may be moved, or taken over by another
    parts.append(json.dumps(own, sort_keys=True, default=str))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def done(run: Run, notebook: Path, parameters: dict[str, Any], reads: str = "") -> bool:
    """Whether a run holds the finished copy of a notebook as it is, with these parameters; ``reads`` stands for what else it
    depends on, such as a hash of a table."""
    mark = run.path / "notebooks" / f"{notebook.stem}.done"
    return mark.exists() and mark.read_text() == _key(notebook, parameters, reads)


def execute(run: Run, notebook: Path, parameters: dict[str, Any], engine, reads: str = "") -> None:
    """Execute one notebook into a run, by papermill. Call under ``run.lock("notebooks")``.

    Arguments: ``engine`` a papermill engine; ``reads`` as in ``done``. Raises: ``h2t.Error`` with the notebook's own message where a cell fails; its
    ``notebook`` is the executed copy, which shows where.
    """
    pm = papermill()
    pm.engines.papermill_engines.register("h2t", engine)
    out = run.path / "notebooks" / notebook.name
    part = out.with_suffix(".part.ipynb")
    out.parent.mkdir(exist_ok=True)
    own = _own(notebook, parameters) | (
        {"run": str(run.path)} if "run" in declared(notebook) else {}
    )
    for attempt in (1, 2):
        try:
            pm.execute_notebook(
                notebook,
                part,
                own,
                engine_name="h2t",
                progress_bar=False,
                cwd=str(Path.cwd()),
                kernel_name="python3",
                extra_arguments=[
                    "--log-level=40"
                ],  # of the kernel, which warns of TCP on loopback at every start
            )
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
                raise Error(
                    f"the kernel of {notebook.name} died twice (out of memory?); {part} shows how far it came"
                ) from None
    part.replace(out)
    write_atomic(out.with_suffix(".done"), _key(notebook, parameters, reads).encode())


def _explain(e, out: Path) -> str:
    if e.ename == "Error":  # h2t.Error: its message says what to do
        return str(e.evalue)
    return f"cell {e.exec_count} of {out.name} ended in {named(e.ename, e.evalue)}\nThe executed copy is {out}"


def papermill():
    """papermill, imported when it is needed. Raises ``h2t.Error`` where it is not installed."""
    try:
        import papermill
        import papermill.engines
    except ImportError:
        raise Error(
            "papermill is not installed, so the notebooks cannot run; use --plain to train without them"
        ) from None
    return papermill


def counting(advance: Callable[[], None]):
    """papermill's own engine, which also calls ``advance`` after every code cell."""
    base = papermill().engines.NBClientEngine

    class Counting(base):
        @classmethod
        def execute_managed_notebook(cls, nb_man, *args, **kwargs):
            complete = nb_man.cell_complete

            def counted(cell, *a, **k):
                if cell.cell_type == "code":
                    advance()
                return complete(cell, *a, **k)

            nb_man.cell_complete = counted
            return super().execute_managed_notebook(nb_man, *args, **kwargs)

    return Counting


@contextlib.contextmanager
def _bar(run: Run, total: int, progress: bool):
    """A progress bar over code cells that also says which step trains and how far it is."""
    from tqdm import tqdm

    stop, name = threading.Event(), [""]
    with tqdm(
        total=total,
        unit="cell",
        disable=not progress,
        bar_format="{l_bar}{bar:20}| {elapsed}{postfix}",
    ) as bar:

        def follow():
            while not stop.wait(0.5):
                bar.set_postfix_str(state(run), refresh=True)

        def say(text: str):
            name[0] = text
            bar.set_description_str(text)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield bar.update, say
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
