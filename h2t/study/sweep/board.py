"""How far a sweep is: a line for each running job and a total, in a terminal, in a notebook and in a log file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable

from h2t.base.errors import Error
from h2t.recipes.names import STEPS
from h2t.runs import Run
from h2t.study.sweep.job import Job

EVERY = 60  # seconds between two states in the log
LATEST = 12  # things that happened, below the lines of the running jobs in a notebook


class Board:
    """Shows and logs a sweep. In a terminal a line for each running job and a total, rewritten in place, below what happened; in a
    notebook the same in one output, with the last things that happened; in a pipe or a file what happened.

    Arguments: ``plan``; ``pool`` what runs its jobs; ``progress`` whether to show anything.
    """

    def __init__(self, plan, pool, progress: bool):
        from tqdm import tqdm

        self.plan, self.shown, self._last, self._said = (
            plan,
            progress,
            time.monotonic(),
            deque(maxlen=LATEST),
        )
        self._log = open(plan.root / "sweep.log", "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        finished = len(plan.points) - sum(plan.jobs[n].kind == "run" for n in plan.todo)
        self._page = _output() if progress else None
        self._terminal = progress and not self._page and sys.stderr.isatty()
        count = min(pool.slots, len(plan.todo), 40) if self._terminal else 0
        self._tqdm, self._lines = (
            tqdm,
            [tqdm(bar_format="{desc}", position=k + 1, leave=False) for k in range(count)],
        )
        jobs = len(plan.todo)
        bar = "{l_bar}{bar:20}| {n}/{total}, {elapsed}, {remaining} left{postfix}"
        self._total = tqdm(
            total=jobs,
            unit="job",
            position=0,
            desc="jobs",
            bar_format=bar,
            file=None if self._terminal else _Nowhere(),
        )
        self._done, self._failed, self._begun = finished, 0, {}
        self.say(f"{len(plan.points)} runs, {finished} done already, {jobs} jobs to do: {pool}")

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
        self._total.update(1)
        took = f" in {time.monotonic() - self._begun[name]:.0f} s" if name in self._begun else ""
        if failure:
            self._failed += 1
            self.say(f"{self.plan.jobs[name].label}: FAILED: {failure}")
        else:
            self._done += self.plan.jobs[name].kind == "run"
            self.say(f"{self.plan.jobs[name].label}: done{took}{_result(self.plan.jobs[name])}")

    def say(self, text: str) -> None:
        """One line for all readers."""
        self._write(text)
        self._said.append(text)
        if self.shown and not self._page:
            self._tqdm.write(text, file=sys.stderr)

    def show(self, running: list[str]) -> None:
        """Bring the lines of the running jobs up to date; once a minute they go to the log too."""
        due = time.monotonic() - self._last > EVERY
        if not (self._terminal or self._page or due):
            return
        lines = [f"{self.plan.jobs[name].label}: {state(self.plan.jobs[name])}" for name in running]
        self._draw(lines)
        if due:
            self._last = time.monotonic()
            self._write(
                f"{self._done} of {len(self.plan.points)} runs done, {self._failed} failed; "
                + ("; ".join(lines) or "waiting")
            )

    def _draw(self, lines: list[str]) -> None:
        for bar, text in zip(self._lines, lines + [""] * len(self._lines), strict=False):
            bar.set_description_str(f"  {text}" if text else "")
        self._total.set_postfix_str(
            f"{self._done} of {len(self.plan.points)} runs done"
            + (f", {self._failed} FAILED" if self._failed else "")
        )
        if self._page:
            older = (
                [f"earlier in {self.plan.root / 'sweep.log'}"] if len(self._said) == LATEST else []
            )
            self._page(
                "\n".join(
                    [str(self._total), *(f"  {line}" for line in lines), "", *older, *self._said]
                )
            )

    def _write(self, text: str) -> None:
        with contextlib.suppress(
            OSError
        ):  # a full disk must not stop the jobs that still have room
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class _Nowhere:
    """Where a bar is drawn of which only the text is wanted."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


def _output() -> Callable[[str], None] | None:
    """A function that shows a text in a place of its own, and replaces what it showed before; None where this is no notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)


def state(job: Job) -> str:
    """What a job is doing: step, epoch, latest test accuracy and the time that its step still takes."""
    run = Run(job.run)
    for folder in sorted(run.path.glob("stage*")):
        step = run.step(folder.name)
        if (
            step.done
            or (job.kind == "stage2") != (step.name.startswith("stage2"))
            and job.kind != "run"
        ):
            continue
        try:
            params, rows = step.params, step.history()
        except (OSError, ValueError, Error):
            continue
        epochs = params.get("stage1_epochs" if step.name == "stage1" else "stage2_epochs")
        if not epochs or not rows:
            return f"{STEPS.get(step.name, step.name)}: begun"
        left = (
            (epochs - rows[-1]["epoch"])
            * sum(r["seconds"] + r.get("eval_seconds", 0) for r in rows)
            / len(rows)
        )
        top1 = next(
            (f", test top-1 {r['all']:.1f} %" for r in reversed(rows) if r.get("all") is not None),
            "",
        )
        return f"{STEPS.get(step.name, step.name)}: epoch {rows[-1]['epoch']}/{epochs}{top1}, {spell(left)} left"
    return "data, notebooks and figures"


def spell(seconds: float) -> str:
    """A duration as one says it."""
    hours = seconds / 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return (
        f"{60 * hours:.0f} min"
        if hours < 1.5
        else f"{hours:.1f} h"
        if hours < 10
        else f"{hours:.0f} h"
        if hours < 48
        else f"{hours / 24:.0f} days"
    )


def _result(job: Job) -> str:
    if job.kind != "run":
        return ""
    with contextlib.suppress(Error):
        last = Run(job.run).step("stage2-h2t").result["last"]
        groups = "/".join(
            "empty" if last[g] is None else f"{last[g]:.1f}" for g in ("many", "medium", "few")
        )
        return f": test top-1 {last['all']:.2f} % (many/medium/few {groups})"
    return ""
