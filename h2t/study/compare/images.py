"""Tests across test images: whether two networks differ, which says little of their methods."""

import numpy as np
from scipy import stats

DRAWS = 2000  # of a bootstrap


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """P-value that two classifiers are right equally often on the same images: exact, two-sided.

    Source: McNemar 1947 in its exact form, a sign test on the images that just one has right.
    Arguments: ``a``, ``b`` (N,) whether each image is right.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def bootstrap(
    difference: np.ndarray, labels: np.ndarray, priors: np.ndarray
) -> tuple[float, float, float, float]:
    """2.5 and 97.5 % quantiles, two-sided p and mean (points) of a difference (T,) weighted by
    class.

    Source: the percentile bootstrap (Efron and Tibshirani 1993), images drawn within their classes.
    """
    generator = np.random.default_rng(0)
    total, mean = np.zeros(DRAWS), 0.0
    there = np.unique(labels)
    share = priors[there] / priors[there].sum()
    for c, weight in zip(there, share, strict=True):
        own = difference[labels == c]
        mean += 100 * weight * own.mean()
        if np.ptp(own) == 0:
            total += 100 * weight * own[0]
        else:
            drawn = generator.integers(0, len(own), (DRAWS, len(own)))
            total += 100 * weight * own[drawn].mean(1)
    low, high = np.quantile(total, (0.025, 0.975))
    tail = min((total <= 1e-12).sum(), (total >= -1e-12).sum())
    return float(low), float(high), float(min(1, 2 * (tail + 1) / (DRAWS + 1))), float(mean)
