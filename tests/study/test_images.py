"""Whether two networks differ on the same test images, against every case counted out."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t.study.compare.images import bootstrap, mcnemar


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_mcnemar_is_the_sign_test_counted_out(only_a, only_b, both):
    a = np.array([True] * only_a + [False] * only_b + [True] * both, bool)
    b = np.array([False] * only_a + [True] * only_b + [True] * both, bool)
    n, k = only_a + only_b, min(only_a, only_b)
    exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(a, b) == pytest.approx(exact)


def bootstrapped(a, b, labels):
    """The distribution of the bootstrap, exactly: a resample's difference is a sum of independent
    draws, so it is convolved, class by class. Returns: all values in points, ascending, and their
    probabilities.
    """
    difference, values = a.astype(int) - b.astype(int), {Fraction(0): 1.0}
    for c in set(labels.tolist()):
        own = difference[labels == c]
        for _ in own:
            sums: dict[Fraction, float] = {}
            for value, p in values.items():
                for k in (-1, 0, 1):
                    if (own == k).any():
                        step = value + Fraction(100 * k, len(own) * len(set(labels.tolist())))
                        sums[step] = sums.get(step, 0.0) + p * (own == k).mean()
            values = sums
    return np.array([float(v) for v in sorted(values)]), np.array(
        [values[v] for v in sorted(values)]
    )


@settings(max_examples=10)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 1)), min_size=1, max_size=5))
def test_the_exact_bootstrap_is_every_resample_counted_once(images):
    a, b, labels = (np.array(x) for x in zip(*images, strict=True))
    groups = [np.flatnonzero(labels == c) for c in sorted(set(labels.tolist()))]
    counted = Counter()
    for picks in itertools.product(*(itertools.product(g, repeat=len(g)) for g in groups)):
        counted[
            round(100 * np.mean([a[list(i)].mean() - b[list(i)].mean() for i in picks]), 9)
        ] += 1
    values, p = bootstrapped(a, b, labels)
    assert {round(v, 9): q for v, q in zip(values, p, strict=True)} == pytest.approx(
        {v: n / counted.total() for v, n in counted.items()}
    )


@settings(max_examples=12)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.lists(st.sampled_from([5, 10, 20]), min_size=2, max_size=3),
    st.sampled_from([0.45, 0.55, 0.7]),
)
def test_the_bootstrap_draws_from_its_exact_distribution(seed, by_class, sizes, skill):
    """What n draws count below any point is off by more than sqrt(ln(2 / delta) / 2n) with a
    probability below delta (Dvoretzky, Kiefer and Wolfowitz 1956, Massart 1990); delta is 1e-9
    here, so that chance alone does not fail this test.
    """
    r, draws = np.random.default_rng(seed), 300_000
    labels = np.repeat(np.arange(len(sizes)), sizes)
    a, b = r.random(len(labels)) < 0.7, r.random(len(labels)) < skill
    low, high, p = bootstrap(a, b, labels if by_class else None, draws=draws, seed=seed)
    values, probability = bootstrapped(a, b, labels if by_class else np.zeros_like(labels))

    def below(x):  # and at x
        return probability[values <= x].sum()

    off = (
        math.sqrt(math.log(2 / 1e-9) / (2 * draws)) + 2 / draws
    )  # and the interpolation of a quantile
    for end, quantile in ((low, 0.025), (high, 0.975)):
        assert below(end - 1e-6) <= quantile + off and below(end + 1e-6) >= quantile - off
    exact = min(1, 2 * min(below(1e-6), 1 - below(-1e-6)))
    assert p == pytest.approx(exact, abs=2 * off)


def test_equal_classifiers_do_not_differ():
    a = np.array([True, False, True, True])
    assert bootstrap(a, a) == (0.0, 0.0, 1.0) and mcnemar(a, a) == 1.0
