"""A grid of runs: planned and checked as a whole, shared work done once, and gone on with after whatever stopped it.

ROOT/  sweep.json           the recipe, its axes and points
       sweep.log            what happened, and the state once a minute
       <point>/             a run directory for each point, with recipe.yaml, and done.json written last
       shared/<name>/       stage 1s and stage-2 variants that several points hold; the points link to their files
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.files import resolve, write_json
from h2t.base.readers import read_yaml
from h2t.lab.books import execute as notebooks
from h2t.pipeline import check_files
from h2t.recipes import grid
from h2t.recipes import methods as recipes
from h2t.recipes import parameters as config
from h2t.runs import Run
from h2t.study.sweep.board import Board
from h2t.study.sweep.job import Job, key_of
from h2t.study.sweep.pool import DIED, Pool
from h2t.study.sweep.store import Store

DEFAULT_BOOKS = ("01_dataset", "02_stage1", "03_stage2")
ATTEMPTS = 2  # of a job whose process was killed; an error is not tried again


@dataclass(frozen=True)
class Plan:
    """What a sweep will do. ``jobs`` all of them by name, in an order in which each comes after what it needs; ``todo`` the
    names of those still to be done; ``points`` the names of the grid's runs; ``axes`` the parameters that differ; ``store`` the URL
    of the object store that holds the runs, if one does: ``root`` is then this machine's copy."""

    root: Path
    jobs: dict[str, Job]
    todo: tuple[str, ...]
    points: tuple[str, ...]
    axes: tuple[str, ...]
    recipe: dict[str, Any]
    store: str = ""

    def __str__(self) -> str:
        left = [self.jobs[name] for name in self.todo]
        kinds = Counter(job.kind for job in left)
        finished = len(self.points) - kinds["run"]
        lines = [
            f"{len(self.points)} runs over {', '.join(self.axes)} in {self.store or self.root}"
            + (f"; {finished} done already" if finished else "")
        ]
        if left:
            shared = [f"{kinds['stage1']} stage 1"] if kinds["stage1"] else []
            shared += [f"{kinds['stage2']} stage-2 variants"] if kinds["stage2"] else []
            apart = sum(job.kind == "run" for job in left)
            lines.append(
                f"to do: {apart} runs"
                + (f", sharing {' and '.join(shared)} to be trained once" if shared else "")
            )
        books = next((j.notebooks for j in self.jobs.values() if j.kind == "run"), ())
        lines.append(
            "notebooks: "
            + (
                ", ".join(Path(b).stem for b in books)
                if books
                else "none, the steps are trained by function calls"
            )
        )
        return "\n".join(lines)


def plan(
    recipe: str | Path,
    overrides: dict[str, Any] | None = None,
    *,
    books: tuple[str, ...] | None = DEFAULT_BOOKS,
) -> Plan:
    """Plan a sweep and check all of it, before anything is run or written.

    Arguments: ``recipe`` a file of parameters with lists or ranges, see ``h2t.recipes.grid.expand``; ``overrides`` parameters
    that replace the recipe's; ``books`` the notebooks to execute in each run, among those of ``h2t run``, None for none.
    Returns: the plan; what is done is left out of its ``todo``.
    Raises: ``h2t.Error`` for an undeclared or ill-typed parameter in any point, data that are not there, runs of one name, a
    root that is itself a run, or a run under it that was made with other parameters.
    """
    path = resolve(recipe)
    given = grid.merge(read_yaml(path), overrides or {})
    folder = notebooks.find(path)
    main = [folder / f"{name}.ipynb" for name in notebooks.MAIN]
    declared = {name: spec for book in main for name, spec in notebooks.declared(book).items()}
    if "compare_seeds" not in (overrides or {}) and not isinstance(
        given.get("compare_seeds"), list | dict
    ):
        given["compare_seeds"] = 0  # the grid itself compares
    if isinstance(given.get("run"), list | dict):
        raise Error("run is the folder of the whole sweep; give it one value")
    points = grid.expand(given, declared)
    named = {name: p["method"] for name, p in points.items() if "method" in p}
    points = _spelt_out(points, given, overrides or {}, {k: v for k, (v, _) in declared.items()})
    url = str(given.get("run", ""))
    store = Store(url) if "://" in url else None
    root = store.scratch if store else resolve(url or f"runs/{path.stem}")
    if store:  # what is done there
        store.pull(only=("done.json", "job.json"))
    if (root / "params.yaml").exists():
        raise Error(
            f"{root} is itself a run; name another folder for the sweep with `-p run FOLDER`"
        )
    complete = {}
    for name, parameters in points.items():
        try:
            notebooks.check(parameters, main)
        except Error as e:
            raise Error(
                f"{e} (in the grid's point {name})" if len(points) > 1 else str(e)
            ) from None
        complete[name] = _normal(notebooks.complete(parameters, main))
    for parameters in complete.values():
        check_files(parameters)
    for name, method in named.items():
        complete[name]["method"] = (
            method  # for who reads the plan or a run's recipe.yaml; what it stands for is there as well
        )
    differ = [
        k
        for k in next(iter(complete.values()))
        if k != "run" and len({str(p.get(k)) for p in complete.values()}) > 1
    ]
    if "method" in differ:  # it stands for what it sets
        asked = (
            {k for row in given["sweep"] for k in row}
            if isinstance(given.get("sweep"), list)
            else set()
        )
        differ = [
            k
            for k in differ
            if k not in recipes.SETS or k in asked or isinstance(given.get(k), list | dict)
        ]
    axes = tuple(sorted(differ, key=lambda k: [*given, *differ].index(k)))  # as the recipe has them
    jobs = _jobs(root, complete, axes, [folder / f"{b}.ipynb" for b in books or ()])
    if store:
        jobs = {name: replace(job, store=store.url) for name, job in jobs.items()}
    _check_runs(jobs)
    fixed = {k: v for k, v in given.items() if k != "run"}
    return Plan(root, jobs, _todo(jobs), tuple(complete), axes, fixed, store.url if store else "")


