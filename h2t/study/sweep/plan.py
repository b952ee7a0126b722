"""From a recipe with lists to the jobs of a sweep, checked as a whole before anything is run.

ROOT/  sweep.log       what happened, and the state once a minute
       <point>/        a run directory for each point, with recipe.yaml; done.json is last
       shared/<name>/  the stage 1s: the points link to their files
"""

from __future__ import annotations

from collections.abc import Sequence
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

ANOTHER = "another folder with `-p run FOLDER`"
Points = dict[str, dict[str, Any]]  # names of the grid's runs to their parameters


@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    ``jobs`` all of them by name, each after the one it needs; ``points`` the names of the grid's
    runs; ``axes`` the parameters that differ; ``store`` the URL of the object store that holds the
    runs, if one does: ``root`` is then this machine's copy.
    """

    root: Path
    jobs: dict[str, Job]
    points: tuple[str, ...]
    axes: tuple[str, ...]
    store: str = ""

    @property
    def done(self) -> list[str]:
        """The points that are finished."""
        return [name for name in self.points if self.jobs[name].done]

    @property
    def todo(self) -> tuple[str, ...]:
        """Unfinished points and the stage 1s that they need, in the order of ``jobs``."""
        wanted = set(self.points) - set(self.done)
        needed = {self.jobs[name].needs for name in wanted}
        wanted |= {name for name in needed if not self.jobs[name].done}
        return tuple(name for name in self.jobs if name in wanted)

    def __str__(self) -> str:
        todo = self.todo
        runs = sum(self.jobs[name].kind == "run" for name in todo)
        lines = [
            f"{len(self.points)} runs over {', '.join(self.axes)} in {self.store or self.root}"
        ]
        if runs < len(self.points):
            lines[0] += f"; {len(self.points) - runs} done already"
        if todo:
            lines.append(
                f"to do: {runs} runs, sharing {len(todo) - runs} stage 1 to be trained once"
            )
        books = ", ".join(self.jobs[self.points[0]].books)
        lines.append(f"notebooks: {books or 'none, the steps are trained by function calls'}")
        return "\n".join(lines)


def plan(
    recipe: str | Path,
    overrides: dict[str, Any] | None = None,
    *,
    books: Sequence[str] | None = None,
) -> Plan:
    """Plan a sweep and check all of it, before anything is run or written.

    Arguments: ``recipe`` a file of parameters with lists or ranges (``h2t.recipes.grid.expand``);
    ``overrides`` parameters that replace the recipe's; ``books`` the notebooks to execute in each
    run, among those of ``h2t run``.
    Raises: ``h2t.Error`` for an undeclared or ill-typed parameter in any point, data that are not
    there, runs of one name, a root that is no sweep, or a run under it that was made with other
    parameters.
    """
    path, overrides = recipe_file(recipe), overrides or {}
    folder = notebooks.find(path)
    given = _read(path, overrides)
    points = _points(given, overrides, [folder / f"{name}.ipynb" for name in notebooks.MAIN])
    root, store = _place(str(given.get("run") or f"runs/{path.stem}"))
    axes = _axes(given, points)
    executed = tuple(str(folder / f"{b}.ipynb") for b in books or ())
    jobs = _jobs(root, points, axes, executed, store)
    _check_runs([jobs[name] for name in points])
    return Plan(root, jobs, tuple(points), axes, store)


def _read(path: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """The recipe with what replaces parts of it."""
    given = {**read_yaml(path), **overrides}
    if isinstance(given.get("run"), list | dict):
        raise Error("run is the folder of the whole sweep; give it one value")
    asked = "compare_seeds" in overrides or isinstance(given.get("compare_seeds"), list | dict)
    return given if asked else {**given, "compare_seeds": 0}  # the grid itself compares


def _points(given: dict[str, Any], overrides: dict[str, Any], main: list[Path]) -> Points:
    """The points of the grid, checked, with all parameters, as their dataclasses hold them (1 is
    1.0 there), and the method, for who reads the plan or a run's recipe.yaml."""
    defaults = notebooks.complete({}, main)
    points = grid.expand(given)
    # a method that is asked for now replaces what the recipe has one value for
    single = {k for k in given if k not in overrides and not isinstance(given[k], list | dict)}
    low = single if "method" in overrides else ()
    for name, parameters in points.items():
        try:
            spelt = recipes.spelt_out(parameters, defaults, low)
            notebooks.check(spelt, main)
        except Error as e:
            raise Error(f"{e} (in the grid's point {name})") from None
        values = {**defaults, **spelt}
        for step in config.STEPS:
            held = step.of(values).to_dict()
            values |= {k: v for k, v in held.items() if k in values}
        points[name] = values | {k: v for k, v in parameters.items() if k == "method"}
    for parameters in points.values():
        check_files(parameters)
    return points


