"""The jobs of a sweep in their order: started as slots come free, tried again when killed."""

from __future__ import annotations

import contextlib
from collections import Counter

from h2t.base.files import claim, clean, held
from h2t.study.sweep.board import Board
from h2t.study.sweep.plan import Plan
from h2t.study.sweep.pool import DIED
from h2t.study.sweep.store import Store

ATTEMPTS = 2  # of a job whose process was killed; an error is not tried again


def sweep(plan: Plan, pool, *, progress: bool = True) -> dict[str, str]:
    """Do what a plan has left to do; interrupted at any moment, it goes on when it is called again.

    A job that fails is named and the others go on; one whose process is killed is tried once more.
    Arguments: ``pool`` runs the jobs, an ``h2t.study.sweep.pool.Pool`` or an
    ``h2t.study.sweep.cluster.Cluster``, and is closed at the end; ``progress`` shows a line for
    each running job and a total. Returns: the jobs that failed or could not begin, name to reason.
    Raises: ``h2t.Error`` where another sweep holds the root.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(pool.close)
        claim(plan.root, "sweep")
        stack.enter_context(held(plan.root / ".lock-sweep", f"sweep {plan.root}"))
        clean(plan.root)
        failed = _drive(plan, pool, stack.enter_context(Board(plan, pool, progress)))
        if plan.store:  # the other machines' runs, for the table and the report
            Store(plan.store).pull()
    return failed


def _drive(plan: Plan, pool, board: Board) -> dict[str, str]:
    """Start jobs until none is left. Returns: failures, name to reason."""
    waiting, running = list(plan.todo), set()
    failed, attempts = {}, Counter()
    while waiting or running:
        for name in [n for n in waiting if plan.jobs[n].needs in failed]:
            need = plan.jobs[plan.jobs[name].needs]
            failed[name] = f"not begun: it needs {need.label}, which failed"
            waiting.remove(name)
            board.ended(name, failed[name])
        ready = [n for n in waiting if plan.jobs[n].needs not in {*waiting, *running}]
        for name in ready[: pool.free]:
            waiting.remove(name)
            running.add(name)
            attempts[name] += 1
            board.began(name)
            pool.start(plan.jobs[name])
        for job, how, message in pool.wait(0.5):
            running.discard(job.name)
            if how == DIED and attempts[job.name] < ATTEMPTS:
                board.say(f"{job.name}: {message} Trying once more")
                waiting.insert(0, job.name)
                continue
            if how != "done":
                failed[job.name] = message
            board.ended(job.name, message)
        board.show(sorted(running))
    return failed
