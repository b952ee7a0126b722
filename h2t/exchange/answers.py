"""What a run's steps answered on the test set, from what is recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.runs import Run, Step
from h2t.train.rundata import dataset, prepared


def write_answers(run: Run | str, out: str | Path) -> list[Path]:
    """Write what became of each class, and every wrong answer, as CSV files, two a step.

    Images are named by their files where those are there, else by their number in the test set.
    Returns: the files. Raises: ``h2t.Error`` where no step is finished, or one has no test outputs.
    """
    run, folder, files = Run(run, create=False), resolve(out), []
    steps = run.steps()
    names = tuple(prepared(run).inputs["classes"])
    try:
        paths = dataset(run, progress=False).test.paths
    except Error:  # the images have been moved
        paths = None
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        counts = np.asarray(step.result.get("counts", [0] * len(names)))
        classes = metrics.class_table(*_outputs(step, names), names, counts)
        for what, table in (("classes", classes), ("wrong", wrong_answers(step, names, paths))):
            files.append(folder / f"{step.name}-{what}.csv")
            write_atomic(files[-1], table.to_csv(index=False).encode("utf-8", "replace"))
    return files


def wrong_answers(step: Step, names: tuple[str, ...], paths=None):
    """A DataFrame of the test images that a step gets wrong, the surest first."""
    import pandas as pd

    logits, labels = _outputs(step, names)
    answers, known = logits.argmax(1), np.array(names, object)
    table = pd.DataFrame(
        {
            "image": range(len(labels)) if paths is None else list(map(str, paths)),
            "label": known[labels],
            "answer": known[answers],
            "confidence": 100 * metrics.softmax(logits).max(1),
        }
    )
    wrong = table[answers != labels]
    return wrong.sort_values("confidence", ascending=False, kind="stable").round(2)


def _outputs(step: Step, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = step.outputs()
    if logits.shape[1] != len(names):
        other = f"answers among {logits.shape[1]} classes, but the run names {len(names)}"
        raise Error(f"{step.name} of run {step.run.path} {other}; {step.over}")
    return logits, labels
