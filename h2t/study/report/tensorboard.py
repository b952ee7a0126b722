"""Learning curves as TensorBoard event files, for those who watch their runs there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.runs import Run, Step
from h2t.study.compare.table import find

FILE = "events.out.tfevents.0000000000.h2t"  # TensorBoard looks for "tfevents" in the name


def export(root: str | Path) -> tuple[Path, int]:
    """Write ROOT/tensorboard/<run>/<step>/ with the scalars of every metrics.jsonl that has changed
    since, also of a step that is still running; a step that runs share is written once.

    A scalar has the epoch as its step and the name of its column as its tag; the time of an epoch
    is reckoned back from when its file was last written.
    Returns: the folder, and how many steps it holds. Raises: ``h2t.Error`` where tensorboard is not
    installed, or there is no learning curve.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        install = "use `uv run --extra tensorboard h2t report`"
        raise Error(f"tensorboard is not installed; {install}") from None
    root = resolve(root)
    if not root.is_dir():
        raise Error(f"there is no folder of runs {root}")
    folder, steps = root / "tensorboard", 0
    for path, names in sorted(find(root)):
        run = Run(path, create=False, kind="")
        for name in names:
            step = run.step(name)
            source = step.path / "metrics.jsonl"
            if not source.exists() or step.done and step.result.get("adopted_from"):
                continue
            steps += 1
            out = folder / Path(path).relative_to(root) / name / FILE
            if not out.exists() or out.stat().st_mtime_ns < source.stat().st_mtime_ns:
                out.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(out, _events(SummaryWriter, step, source.stat().st_mtime))
    if not steps:
        raise Error(f"{root} holds no learning curve; train a run with `h2t run RECIPE`")
    return folder, steps


def _events(writer, step: Step, ended: float) -> bytes:
    """The event file of a step; the writer names it by the clock, so it is written elsewhere."""
    rows = step.history()
    now = ended - sum(map(_seconds, rows))
    with tempfile.TemporaryDirectory(prefix="h2t-") as place:
        with writer(place) as events:
            for row in rows:
                now += _seconds(row)
                for tag, value in row.items():
                    if tag != "epoch" and isinstance(value, int | float):
                        events.add_scalar(tag, value, row["epoch"], walltime=now)
        return Path(place, os.listdir(place)[0]).read_bytes()


def _seconds(row: dict[str, Any]) -> float:
    return row.get("seconds", 0) + row.get("eval_seconds", 0)
