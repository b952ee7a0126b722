"""What a run's steps answered on the test set, from what is recorded: no image is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.runs import Run, Step
from h2t.train.rundata import class_names, dataset


def recorded(run: Run | str) -> dict[str, dict[str, Any]]:
    """Every finished step's result, its measures computed again from its recorded answers.

    Raises: ``h2t.Error`` where no step is finished, or one has no test outputs.
    """
    run, found = Run(run, create=False), {}
    for step in run.steps():
        result = step.result
        how = np.asarray(result.get("counts", [])), result.get("groups", "field")
        found[step.name] = {**result, "last": metrics.summary(*step.outputs(), *how)}
    if not found:
        raise Error(f"run {run.path} has no finished step; run it first")
    return found


def write_answers(run: Run | str, out: str | Path) -> list[Path]:
    """Write what became of each class, and every wrong answer, as CSV files, two a step.

    Images are named by their files where those are there, else by their number in the test set.
    Returns: the files. Raises: ``h2t.Error`` where a step has no test outputs.
    """
    run, folder, files = Run(run, create=False), resolve(out), []
    names = class_names(run)
    try:
        paths = dataset(run, progress=False).test.paths
    except Error:  # the images have been moved
        paths = None
    for step in run.steps():
        classes, wrong = class_table(step, names), wrong_answers(step, names, paths)
        for what, table in (("classes", classes), ("wrong", wrong)):
            files.append(folder / f"{step.name}-{what}.csv")
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(files[-1], table.to_csv(index=False).encode("utf-8", "replace"))
    return files


def class_table(step: Step, names: tuple[str, ...]):
    """``metrics.class_table`` of a step's recorded answers."""
    logits, labels = _outputs(step, names)
    counts = np.asarray(step.result.get("counts", [0] * len(names)))
    return metrics.class_table(logits, labels, names, counts)


def wrong_answers(step: Step, names: tuple[str, ...], paths=None):
    """A DataFrame of the test images that a step gets wrong, the surest first."""
    import pandas as pd

    logits, labels = _outputs(step, names)
    answers, share = logits.argmax(1), metrics.softmax(logits)
    rows = np.flatnonzero(answers != labels)
    sure = 100 * share[rows, answers[rows]]
    order = np.argsort(-sure, kind="stable")
    rows, sure = rows[order], sure[order]
    columns = {
        "image": rows if paths is None else [str(paths[k]) for k in rows],
        "label": [names[k] for k in labels[rows]],
        "answer": [names[k] for k in answers[rows]],
        "confidence": sure.round(2),
    }
    return pd.DataFrame(columns)


def _outputs(step: Step, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = step.outputs()
    if logits.shape[1] != len(names):
        raise Error(
            f"{step.name} of run {step.run.path} answers among {logits.shape[1]} classes, but the "
            f"run names {len(names)}; {step.over}"
        )
    return logits, labels
