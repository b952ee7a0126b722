"""What a sweep costs beyond its training steps, in one run: processes, imports, notebooks, figures, bookkeeping."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import click

TARGET = 1.25  # at most this many times the training steps alone


def bench_sweep(out: str | Path, *, runs: int = 20, jobs: int = 0, books: str = "01,02,03") -> bool:
    """Sweep ``runs`` seeds of the main job into a temporary folder and hold its time against that of its training steps.

    Arguments: ``out`` file of the rows; ``jobs`` at a time; ``books`` notebooks to execute in each. Returns: whether the whole
    takes at most 1.25 times what the training steps in it take, dealt to as many processes. Prints both.
    """
    import pandas as pd

    from h2t import sweep as sweeping
    from h2t.pool import Pool
    from h2t.runs import Run, environment, resolve

    recipe = resolve("notebooks/recipes/digits.yaml")
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sweep"
        planned = sweeping.plan(recipe, {"run": str(root), "seed": list(range(runs))}, books=sweeping.choose_books(books))
        pool, start = Pool(jobs), time.perf_counter()
        outcome = sweeping.sweep(planned, pool)
        wall = time.perf_counter() - start
        steps = [r for p in planned.points for r in Run(root / p).results().values() if "adopted_from" not in r]
        steps += [r for p in root.glob("shared/*") for r in Run(p).results().values() if "adopted_from" not in r]
    training = sum(r["seconds"] for r in steps) / pool.slots
    row = {"runs": len(outcome.done), "jobs": pool.slots, "notebooks": books, "seconds": round(wall, 1), "training_seconds": round(training, 1), "ratio": round(wall / training, 3)}
    env = environment()
    click.echo(f"{env['cpu']}, {env['cores']} cores; {len(steps)} training steps")
    click.echo(pd.DataFrame([row]).to_string(index=False))
    met = wall / training <= TARGET
    click.echo(f"the sweep takes {wall / training:.2f} times its training steps alone; target at most {TARGET}: {'met' if met else 'missed'}")
    path = resolve(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(path, index=False)
    return met
