"""How far a sweep is: in a terminal, in a notebook and in a log file."""

from __future__ import annotations

import contextlib
import sys
import time

from h2t.base.errors import Error
from h2t.lab.books.execute import state
from h2t.runs import Run
from h2t.study.sweep.job import Job

EVERY = 60  # seconds between two states in the log
LINES = 40  # running jobs that are shown at most
BAR = "{l_bar}{bar:20}| {n}/{total}, {elapsed}, {remaining} left{postfix}"


class Board:
    """Shows and logs a sweep.

    In a terminal or a notebook a line for each running job and a total, rewritten in place, below
    what happened; in a pipe or a file what happened. Arguments: ``plan``; ``pool`` what runs its
    jobs; ``progress`` whether to show anything.
    """

    def __init__(self, plan, pool, progress: bool):
        from tqdm.auto import tqdm

        self.plan, self.shown, self._tqdm, todo = plan, progress, tqdm, plan.todo
        self._begun, self._failed, self._last = {}, 0, time.monotonic()
        self._done = len(plan.done)
        hidden = None if progress else True  # None: where lines cannot be rewritten
        places = range(1, 1 + min(pool.slots, len(todo), LINES))
        how = dict(bar_format="{desc}", leave=False, disable=hidden)
        self._lines = [tqdm(position=k, **how) for k in places]
        how = dict(desc="jobs", bar_format=BAR, disable=hidden)
        self._total = tqdm(total=len(todo), position=0, smoothing=0, **how)
        runs = f"{len(plan.points)} runs, {self._done} done already"
        self.say(f"{runs}, {len(todo)} jobs to do: {pool}")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            self.say(f"stopped: {kind.__name__}; run it again to go on")
        self._draw([])
        for bar in (*self._lines, self._total):
            bar.close()

    def began(self, name: str) -> None:
        self._begun[name] = time.monotonic()
        self._write(f"{self.plan.jobs[name].label}: begun")

    def ended(self, name: str, failure: str) -> None:
        """Note that a job is done, or why it is not."""
        job = self.plan.jobs[name]
        self._total.update(1)
        if failure:
            self._failed += 1
            return self.say(f"{job.label}: FAILED: {failure}")
        self._done += job.kind == "run"
        self.say(f"{job.label}: done in {time.monotonic() - self._begun[name]:.0f} s")

    def say(self, text: str) -> None:
        """One line for all readers."""
        self._write(text)
        if self.shown:
            self._tqdm.write(text, file=sys.stderr)

    def show(self, running: list[str]) -> None:
        """Bring the running jobs' lines up to date; once a minute they go to the log too."""
        due = time.monotonic() - self._last > EVERY
        if self._total.disable and not due:
            return
        jobs = [self.plan.jobs[name] for name in running]
        lines = [f"{job.label}: {_doing(job)}" for job in jobs]
        self._draw(lines)
        if due:
            self._last = time.monotonic()
            self._write(f"{self._sum()}; {'; '.join(lines)}")

    def _sum(self) -> str:
        failed = f", {self._failed} FAILED" if self._failed else ""
        return f"{self._done} of {len(self.plan.points)} runs done{failed}"

    def _draw(self, lines: list[str]) -> None:
        for bar, text in zip(self._lines, lines + [""] * len(self._lines), strict=False):
            bar.set_description_str(f"  {text}" if text else "")
        self._total.set_postfix_str(self._sum())

    def _write(self, text: str) -> None:
        log = self.plan.root / "sweep.log"
        # a full disk must not stop jobs that still have room
        with contextlib.suppress(OSError), open(log, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def _doing(job: Job) -> str:
    with contextlib.suppress(Error):  # the job itself says what is wrong with its run
        return state(Run(job.run, create=False)) or "data, notebooks and figures"
    return ""
