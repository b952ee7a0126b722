"""What a sweep costs beyond its training steps: processes, imports, notebooks, figures."""

from __future__ import annotations

import multiprocessing as mp
import statistics
import sys
import tempfile
import time

from tests.bench.harness import Rows

TARGET = 1.25  # at most this many times the training steps alone


def bench_sweep(found: Rows, *, runs: int = 20, jobs: int = 0, books: str = "01,02,03") -> None:
    """Sweep seeds of the main job and hold its time against that of its training steps alone.

    Those are function calls in processes that have everything imported, as many at a time, before
    and after the sweep. Arguments: ``jobs`` at a time; ``books`` notebooks to execute in each run.
    """
    from h2t.recipes.shipped import recipe_file
    from h2t.study.sweep import drive, plan
    from h2t.study.sweep.pool import Pool

    with tempfile.TemporaryDirectory() as folder:
        grid = {"run": f"{folder}/sweep", "seed": list(range(runs))}
        planned = plan.plan(recipe_file("digits"), grid, books=plan.choose_books(books))
        pool = Pool(jobs)
        alone = [_alone(planned, pool, f"{folder}/before")]
        start = time.perf_counter()
        drive.sweep(planned, pool)
        wall, done = time.perf_counter() - start, len(planned.done)
        alone.append(_alone(planned, pool, f"{folder}/after"))
    one = sum(alone) / 2
    training = one * runs / pool.slots
    found.add(runs=done, jobs=pool.slots, seconds=round(wall, 1), one=round(one, 2))
    found.judge("runs that failed", runs - done, 0)
    found.judge("times its training steps alone", wall / training, TARGET)


def _alone(planned, pool, folder: str) -> float:
    """Seconds that the steps of one run take, with as many processes at it as the sweep has."""
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