def _spelt_out(
    points: dict[str, dict[str, Any]],
    given: dict[str, Any],
    overrides: dict[str, Any],
    defaults: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """The points of a grid with what their methods stand for. A method that the overrides name replaces what the recipe has one
    value for."""
    low = (
        [k for k in given if k not in overrides and not isinstance(given[k], list | dict)]
        if "method" in overrides
        else []
    )
    found = {}
    for name, parameters in points.items():
        try:
            found[name] = recipes.spelt_out(parameters, defaults, low)
        except Error as e:
            raise Error(
                f"{e} (in the grid's point {name})" if len(points) > 1 else str(e)
            ) from None
    return found


def _normal(parameters: dict[str, Any]) -> dict[str, Any]:
    """Every value as its dataclass holds it, so that 1 and 1.0 are one recipe."""
    for step in config.STEPS:
        parameters = {
            **parameters,
            **{k: v for k, v in step.of(parameters).to_dict().items() if k in parameters},
        }
    return parameters


def _jobs(
    root: Path, points: dict[str, dict[str, Any]], axes: tuple[str, ...], books: list[Path]
) -> dict[str, Job]:
    """The jobs of a grid, each after what it needs."""
    first = tuple(str(b) for b in books if b.stem < "03")
    recipes = {name: _recipes(p) for name, p in points.items()}
    used = Counter(
        k for _, variants in recipes.values() for k in {key for key, _ in variants.values()}
    )
    jobs: dict[str, Job] = {}
    shared: dict[
        str, str
    ] = {}  # key of a stage-2 recipe: the name that it got from the first point that has it
    for name, parameters in points.items():
        stage1_key, variants = recipes[name]
        base, made = f"shared/stage1-{stage1_key}", _stage1(parameters)
        values = ", ".join(f"{k} {parameters[k]}" for k in axes if k in made or k == "method")
        of = f" of {values}" if values else ""
        jobs.setdefault(
            base,
            Job(base, "stage1", str(root / base), {**made, "run": str(root / base)}, first, of=of),
        )
        taken = []
        for variant, (key, stage2) in variants.items():
            if used[key] < 2:
                continue
            there = shared.setdefault(key, variant)
            part = f"shared/{there}-{key}"
            made = {**stage2.to_dict(), "variant": there}
            jobs.setdefault(
                part,
                Job(
                    part,
                    "stage2",
                    str(root / part),
                    made,
                    stage1=str(root / base),
                    needs=(base,),
                    of=of,
                ),
            )
            taken.append((variant, part, there))
        needs = (base, *(part for _, part, _ in taken))
        taken = [(variant, str(root / part), there) for variant, part, there in taken]
        jobs[name] = Job(
            name,
            "run",
            str(root / name),
            {**parameters, "run": str(root / name)},
            tuple(map(str, books)),
            str(root / base),
            tuple(taken),
            needs,
        )
    # point by point, so that a sweep that is cut short leaves whole runs rather than many first halves
    first_use: dict[str, int] = {}
    for k, name in enumerate(points):
        for needed in (*jobs[name].needs, name):
            first_use.setdefault(needed, k)
    kinds = ("stage1", "stage2", "run")
    return dict(
        sorted(jobs.items(), key=lambda item: (first_use[item[0]], kinds.index(item[1].kind)))
    )


def _recipes(parameters: dict[str, Any]) -> tuple[str, dict[str, tuple[str, config.Stage2]]]:
    """What a point trains: the key of its stage 1, and of each stage-2 variant its key and recipe."""
    stage1 = key_of(_stage1(parameters))
    variants = config.variants(config.Stage2.of(parameters), parameters.get("control", False))
    return stage1[:12], {
        name: (key_of({**stage2.to_dict(), "stage1": stage1})[:12], stage2)
        for name, stage2 in variants.items()
    }


def _stage1(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that make a point's stage 1; of one that is imported, those that say what it is."""
    imported = parameters.get("checkpoint")
    names = {
        *config.Data.__dataclass_fields__,
        *(("checkpoint", "model", "head") if imported else config.Stage1.__dataclass_fields__),
    }
    return {k: v for k, v in parameters.items() if k in names}


def _check_runs(jobs: dict[str, Job]) -> None:
    """A run that was made with other parameters must not be mistaken for a point of this grid."""
    for job in jobs.values():
        if job.kind != "run":
            continue  # the name of a shared one is a hash of its parameters
        done = job.recorded
        differ = [
            k for k in done if k != "run" and k in job.parameters and done[k] != job.parameters[k]
        ]
        if differ:
            k = differ[0]
            raise Error(
                f"{job.run} was made with {k} = {done[k]!r}, not {job.parameters[k]!r}; choose another folder with `-p run FOLDER`, or "
                "delete that one"
            )


def _todo(jobs: dict[str, Job]) -> tuple[str, ...]:
    """Unfinished points and what they need of the shared work, in the order of ``jobs``."""
    wanted = {name for name, job in jobs.items() if job.kind == "run" and not job.done}
    for name in reversed(list(jobs)):
        if name in wanted:
            wanted |= {n for n in jobs[name].needs if not jobs[n].done}
    return tuple(name for name in jobs if name in wanted)


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to: names of the points that are done, and of the jobs that failed or could not begin, with why."""

    done: tuple[str, ...]
    failed: dict[str, str]


def choose_books(text: str) -> tuple[str, ...]:
    """Notebooks of the main job by their numbers, such as "01,02,03", or "all". Raises ``h2t.Error`` for one that is not there, or
    for a later one without an earlier one."""
    numbers = {name[:2]: name for name in notebooks.MAIN}
    asked = (
        list(numbers)
        if text.strip() == "all"
        else [t.strip().zfill(2) for t in text.split(",") if t.strip()]
    )
    if not asked or asked != list(numbers)[: len(asked)]:
        raise Error(
            f"notebooks is {text!r}; they build on one another: choose 01, 01,02 and so on up to {','.join(numbers)}, or all; --plain runs none"
        )
    return tuple(numbers[n] for n in asked)


def sweep(plan: Plan, pool=None, *, progress: bool = True) -> Outcome:
    """Do what a plan has left to do. A job that fails is named and the others go on; one whose process is killed is tried
    again once. Interrupted at any moment, it goes on when it is called again.

    Arguments: ``pool`` runs the jobs, an ``h2t.study.sweep.pool.Pool`` (the default) or an ``h2t.study.sweep.cluster.Cluster``, and is closed at the end;
    ``progress`` shows a line for each running job and a total. Raises: ``h2t.Error`` where another sweep holds the root.
    """
    pool = pool or Pool()
    run = Run(plan.root, kind="")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run.lock("sweep"))
        except Error:
            raise Error(
                f"a sweep is at work in {plan.root} already; wait for it, or choose another folder with `-p run FOLDER`"
            ) from None
        plan = replace(plan, todo=_todo(plan.jobs))  # another sweep may have finished some since
        stack.callback(pool.close)
        write_json(
            plan.root / "sweep.json",
            {"recipe": plan.recipe, "axes": list(plan.axes), "points": list(plan.points)},
        )
        board = stack.enter_context(Board(plan, pool, progress))
        failed = _drive(plan, pool, board)
        if plan.store:  # the other machines' runs, for the table and the report
            Store(plan.store).pull()
    return Outcome(tuple(p for p in plan.points if plan.jobs[p].done), failed)


def _drive(plan: Plan, pool, board: Board) -> dict[str, str]:
    """Start jobs as slots come free and what they need is done, until none is left. Returns: failures, name to reason."""
    waiting, running, failed = list(plan.todo), set(), {}
    open_, attempts = set(plan.todo), Counter()
    while waiting or running:
        for name in [n for n in waiting if any(need in failed for need in plan.jobs[n].needs)]:
            need = next(n for n in plan.jobs[name].needs if n in failed)
            failed[name] = f"not begun: it needs {plan.jobs[need].label}, which failed"
            waiting.remove(name)
            open_.discard(name)
            board.ended(name, failed[name])
        ready = [n for n in waiting if not any(need in open_ for need in plan.jobs[n].needs)]
        for name in ready[: pool.free]:
            waiting.remove(name)
            running.add(name)
            attempts[name] += 1
            board.began(name)
            pool.start(plan.jobs[name])
        for job, (how, message, notebook) in pool.wait(0.5):
            running.discard(job.name)
            if how == DIED and attempts[job.name] < ATTEMPTS:
                board.say(f"{job.name}: {message} Trying once more")
                waiting.insert(0, job.name)
                continue
            open_.discard(job.name)
            if how != "done":
                failed[job.name] = message + (
                    f"\n    see {notebook}" if notebook and notebook not in message else ""
                )
            board.ended(job.name, failed.get(job.name))
        board.show(sorted(running))
    return failed