def _place(run: str) -> tuple[Path, str]:
    """The folder of the runs on this machine, and the URL of the store that holds them, if any."""
    if "://" in run:
        store = Store(run)
        claim(store.scratch, "sweep")
        store.pull(only=("done.json", "recipe.yaml"))  # what is done there
        return store.scratch, store.url
    root = resolve(run)
    inside = [f.name for f in root.iterdir()] if root.is_dir() else []
    if not all(map(unmarked, inside)) and not owned(root, "sweep"):
        raise Error(f"{root} is not empty and is no sweep that h2t made; name {ANOTHER}")
    return root, ""


def _axes(given: dict[str, Any], points: Points) -> tuple[str, ...]:
    """The parameters of the recipe, and of its table of runs, that differ between points."""
    # what has one value in the recipe may still differ: by what the methods set
    varied = [k for k, v in given.items() if isinstance(v, list | dict)]
    names = dict.fromkeys([*varied, *(k for row in given.get("sweep", ()) for k in row)])
    values = {k: {str(p.get(k)) for p in points.values()} for k in names}
    return tuple(k for k in names if len(values[k]) > 1)


def _jobs(root: Path, points: Points, axes, books: tuple[str, ...], store: str) -> dict[str, Job]:
    """Point by point, so that a sweep that is cut short leaves whole runs, not first halves."""
    first = tuple(b for b in books if Path(b).stem < "03")
    jobs: dict[str, Job] = {}

    def job(name: str, kind: str, parameters: dict[str, Any], books, **more: str) -> Job:
        place = str(root / name)
        return Job(name, kind, place, {**parameters, "run": place}, books, store=store, **more)

    for name, parameters in points.items():
        made = _stage1(parameters)
        base = f"shared/stage1-{key_of(made)[:12]}"
        if base not in jobs:
            values = [f"{k} {parameters[k]}" for k in axes if k in made or k == "method"]
            jobs[base] = job(base, "stage1", made, first, of=", ".join(values))
        jobs[name] = job(name, "run", parameters, books, needs=base)
    return jobs


def _stage1(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that make a point's stage 1; of an imported one, those that say what it is."""
    trained = config.Stage1.__dataclass_fields__
    own = ("checkpoint", "model", "head") if parameters.get("checkpoint") else trained
    names = {*config.Data.__dataclass_fields__, *own}
    return {k: v for k, v in parameters.items() if k in names}


def _check_runs(points: list[Job]) -> None:
    """A run that was made with other parameters must not be mistaken for a point of this grid."""
    for job in points:
        before = {} if job.done else job.recorded
        for k, value in job.parameters.items():
            if k != "run" and k in before and before[k] != value:
                raise Error(
                    f"{job.run} was made with {k} = {before[k]!r}, not {value!r}; "
                    f"choose {ANOTHER}, or delete that one"
                )


def choose_books(text: str) -> tuple[str, ...]:
    """Notebooks of the main job by their numbers, such as "01,02,03", or "all".

    Raises: ``h2t.Error`` for one that is not there, or for a later one without an earlier one.
    """
    numbers = [name[:2] for name in notebooks.MAIN]
    asked = numbers if text == "all" else [t.strip().zfill(2) for t in text.split(",")]
    if asked != numbers[: len(asked)]:
        raise Error(
            f"notebooks is {text!r}; they build on one another: choose 01, 01,02 and so on up to "
            f"{','.join(numbers)}, or all; --plain runs none"
        )
    return notebooks.MAIN[: len(asked)]
