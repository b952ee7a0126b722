"""What counts as evidence: one stage 1 on one split, however many stage 2s were trained on it.

Stage 2s on one stage 1 share what that stage 1 happened to learn. They repeat one observation, so
they are averaged first. Counted one by one, ten stage 2s on two stage 1s would find an effect where
there is none in half of all cases, not in one of twenty.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from h2t.base.tables import number

LEVEL, ALPHA = 0.95, 0.05  # of intervals, and of corrected tests
ALONE = (
    "One stage 1 proves nothing of a method: stage 2s on it are repeats, not independent runs, and "
    "another stage 1 may differ by more. Train more seeds of stage 1."
)


class Spread(NamedTuple):
    """A mean over ``n`` units, from ``repeats`` values; NaN where too few have a spread.

    ``std`` is between units, ``within`` between the repeats of one, ``low`` and ``high`` end a
    confidence interval of the mean.
    """

    n: int
    repeats: int
    mean: float
    std: float
    within: float
    low: float
    high: float


def of(rows):
    """The unit of each row of ``h2t.table``: its split and its stage 1, by seed, or by weights if
    it was imported.
    """
    seeds = rows["stage1_seed"].astype(object)
    stage1 = seeds.where(seeds.notna(), rows["stage1_weights"])
    return rows["split"].map(str) + " " + stage1.map(str)


def spread(values, units) -> Spread:
    """Mean, standard deviations and Student's interval of values that belong to units.

    Source: Student 1908. The interval ends where percentages end, at 0 and 100.
    Arguments: ``values`` (N,) in %, of which NaN is left out; ``units`` (N,) labels.
    """
    values, units = np.asarray(values, float), np.asarray(units)
    there = ~np.isnan(values)
    values, (names, which) = values[there], np.unique(units[there], return_inverse=True)
    n, repeats = len(names), len(values)
    if not n:
        return Spread(0, 0, *[np.nan] * 5)
    means = np.bincount(which, values) / np.bincount(which)
    within = np.nan
    if repeats > n:
        within = np.sqrt(((values - means[which]) ** 2).sum() / (repeats - n))
    std = means.std(ddof=1) if n > 1 else np.nan
    return Spread(n, repeats, means.mean(), std, within, *np.clip(interval(means), 0, 100))


def interval(means) -> tuple[float, float]:
    """Where the mean of all units may lie, given some of them (n,); NaN for fewer than two."""
    n = len(means)
    if n < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(means, ddof=1) / np.sqrt(n)
    return float(np.mean(means) - half), float(np.mean(means) + half)


def across(differences) -> dict[str, float]:
    """Paired tests of differences, one a unit: Student's t and Wilcoxon's signed ranks, two-sided.

    Sources: Student 1908; Wilcoxon 1945, which cannot reach 0.05 below six units. Equal differences
    (accuracies are counts) have no spread for t: Wilcoxon's p then stands for both. NaN for one.
    """
    d = np.asarray(differences, float)
    if len(d) < 2:
        return dict.fromkeys(("low", "high", "p", "p_wilcoxon"), np.nan)
    if not d.any():
        return {"low": 0.0, "high": 0.0, "p": 1.0, "p_wilcoxon": 1.0}
    ranks = float(stats.wilcoxon(np.round(d, 9)).pvalue)  # 48.3 - 47.1 and 47.2 - 46.0 are a tie
    if np.ptp(d) < 1e-9:
        return {"low": np.nan, "high": np.nan, "p": ranks, "p_wilcoxon": ranks}
    low, high = interval(d)
    t = d.mean() / (d.std(ddof=1) / np.sqrt(len(d)))
    p = float(2 * stats.t.sf(abs(t), len(d) - 1))
    return {"low": low, "high": high, "p": p, "p_wilcoxon": ranks}


def counted(n: int, repeats: int) -> str:
    """How much evidence that is: ``5 stage 1s``, ``one stage 1 with 5 stage 2s``."""
    said = "one stage 1" if n == 1 else f"{n} stage 1s"
    return f"{said} with {repeats} stage 2s" if repeats > n else said


def error(row) -> float:
    """The deviation between stage 1s or, where there is but one, between the stage 2s on it."""
    return row["std"] if row["std"] == row["std"] else row["within"]


def shown(row, sign: bool = False) -> str:
    """``48.30 ± 0.21``, of a row with mean, std and within; an empty text for no mean."""
    spread = number(error(row))
    return number(row["mean"], sign=sign) + (f" ± {spread}" if spread else "")
