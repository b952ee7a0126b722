"""Whether two networks differ on the same test images, against every case counted out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2t.study.compare.images import mcnemar


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_mcnemar_is_the_sign_test_counted_out(only_a, only_b, both):
    a = np.array([True] * only_a + [False] * only_b + [True] * both, bool)
    b = np.array([False] * only_a + [True] * only_b + [True] * both, bool)
    n, k = only_a + only_b, min(only_a, only_b)
    exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(a, b) == pytest.approx(exact)


def test_equal_classifiers_do_not_differ():
    a = np.array([True, False, True, True])
    assert mcnemar(a, a) == 1.0
