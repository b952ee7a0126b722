"""Whether two networks differ by the test images that each has right; not whether methods do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.runs import Run


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """P-value that two classifiers are right equally often on the same images: exact, two-sided.

    Source: McNemar 1947 in its exact form, a sign test on the images that just one has right.
    Arguments: ``a``, ``b`` (N,) whether each image is right.
    """
    from scipy import stats

    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


class Images:
    """Which test images the steps under a folder have right, each read once from its outputs."""

    def __init__(self, root: Path):
        self.root, self.known = root, {}

    def p(self, a, b) -> float:
        """McNemar's p-value of two single steps, rows of the table.

        NaN where outputs were not saved, or are of other images.
        """
        try:
            (x, labels), (y, others) = self._right(a), self._right(b)
        except Error:
            return np.nan
        return mcnemar(x, y) if np.array_equal(labels, others) else np.nan

    def _right(self, row) -> tuple[np.ndarray, np.ndarray]:
        key = (row["run"], row["step"])
        if key not in self.known:
            logits, labels = Run(self.root / key[0], create=False).step(key[1]).outputs()
            self.known[key] = metrics.rank(logits, labels) == 0, labels
        return self.known[key]
