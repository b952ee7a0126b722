"""Whether groups of runs differ: paired tests over units (``units.py``), corrected."""

import functools
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.metrics import label
from h2t.runs import Run
from h2t.study.compare import units
from h2t.study.compare.groups import UNLIKE
from h2t.study.compare.images import mcnemar
from h2t.study.compare.units import ALPHA

COLUMNS = ["setting", "measure", "group", "against", "units", "repeats", "difference", "within"]
COLUMNS += ["low", "high", "test", "p", "p_wilcoxon", "p_holm", "p_images", "differ"]


def holm(p) -> np.ndarray:
    """P-values corrected for how many there are; NaN (no test) stays and does not count.

    Source: Holm 1979, the step-down procedure. Arguments: ``p`` (M,). Returns: (M,), none smaller.
    """
    p = np.asarray(p, float)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: (~np.isnan(p)).sum()]  # NaN sorts last
    scaled = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return corrected


def corrected(tests: list[dict]) -> list[dict]:
    """Tests with a ``p`` and, by ``holm`` over all of them, a ``p_holm``."""
    by_holm = holm([test["p"] for test in tests])
    return [test | {"p_holm": p} for test, p in zip(tests, by_holm, strict=True)]


def pairwise(rows, root: str | Path, measures=("all",), against: str = ""):
    """Every group against every other of its setting, or against one: differences and their tests.

    Runs are paired on their unit, over whose stage 2s is averaged first. Two units or more are
    tested (``units.across``), p corrected by Holm for the whole table. With one unit nothing is; of
    two single networks ``p_images`` says whether these differ on the test images (for ``all``).

    Arguments: ``rows`` of ``groups.grouped``, read from ``root``; ``against`` a group, or empty for
    all pairs. Returns: a DataFrame: ``units`` in common, ``repeats`` networks of the larger group,
    ``difference`` group minus against in points, ``within`` its deviation over the seeds of a stage
    1, ``differ`` what else is unlike in the two.
    """
    if against and against not in set(rows["group"]):
        there = ", ".join(map(repr, rows["group"].unique()))
        raise Error(f"baseline is {against!r}, which is not among the groups: {there}")
    measures, root, found = list(measures), resolve(root), []

    @functools.cache
    def right(run: str, step: str):
        logits, labels = Run(root / run, create=False).step(step).outputs()
        return metrics.rank(logits, labels) == 0, labels

    for setting, part in rows.groupby("setting", sort=False):
        groups = dict(iter(part.groupby("group", sort=False)))
        pairs = [(b, a) for a, b in itertools.combinations(groups, 2)]
        if against:
            pairs = [(g, against) for g in groups if g != against and against in groups]
        for group, other in pairs:
            named = {"setting": setting, "group": group, "against": other}
            found += [
                named | test for test in _tests(groups[group], groups[other], measures, right)
            ]
    return pd.DataFrame(corrected(found), columns=COLUMNS)


def _tests(a, b, measures: list[str], right) -> list[dict]:
    """The rows of ``pairwise`` about two groups, a measure each."""
    common = set(a["unit"]) & set(b["unit"])
    a, b = (rows[rows["unit"].isin(common)] for rows in (a, b))
    also = [c for c in ("revision", "width", "device_name", "precision_used") if c in a]
    unlike = [UNLIKE[c] for c in also if set(a[c].dropna()) ^ set(b[c].dropna())]
    shared = {"repeats": max(len(a), len(b)), "differ": ", ".join(unlike)}
    first, second = (rows.groupby("unit", sort=False)[measures].mean() for rows in (a, b))
    by_unit = first - second
    first, second = (rows.groupby(["unit", "seed"])[measures].mean() for rows in (a, b))
    by_seed = first - second
    found = []
    for m in measures:
        d, of_seeds = by_unit[m].dropna(), by_seed[m].dropna()
        test, p_images = "paired t across stage 1s", np.nan
        if len(d) < 2:
            test = "none: one stage 1" if len(d) else "none: no stage 1 and split in common"
        if m == "all" and len(d) == len(a) == len(b) == 1:
            p_images = _p_images(a.iloc[0], b.iloc[0], right)
        within = units.spread(of_seeds, of_seeds.index.get_level_values("unit")).within
        row = {"measure": m, "units": len(d), "difference": d.mean(), "within": within}
        found.append(shared | row | {"test": test, "p_images": p_images} | units.across(d))
    return found


def _p_images(a, b, right) -> float:
    """McNemar's p-value of two steps; NaN where outputs were not saved, or are of other images."""
    try:
        (x, labels), (y, others) = (right(row["run"], row["step"]) for row in (a, b))
    except Error:
        return np.nan
    return mcnemar(x, y) if np.array_equal(labels, others) else np.nan


def verdict(tests, measure: str, against: str) -> str:
    """What the tests of ``pairwise`` against one group allow to be said about a measure, a sentence
    a setting; never "better" without a corrected test, and on how many stage 1s that rests.
    """
    of, lines = tests[tests["measure"] == measure], []
    for setting, part in of.groupby("setting", sort=False):
        rows = list(part.itertuples())
        said = [_said(row, measure == "ece") for row in rows if not row.p_holm >= ALPHA]
        open_ = [f"{row.group} ({_size(row)})" for row in rows if row.p_holm >= ALPHA]
        said += [f"no difference is shown for {', '.join(open_)}"] if open_ else []
        where = f" at {setting}" if setting else ""
        what = "; ".join(said) or "nothing to compare"
        lines.append(f"{label(measure)}{where}, against {against}: {what}.")
    return "\n".join([*lines, units.ALONE] if (of["units"] == 1).any() else lines)


def _size(row) -> str:
    error = row.within if row.units == 1 else np.nan  # of several, p says what spread allows
    spread = {"mean": row.difference, "std": np.nan, "within": error}
    return f"{units.shown(spread, sign=True)} points, {units.counted(row.units, row.repeats)}"


def _said(row, lower_is_better: bool) -> str:
    """What one test says that shows a difference, or could not be made."""
    if not row.units:
        return f"{row.group} could not be compared: no stage 1 and split in common"
    if row.p_holm < ALPHA:
        better = "better" if (row.difference < 0) == lower_is_better else "worse"
        return f"{row.group} is {better} ({_size(row)}, p = {row.p_holm:.2g})"
    said = f"{row.group} is not tested ({_size(row)})"
    if row.p_images == row.p_images:
        said += f"; that these two networks differ on the test images: p = {row.p_images:.2g}"
    return said
