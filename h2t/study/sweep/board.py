"""How far a sweep is: in a terminal, in a notebook and in a log file, and how long it will take."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable
from statistics import mean

from h2t.base.errors import Error
from h2t.lab.books.execute import spell, state
from h2t.runs import Run
from h2t.study.sweep.job import Job

EVERY = 60  # seconds between two states in the log
LATEST = 12  # things that happened, below the lines of the running jobs in a notebook
BAR = "{l_bar}{bar:20}| {n}/{total}, {elapsed}{postfix}"


class Board:
    """Shows and logs a sweep.

    In a terminal a line for each running job and a total, rewritten in place, below what happened;
    in a notebook the same in one output, with the last things that happened; in a pipe or a file
    what happened. Arguments: ``plan``; ``pool`` what runs its jobs; ``progress`` whether to show
    anything.
    """

    def __init__(self, plan, pool, progress: bool):
        from tqdm import tqdm

        self.plan, self.pool, self.shown, self._tqdm = plan, pool, progress, tqdm
        self._last, self._said = time.monotonic(), deque(maxlen=LATEST)
        log = plan.root / "sweep.log"
        self._log = open(log, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        self._page = _output() if progress else None
        self._terminal = progress and not self._page and sys.stderr.isatty()
        count = min(pool.slots, len(plan.todo), 40) if self._terminal else 0
        places = range(1, count + 1)
        self._lines = [tqdm(bar_format="{desc}", position=k, leave=False) for k in places]
        where = None if self._terminal else _Nowhere()
        how = dict(total=len(plan.todo), position=0, desc="jobs", bar_format=BAR, file=where)
        self._total = tqdm(**how)
        self._open, self._begun, self._failed = list(plan.todo), {}, 0
        self._known = took(plan, plan.todo)
        self._done = len(plan.points) - sum(plan.jobs[n].kind == "run" for n in plan.todo)
        runs, jobs = f"{len(plan.points)} runs, {self._done} done already", len(plan.todo)
        self.say(f"{runs}, {jobs} jobs to do: {pool}")

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            self.say(f"stopped: {kind.__name__}; run it again to go on")
        self._draw([])
        for bar in (*self._lines, self._total):
            bar.close()
        with contextlib.suppress(OSError):
            self._log.close()

    def began(self, name: str) -> None:
        self._begun[name] = time.monotonic()
        self._write(f"{self.plan.jobs[name].label}: begun")

    def ended(self, name: str, failure: str | None) -> None:
        """Note that a job is done, or why it is not."""
        job = self.plan.jobs[name]
        self._open.remove(name)
        self._total.update(1)
        if failure:
            self._failed += 1
            self.say(f"{job.label}: FAILED: {failure}")
            return
        self._done += job.kind == "run"
        seconds = time.monotonic() - self._begun.get(name, time.monotonic())
        self._known.setdefault(job.kind, []).append(seconds)
        self.say(f"{job.label}: done in {seconds:.0f} s{_result(job)}")

    def say(self, text: str) -> None:
        """One line for all readers."""
        self._write(text)
        self._said.append(text)
        if self.shown and not self._page:
            self._tqdm.write(text, file=sys.stderr)

    def show(self, running: list[str]) -> None:
        """Bring the running jobs' lines up to date; once a minute they go to the log too."""
        due = time.monotonic() - self._last > EVERY
        if not (self._terminal or self._page or due):
            return
        jobs = [self.plan.jobs[name] for name in running]
        lines = [f"{job.label}: {_doing(job)}" for job in jobs]
        self._draw(lines)
        if due:
            self._last = time.monotonic()
            done = f"{self._done} of {len(self.plan.points)} runs done, {self._failed} failed"
            self._write(f"{done}; {'; '.join(lines) or 'waiting'}")

    def _draw(self, lines: list[str]) -> None:
        for bar, text in zip(self._lines, lines + [""] * len(self._lines), strict=False):
            bar.set_description_str(f"  {text}" if text else "")
        parts = [f"{self._done} of {len(self.plan.points)} runs done"]
        parts += [f"{self._failed} FAILED"] if self._failed else []
        left = seconds_left(self.plan, self._open, self._known, self.pool.slots)
        if left and self._open:
            parts.append(f"about {spell(left)} left")
        self._total.set_postfix_str(", ".join(parts))
        if self._page:
            whole = [str(self._total), *(f"  {line}" for line in lines), ""]
            if len(self._said) == LATEST:
                whole.append(f"earlier in {self.plan.root / 'sweep.log'}")
            self._page("\n".join([*whole, *self._said]))

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not stop jobs that still have room
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class _Nowhere:
    """Where a bar is drawn of which only the text is wanted."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


def _output() -> Callable[[str], None] | None:
    """What shows a text in one place of a notebook, anew each time; None where this is none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)


def took(plan, open_: list[str]) -> dict[str, list[float]]:
    """Seconds of the jobs of a plan that are not open, by kind."""
    known: dict[str, list[float]] = {}
    for job in plan.jobs.values():
        if job.name not in open_ and (mark := job.mark):
            known.setdefault(job.kind, []).append(mark["seconds"])
    return known


def seconds_left(plan, open_: list[str], known: dict[str, list[float]], slots: int) -> float | None:
    """How long the open jobs will take, ``slots`` at a time, if each takes as long as those of its
    kind did; None where none of a kind is done."""
    kinds = [plan.jobs[name].kind for name in open_]
    if not set(kinds) <= set(known):
        return None
    seconds = [mean(known[kind]) for kind in kinds]
    return max([sum(seconds) / slots, *seconds])


def forecast(plan, pool) -> str:
    """What can be said of the time that a plan will take, in words."""
    if not plan.todo:
        return "nothing is left to do"
    left = seconds_left(plan, plan.todo, took(plan, plan.todo), pool.slots)
    if left is None:
        return f"known once the first runs are done ({pool})"
    return f"about {spell(max(left, 1))}, by the runs that are done ({pool})"


def _doing(job: Job) -> str:
    doing = ""
    with contextlib.suppress(Error):  # the job itself says what is wrong with its run
        doing = state(Run(job.run, create=False))
    return doing or "data, notebooks and figures"


def _result(job: Job) -> str:
    if job.kind == "run":
        with contextlib.suppress(Error):
            last = Run(job.run).step("stage2-h2t").result["last"]
            groups = [last[g] for g in ("many", "medium", "few")]
            said = "/".join("empty" if g is None else f"{g:.1f}" for g in groups)
            return f": test top-1 {last['all']:.2f} % (many/medium/few {said})"
    return ""
