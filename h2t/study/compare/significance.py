"""Whether two groups of runs differ: paired tests across seeds, or on the test images of two single runs.

Runs are paired on what they share: the training split, the seed of stage 1 and, between two stage 2s, their own seed.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.runs import Run
from h2t.study.compare.groups import UNLIKE

DRAWS = 10_000
BY_CLASS = (
    "balanced",
    "many",
    "medium",
    "few",
)  # means over classes; `all` and `top5` are means over images


def holm(p) -> np.ndarray:
    """P-values corrected for how many there are; NaN (no test) stays and does not count.

    Source: Holm 1979, the step-down procedure. Arguments: ``p`` (M,). Returns: (M,), each at least as large as before.
    """
    p = np.asarray(p, float)
    corrected, order = (
        np.full(p.shape, np.nan),
        np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable"),
    )
    order = order[: (~np.isnan(p)).sum()]
    scaled = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled)) if len(order) else scaled
    return corrected


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """P-value that two classifiers are right equally often on the same images: exact, two-sided.

    Source: McNemar 1947 in its exact form, a sign test on the images that just one has right.
    Arguments: ``a``, ``b`` (N,) whether each image is right.
    """
    from scipy import stats

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def bootstrap(
    a: np.ndarray,
    b: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How far the difference in accuracy of two classifiers depends on which test images there happen to be.

    Source: Efron and Tibshirani 1993, the paired percentile bootstrap: images are drawn again with replacement, both
    classifiers judged on the same. An image counts as +1, 0 or -1, so the draws are multinomial and no image is copied.
    Arguments: ``a``, ``b`` (N,) whether each image is right; ``labels`` (N,) makes it the difference of the means over
    classes, drawn within each class; ``draws``; ``seed``.
    Returns: 2.5 and 97.5 % quantiles of accuracy(a) - accuracy(b) in points, and a two-sided p-value.
    """
    generator = np.random.default_rng(seed)
    difference = a.astype(int) - b.astype(int)
    classes, which = (
        np.unique(labels, return_inverse=True)
        if labels is not None
        else ([0], np.zeros(len(a), int))
    )
    n = np.bincount(which, minlength=len(classes))
    share = np.stack(
        [np.bincount(which, difference == k, len(classes)) / n for k in (1, -1, 0)], 1
    )  # (C, 3)
    moved = np.flatnonzero(share[:, 2] < 1)
    total = np.zeros(draws)
    for part in np.array_split(
        moved, max(1, len(moved) // 64)
    ):  # a few classes at a time: all their draws lie in memory
        drawn = generator.multinomial(n[part], share[part], size=(draws, len(part)))
        total += ((drawn[..., 0] - drawn[..., 1]) / n[part]).sum(1)
    total *= 100 / len(classes)
    low, high = np.quantile(total, (0.025, 0.975))
    tail = min((total <= 1e-12).sum(), (total >= -1e-12).sum())
    return float(low), float(high), float(min(1, 2 * (tail + 1) / (draws + 1)))


def across_seeds(differences: np.ndarray) -> dict[str, float]:
    """Paired tests of differences over seeds: Student's t with its 95 % interval, and Wilcoxon's signed ranks, two-sided.

    Sources: Student 1908; Wilcoxon 1945. Below six pairs Wilcoxon cannot reach 0.05. Where all differences are equal,
    which happens as accuracies are counts, t knows no spread, and Wilcoxon's p stands for both.
    Arguments: ``differences`` (n,) in points, n > 1. Returns: low, high, p, p_wilcoxon.
    """
    from scipy import stats

    d = np.asarray(differences, float)
    if not d.any():
        return {"low": 0.0, "high": 0.0, "p": 1.0, "p_wilcoxon": 1.0}
    ranks = float(stats.wilcoxon(np.round(d, 9)).pvalue)  # 48.3 - 47.1 and 47.2 - 46.0 are a tie
    if np.ptp(d) < 1e-9:
        return {"low": np.nan, "high": np.nan, "p": ranks, "p_wilcoxon": ranks}
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return {
        "low": d.mean() - half,
        "high": d.mean() + half,
        "p": float(stats.ttest_1samp(d, 0).pvalue),
        "p_wilcoxon": ranks,
    }


def pairwise(rows, root: str | Path, measures=("all",), against: str = ""):
    """Every group against every other of its setting, or against one: differences, tests, p-values corrected by Holm.

    With two or more pairs the test is across seeds (``across_seeds``); with one it is on the test images of those two
    runs: McNemar's for ``all``, the bootstrap for the other accuracies, none for ECE. Such a test says that two trained
    networks differ, not that two methods do. Rows that share a pair's key are averaged first, so that several stage 2s
    on one stage 1 do not pass for several stage 1s.

    Arguments: ``rows`` of ``compare.grouped``; ``root`` that they were read from; ``measures`` columns; ``against`` a
    group, or empty for all pairs. Returns: a DataFrame with columns setting, measure, group, against, pairs, stage1s
    (different stage 1s among them), difference (group minus against, in points), low, high, test, p, p_wilcoxon,
    p_holm, differ (what else is unlike in the two).
    Raises: ``h2t.Error`` where ``against`` is not among the groups.
    """
    import pandas as pd

    if against and against not in set(rows["group"]):
        raise Error(
            f"baseline is {against!r}, which is not among the groups: {', '.join(map(repr, rows['group'].unique()))}"
        )
    right, found = _Right(resolve(root)), []
    for setting, part in rows.groupby("setting", sort=False):
        groups = dict(iter(part.groupby("group", sort=False)))
        pairs = (
            [(g, against) for g in groups if g != against]
            if against
            else [(b, a) for a, b in itertools.combinations(groups, 2)]
        )
        for measure in measures:
            for a, b in pairs:
                if a in groups and b in groups:
                    found.append(
                        {
                            "setting": setting,
                            "measure": measure,
                            "group": a,
                            "against": b,
                            **_test(groups[a], groups[b], measure, right),
                        }
                    )
    columns = [
        "setting",
        "measure",
        "group",
        "against",
        "pairs",
        "stage1s",
        "difference",
        "low",
        "high",
        "test",
        "p",
        "p_wilcoxon",
        "p_holm",
        "differ",
    ]
    table = pd.DataFrame(found, columns=[c for c in columns if c != "p_holm"])
    table[["low", "high", "p", "p_wilcoxon"]] = table[["low", "high", "p", "p_wilcoxon"]].astype(
        float
    )
    return table.assign(p_holm=holm(table["p"]))[columns]


def verdict(tests, measure: str, against: str, alpha: float = 0.05) -> str:
    """What the tests against one group allow to be said about a measure, a sentence a setting, and of how much weight it is.

    Arguments: ``tests`` of ``pairwise`` against that group. Returns: text; never "better" without a corrected p below ``alpha``.
    """
    lines, lower = [], measure == "ece"
    for setting, part in tests[tests["measure"] == measure].groupby("setting", sort=False):
        sure = part[part["p_holm"] < alpha]
        open_, untested = part[part["p_holm"] >= alpha]["group"], part[part["p"].isna()]["group"]
        said = [
            f"{r.group} is {'better' if (r.difference < 0) == lower else 'worse'} by {abs(r.difference):.1f} points (p = {r.p_holm:.2g})"
            for r in sure.itertuples()
        ]
        said += [f"no difference is shown for {'; '.join(open_)}"] * bool(len(open_)) + [
            f"{'; '.join(untested)} could not be tested"
        ] * bool(len(untested))
        lines.append(
            f"{measure}{f' at {setting}' if setting else ''}, against {against}: "
            + (", ".join(said) or "nothing to compare")
            + "."
        )
    single = tests[(tests["measure"] == measure) & (tests["pairs"] == 1)]
    if len(single):
        lines.append(
            f"{'One seed proves little' if len(single) == (tests['measure'] == measure).sum() else 'Some of this rests on one seed'}: "
            "a test on images says that two trained networks differ; run more seeds to compare the methods."
        )
    elif len(tests) and tests["stage1s"].max() == 1:
        lines.append(
            "All of this rests on one stage 1: the seeds are those of stage 2, and another stage 1 may differ by more."
        )
    return "\n".join(lines)


def _test(a, b, measure: str, right: _Right) -> dict:
    """One row of ``pairwise``: two groups of one setting, one measure."""
    both = (a["stage"] == 2).all() and (b["stage"] == 2).all()
    keys = ["split", "_stage1", *(["seed"] if both else [])]
    a, b = (x.assign(_stage1=_stage1(x)).dropna(subset=[measure]) for x in (a, b))
    means = [
        x.groupby(keys, dropna=False)[measure].mean().rename(side)
        for x, side in ((a, "a"), (b, "b"))
    ]
    paired = means[0].to_frame().join(means[1], how="inner")
    a, b = (x[x.set_index(keys).index.isin(paired.index)] for x in (a, b))
    unlike = [
        UNLIKE[c]
        for c in ("revision", "width", "device_name", "precision_used")
        if c in a and set(a[c].dropna()) ^ set(b[c].dropna())
    ]
    row = {
        "pairs": len(paired),
        "stage1s": a["stage1_weights"].nunique(),
        "differ": ", ".join(unlike),
    }
    if len(paired) == 0:
        return {**row, "difference": np.nan, "test": "none: no seed and split in common"}
    difference = (paired["a"] - paired["b"]).to_numpy()
    if len(paired) > 1:
        return {
            **row,
            "difference": difference.mean(),
            "test": "paired t across seeds",
            **across_seeds(difference),
        }
    first, second = (x.sort_values("seed").iloc[0] if "seed" in x else x.iloc[0] for x in (a, b))
    return {
        **row,
        "difference": first[measure] - second[measure],
        **_on_images(first, second, measure, right),
    }


def _stage1(rows):
    """What names a run's stage 1: its seed, or its weights where it was imported."""
    seeds = rows["stage1_seed"].astype(object)
    return seeds.where(seeds.notna(), rows["stage1_weights"]).map(str)


def _on_images(a, b, measure: str, right: _Right) -> dict:
    """The test of two single runs on their saved outputs."""
    if measure not in (*BY_CLASS, "all", "top5"):
        return {"test": "none: one pair of runs, and this measure is not an accuracy"}
    try:
        (x, labels, counts, scheme), (y, others, *_) = right(a, measure), right(b, measure)
    except Error:
        return {"test": "none: one pair of runs, and no saved test outputs"}
    if not np.array_equal(labels, others):
        return {"test": "none: one pair of runs, with other test images"}
    if measure in ("many", "medium", "few"):
        inside = np.isin(labels, metrics.groups(np.asarray(counts), scheme)[measure])
        x, y, labels = x[inside], y[inside], labels[inside]
    low, high, p = bootstrap(x, y, labels if measure in BY_CLASS else None)
    exact = measure == "all"
    return {
        "low": low,
        "high": high,
        "p": mcnemar(x, y) if exact else p,
        "test": "McNemar on the test images" if exact else "bootstrap of the test images",
    }


class _Right:
    """Which test images a step has right, read once from its saved outputs."""

    def __init__(self, root: Path):
        self.root, self.known = root, {}

    def __call__(self, row, measure: str):
        key = (row["run"], row["step"], measure == "top5")
        if key not in self.known:
            step = Run(os.path.join(self.root, row["run"]), create=False).step(row["step"])
            (logits, labels), result = step.outputs(), step.result
            hit = (
                (logits.argmax(1) == labels)
                if measure != "top5"
                else metrics._rank(logits, labels) < 5
            )
            self.known[key] = hit, labels, result["counts"], result["groups"]
        return self.known[key]
