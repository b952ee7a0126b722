"""Whether two networks differ by the test images that each has right; not whether methods do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.runs import Run

DRAWS = 10_000
# means over classes; `all` and `top5` are means over images
BY_CLASS = ("balanced", *metrics.GROUPS)


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
    """How far the difference in accuracy of two classifiers depends on which test images there are.

    Source: Efron and Tibshirani 1993, the paired percentile bootstrap: images are drawn again with
    replacement, both classifiers judged on the same. An image counts as +1, 0 or -1, so the draws
    are multinomial and no image is copied.
    Arguments: ``a``, ``b`` (N,) whether each image is right; ``labels`` (N,) makes it the
    difference of the means over classes, drawn within each class; ``draws``; ``seed``.
    Returns: 2.5 and 97.5 % quantiles of accuracy(a) - accuracy(b) in points, a two-sided p-value.
    """
    generator = np.random.default_rng(seed)
    difference = a.astype(int) - b.astype(int)
    labels = np.zeros(len(a), int) if labels is None else labels
    classes, which = np.unique(labels, return_inverse=True)
    n = np.bincount(which)
    counts = [np.bincount(which, difference == k, len(classes)) for k in (1, -1, 0)]
    share = np.stack(counts, 1) / n[:, None]  # (C, 3)
    moved = np.flatnonzero(share[:, 2] < 1)
    total = np.zeros(draws)
    # a few classes at a time: all their draws lie in memory
    for part in np.array_split(moved, max(1, len(moved) // 64)):
        drawn = generator.multinomial(n[part], share[part], size=(draws, len(part)))
        total += ((drawn[..., 0] - drawn[..., 1]) / n[part]).sum(1)
    total *= 100 / len(classes)
    low, high = np.quantile(total, (0.025, 0.975))
    tail = min((total <= 1e-12).sum(), (total >= -1e-12).sum())
    return float(low), float(high), float(min(1, 2 * (tail + 1) / (draws + 1)))


class Images:
    """Which test images the steps under a folder have right, each read once from its outputs."""

    def __init__(self, root: Path):
        self.root, self.known = root, {}

    def p(self, a, b, measure: str) -> float:
        """P-value of two single steps, rows of the table: McNemar's for ``all``, else bootstrapped.

        NaN where the measure is no accuracy, where outputs were not saved, or are of other images.
        """
        if measure not in (*BY_CLASS, "all", "top5"):
            return np.nan
        try:
            x, labels, inside = self.right(a, measure)
            y, others, _ = self.right(b, measure)
        except Error:
            return np.nan
        if not np.array_equal(labels, others):
            return np.nan
        x, y, labels = x[inside], y[inside], labels[inside]
        if measure == "all":
            return mcnemar(x, y)
        return bootstrap(x, y, labels if measure in BY_CLASS else None)[2]

    def right(self, row, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which images are right (N,), their labels, and which of them the measure is about."""
        key = (row["run"], row["step"], measure)
        if key not in self.known:
            step = Run(self.root / row["run"], create=False).step(row["step"])
            (logits, labels), result = step.outputs(), step.result
            best = 5 if measure == "top5" else 1
            inside = np.ones(len(labels), bool)
            if measure in metrics.GROUPS:
                groups = metrics.groups(np.asarray(result["counts"]), result["groups"])
                inside = np.isin(labels, groups[measure])
            self.known[key] = metrics.rank(logits, labels) < best, labels, inside
        return self.known[key]
