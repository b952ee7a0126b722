"""Learning curves as TensorBoard event files, for those who watch their runs there."""

from __future__ import annotations

import json
import os
from pathlib import Path

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.study.compare.table import find

FILE = "events.out.tfevents.0000000000.h2t"  # TensorBoard looks for "tfevents" in the name


def export(root: str | Path) -> tuple[Path, int]:
    """Write ROOT/tensorboard/<run>/<step>/ with the scalars of every metrics.jsonl, also of a step that is still running.

    A scalar has the epoch as its step and the name of its column as its tag; the time of an epoch is reckoned back
    from when its file was last written. What is newer than its metrics.jsonl is left as it is; a step that was copied
    into other runs is written once, for the run that trained it.
    Returns: the folder, and how many steps it holds. Raises: ``h2t.Error`` where tensorboard is not installed, or there
    is no learning curve.
    """
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        raise Error(
            "tensorboard is not installed; `pip install h2t[tensorboard]`, or `uv run --extra tensorboard h2t report`"
        ) from None
    root = resolve(root)
    if not root.is_dir():
        raise Error(f"there is no folder of runs {root}")
    folder, steps = root / "tensorboard", 0
    for path, names in sorted(find(root)):
        for step in sorted(n for n in names if n == "stage1" or n.startswith("stage2-")):
            source = os.path.join(path, step, "metrics.jsonl")
            if not os.path.exists(source) or _copied(os.path.join(path, step, "result.json")):
                continue
            steps += 1
            out = folder / Path(path).relative_to(root) / step / FILE
            if out.exists() and out.stat().st_mtime_ns >= os.stat(source).st_mtime_ns:
                continue
            rows, ended = _rows(source), os.stat(source).st_mtime
            left = sum(r.get("seconds", 0) + r.get("eval_seconds", 0) for r in rows)
            events = [event_pb2.Event(wall_time=ended - left, file_version="brain.Event:2")]
            for row in rows:
                left -= row.get("seconds", 0) + row.get("eval_seconds", 0)
                numbers = {
                    k: v for k, v in row.items() if k != "epoch" and isinstance(v, int | float)
                }
                values = [
                    summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in numbers.items()
                ]
                events.append(
                    event_pb2.Event(
                        wall_time=ended - left,
                        step=row["epoch"],
                        summary=summary_pb2.Summary(value=values),
                    )
                )
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(
                out,
                lambda f, events=events: [
                    RecordWriter(f).write(e.SerializeToString()) for e in events
                ],
            )
    if not steps:
        raise Error(f"{root} holds no learning curve; train a run with `h2t run RECIPE`")
    return folder, steps


def _copied(result: str) -> bool:
    try:
        with open(result, "rb") as f:
            return bool(json.loads(f.read()).get("adopted_from"))
    except (OSError, ValueError, AttributeError):
        return False


def _rows(path: str) -> list[dict]:
    try:
        with open(path, encoding="utf-8") as f:
            return [json.loads(line) for line in f]
    except ValueError:
        raise Error(f"{path} is damaged; run the step again with `--again`") from None
