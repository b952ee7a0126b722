"""From a recipe with lists to the jobs of a sweep, checked as a whole before anything is run.

ROOT/  sweep.json           the recipe, its axes and points
       sweep.log            what happened, and the state once a minute
       <point>/             a run directory for each point, with recipe.yaml; done.json is last
       shared/<name>/       the stage 1s: the points link to their files
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.files import claim, owned, resolve, unmarked
from h2t.base.readers import read_yaml
from h2t.lab.books import execute as notebooks
from h2t.pipeline import check_files
from h2t.recipes import grid
from h2t.recipes import methods as recipes
from h2t.recipes import parameters as config
from h2t.recipes.shipped import recipe_file
from h2t.study.sweep.job import Job, key_of
from h2t.study.sweep.store import Store

DEFAULT_BOOKS = ("01_dataset", "02_stage1", "03_stage2")
ANOTHER = "another folder with `-p run FOLDER`"
Points = dict[str, dict[str, Any]]  # names of the grid's runs to their parameters


@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    ``jobs`` all of them by name, each after the one it needs; ``points`` the names of the grid's
    runs; ``axes`` the parameters that differ; ``recipe`` what was asked for; ``store`` the URL of
    the object store that holds the runs, if one does: ``root`` is then this machine's copy.
    """

    root: Path
    jobs: dict[str, Job]
    points: tuple[str, ...]
    axes: tuple[str, ...]
    recipe: dict[str, Any]
    store: str = ""

    @property
    def todo(self) -> tuple[str, ...]:
        """Unfinished points and the stage 1s that they need, in the order of ``jobs``."""
        wanted = {name for name in self.points if not self.jobs[name].done}
        needed = {self.jobs[name].needs for name in wanted}
        wanted |= {name for name in needed if not self.jobs[name].done}
        return tuple(name for name in self.jobs if name in wanted)

    def __str__(self) -> str:
        kinds = Counter(self.jobs[name].kind for name in self.todo)
        finished = len(self.points) - kinds["run"]
        said = f"{len(self.points)} runs over {', '.join(self.axes)} in {self.store or self.root}"
        lines = [said + (f"; {finished} done already" if finished else "")]
        if kinds:
            shared = f", sharing {kinds['stage1']} stage 1 to be trained once"
            lines.append(f"to do: {kinds['run']} runs" + (shared if kinds["stage1"] else ""))
        books = ", ".join(self.jobs[self.points[0]].books)
        lines.append(f"notebooks: {books or 'none, the steps are trained by function calls'}")
        return "\n".join(lines)


def plan(
    recipe: str | Path,
    overrides: dict[str, Any] | None = None,
    *,
    books: tuple[str, ...] | None = DEFAULT_BOOKS,
) -> Plan:
    """Plan a sweep and check all of it, before anything is run or written.

    Arguments: ``recipe`` a file of parameters with lists or ranges (``h2t.recipes.grid.expand``);
    ``overrides`` parameters that replace the recipe's; ``books`` the notebooks to execute in each
    run, among those of ``h2t run``, None for none.
    Raises: ``h2t.Error`` for an undeclared or ill-typed parameter in any point, data that are not
    there, runs of one name, a root that is itself a run, or a run under it that was made with other
    parameters.
    """
    path, overrides = recipe_file(recipe), overrides or {}
    folder = notebooks.find(path)
    main = [folder / f"{name}.ipynb" for name in notebooks.MAIN]
    given = _read(path, overrides)
    points = _points(given, overrides, main)
    root, store = _place(str(given.get("run") or f"runs/{path.stem}"))
    complete = _complete(points, main)
    axes = _axes(given, complete)
    executed = tuple(str(folder / f"{b}.ipynb") for b in books or ())
    jobs = _jobs(root, complete, axes, executed, store)
    _check_runs(jobs)
    asked = {k: v for k, v in given.items() if k != "run"}
    return Plan(root, jobs, tuple(complete), axes, asked, store)


