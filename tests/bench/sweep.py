"""What a sweep costs beyond its training steps, in one run: processes, imports, notebooks, figures, bookkeeping."""

from __future__ import annotations

import multiprocessing as mp
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click

TARGET = 1.25  # at most this many times the training steps alone


def bench_sweep(out: str | Path, *, runs: int = 20, jobs: int = 0, books: str = "01,02,03") -> bool:
    """Sweep ``runs`` seeds of the main job into a temporary folder and hold its time against that of its training steps alone:
    function calls in processes that have everything imported, as many at a time, before and after the sweep.

    Arguments: ``out`` file of the rows; ``jobs`` at a time; ``books`` notebooks to execute in each. Returns: whether the whole
    takes at most 1.25 times as long. Prints both.
    """
    import pandas as pd

    from h2t.base.files import resolve
    from h2t.base.machine import environment
    from h2t.study.sweep import drive
    from h2t.study.sweep import plan as sweeping
    from h2t.study.sweep.pool import Pool

    recipe = resolve("notebooks/recipes/digits.yaml")
    with tempfile.TemporaryDirectory() as folder:
        planned = sweeping.plan(
            recipe,
            {"run": f"{folder}/sweep", "seed": list(range(runs))},
            books=sweeping.choose_books(books),
        )
        pool = Pool(jobs)
        alone = [_alone(planned, pool, f"{folder}/before")]
        start = time.perf_counter()
        outcome = drive.sweep(planned, pool)
        wall = time.perf_counter() - start
        alone.append(_alone(planned, pool, f"{folder}/after"))
    training = sum(alone) / 2 * runs / pool.slots
    row = {
        "runs": len(outcome.done),
        "jobs": pool.slots,
        "notebooks": books,
        "seconds": round(wall, 1),
        "one_run_alone": round(sum(alone) / 2, 2),
        "training_seconds": round(training, 1),
        "ratio": round(wall / training, 3),
    }
    env = environment()
    click.echo(f"{env['cpu']}, {env['cores']} cores, torch {env['packages']['torch']}")
    click.echo(pd.DataFrame([row]).to_string(index=False))
    met = len(outcome.done) == runs and wall / training <= TARGET
    click.echo(
        f"the sweep takes {wall / training:.2f} times its training steps alone; target at most {TARGET}: {'met' if met else 'missed'}"
    )
    path = resolve(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(path, index=False)
    return met


def _alone(planned, pool, folder: str) -> float:
    """Seconds that the steps of one run take, by function calls, with as many processes at it as the sweep has."""
    parameters = [planned.jobs[p].parameters for p in planned.points[: 2 * pool.slots]]
    context = mp.get_context("spawn")
    with context.Pool(pool.slots, initializer=_import, initargs=(pool.threads,)) as processes:
        tasks = [{**p, "run": f"{folder}/{k}"} for k, p in enumerate(parameters)]
        seconds = processes.map(_train, tasks, chunksize=1)
        processes.close()
        processes.join()
    return statistics.mean(seconds)


def _import(threads: int) -> None:
    import importlib
    import os

    from h2t.study.sweep.job import PRELOAD

    os.environ["TQDM_DISABLE"] = "1"
    for name in PRELOAD:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(threads)


def _train(parameters: dict) -> float:
    from h2t.pipeline import run_plain

    start = time.perf_counter()
    run_plain(parameters)
    return time.perf_counter() - start