def _read(path: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """The recipe with what replaces parts of it."""
    given = {**read_yaml(path), **overrides}
    if isinstance(given.get("run"), list | dict):
        raise Error("run is the folder of the whole sweep; give it one value")
    asked = "compare_seeds" in overrides or isinstance(given.get("compare_seeds"), list | dict)
    return given if asked else {**given, "compare_seeds": 0}  # the grid itself compares


def _points(given: dict[str, Any], overrides: dict[str, Any], main: list[Path]) -> Points:
    """The points of the grid, each with what its method stands for, and the method."""
    declared = {name: spec for book in main for name, spec in notebooks.declared(book).items()}
    defaults = {name: value for name, (value, _) in declared.items()}
    points = grid.expand(given, declared)
    # a method that is asked for now replaces what the recipe has one value for
    single = {k for k in given if k not in overrides and not isinstance(given[k], list | dict)}
    low = single if "method" in overrides else ()
    for name, parameters in points.items():
        with _in_point(name, points):
            spelt = recipes.spelt_out(parameters, defaults, low)
        # the method is for who reads the plan or a run's recipe.yaml
        points[name] = spelt | {k: v for k, v in parameters.items() if k == "method"}
    return points


@contextlib.contextmanager
def _in_point(name: str, points: Points) -> Iterator[None]:
    """Say of a mistake in which point of the grid it is."""
    try:
        yield
    except Error as e:
        raise Error(f"{e} (in the grid's point {name})" if len(points) > 1 else str(e)) from None


def _place(run: str) -> tuple[Path, str]:
    """The folder of the runs on this machine, and the URL of the store that holds them, if any."""
    if "://" in run:
        store = Store(run)
        claim(store.scratch, "sweep")
        store.pull(only=("done.json", "job.json"))  # what is done there
        return store.scratch, store.url
    root = resolve(run)
    if (root / "params.yaml").exists():
        raise Error(f"{root} is itself a run; name {ANOTHER}")
    files = [f.name for f in root.iterdir()] if root.is_dir() else []
    if any(f[0] != "." and not unmarked(f) for f in files) and not owned(root, "sweep"):
        raise Error(f"{root} is not empty and is no sweep that h2t made; name {ANOTHER}")
    return root, ""


def _complete(points: Points, main: list[Path]) -> Points:
    """Every point checked, with all parameters, each as its dataclass holds it: 1 is 1.0 there."""
    complete = {}
    for name, parameters in points.items():
        own = {k: v for k, v in parameters.items() if k != "method"}
        with _in_point(name, points):
            notebooks.check(own, main)
        values = notebooks.complete(own, main)
        for step in config.STEPS:
            held = step.of(values).to_dict()
            values |= {k: v for k, v in held.items() if k in values}
        complete[name] = values | {k: v for k, v in parameters.items() if k == "method"}
    for values in complete.values():
        check_files(values)
    return complete


def _axes(given: dict[str, Any], points: Points) -> tuple[str, ...]:
    """The parameters that differ between points, in the recipe's order."""
    names = [k for k in next(iter(points.values())) if k != "run"]
    differ = [k for k in names if len({str(p.get(k)) for p in points.values()}) > 1]
    if "method" in differ:  # it stands for what it sets, but for what was asked for by itself
        table = given.get("sweep")
        asked = {k for row in table for k in row} if isinstance(table, list) else set()
        asked |= {k for k, v in given.items() if isinstance(v, list | dict)}
        differ = [k for k in differ if k in asked or k not in recipes.SETS]
    order = [*given, *differ]
    return tuple(sorted(differ, key=order.index))


def _jobs(root: Path, points: Points, axes, books: tuple[str, ...], store: str) -> dict[str, Job]:
    """Point by point, so that a sweep that is cut short leaves whole runs, not first halves."""
    first = tuple(b for b in books if Path(b).stem < "03")
    jobs: dict[str, Job] = {}

    def add(name: str, kind: str, parameters: dict[str, Any], *rest: Any) -> None:
        place = str(root / name)
        jobs[name] = Job(name, kind, place, {**parameters, "run": place}, *rest, store)

    for name, parameters in points.items():
        made = _stage1(parameters)
        base = f"shared/stage1-{key_of(made)[:12]}"
        if base not in jobs:
            values = [f"{k} {parameters[k]}" for k in axes if k in made or k == "method"]
            add(base, "stage1", made, first, "", f" of {', '.join(values)}" if values else "")
        add(name, "run", parameters, books, base, "")
    return jobs


def _stage1(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that make a point's stage 1; of an imported one, those that say what it is."""
    trained = config.Stage1.__dataclass_fields__
    own = ("checkpoint", "model", "head") if parameters.get("checkpoint") else trained
    names = {*config.Data.__dataclass_fields__, *own}
    return {k: v for k, v in parameters.items() if k in names}


def _check_runs(jobs: dict[str, Job]) -> None:
    """A run that was made with other parameters must not be mistaken for a point of this grid."""
    for job in jobs.values():
        if job.kind == "stage1":
            continue  # its name is a hash of its parameters
        for k, before in job.recorded.items():
            if k != "run" and k in job.parameters and before != job.parameters[k]:
                raise Error(
                    f"{job.run} was made with {k} = {before!r}, not {job.parameters[k]!r}; "
                    f"choose {ANOTHER}, or delete that one"
                )


def choose_books(text: str) -> tuple[str, ...]:
    """Notebooks of the main job by their numbers, such as "01,02,03", or "all".

    Raises: ``h2t.Error`` for one that is not there, or for a later one without an earlier one.
    """
    numbers = {name[:2]: name for name in notebooks.MAIN}
    asked = [t.strip().zfill(2) for t in text.split(",") if t.strip()]
    if text.strip() == "all":
        asked = list(numbers)
    if not asked or asked != list(numbers)[: len(asked)]:
        raise Error(
            f"notebooks is {text!r}; they build on one another: choose 01, 01,02 and so on up to "
            f"{','.join(numbers)}, or all; --plain runs none"
        )
    return tuple(numbers[n] for n in asked)
