"""What is no measure is named; head and tail of any set."""

import numpy as np
import pytest

from h2t import Error, metrics

GOOD = np.zeros((3, 4)), np.array([0, 1, 2])
COUNTS = np.array([500, 50, 5, 5])


def with_value(value) -> np.ndarray:
    logits = np.zeros((3, 4))
    logits[1, 2] = value
    return logits


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: metrics.summary(np.zeros(4), np.array([0]), COUNTS),
            r"logits must be \(N, C\) and labels \(N,\), N > 0; got \(4,\)",
        ),
        (lambda: metrics.summary(GOOD[0], np.array([0, 1]), COUNTS), r"got \(3, 4\) and \(2,\)"),
        (lambda: metrics.confusion(GOOD[0], np.zeros((3, 1), int)), r"got \(3, 4\) and \(3, 1\)"),
        (lambda: metrics.per_class(np.zeros((0, 4)), np.zeros(0, int)), r"N > 0; got \(0, 4\)"),
        (
            lambda: metrics.per_class(GOOD[0], np.array([0, 1, 4])),
            "labels must lie in 0 to 3, .* got 0 to 4",
        ),
        (
            lambda: metrics.confusion(GOOD[0], np.array([-1, 1, 2])),
            "labels must lie in 0 to 3, .* got -1 to 2",
        ),
        (
            lambda: metrics.per_class(GOOD[0], np.array([0.0, 1.0, 2.0])),
            "labels must be whole numbers; got float64",
        ),
        (
            lambda: metrics.per_class(np.zeros((3, 4), int), GOOD[1]),
            "logits must be floating point; got int64",
        ),
        (
            lambda: metrics.summary(with_value(np.nan), GOOD[1], COUNTS),
            "logits of test image 1 are not finite",
        ),
        (lambda: metrics.ece(with_value(np.inf), GOOD[1]), "logits of test image 1 are not finite"),
        (
            lambda: metrics.summary(*GOOD, COUNTS[:3]),
            "counts name 3 classes, but the classifier has 4",
        ),
        (
            lambda: metrics.summary(*GOOD, np.append(COUNTS, 5)),
            "counts name 5 classes, but the classifier has 4",
        ),
        (
            lambda: metrics.group_means(np.zeros(3), COUNTS),
            "counts name 4 classes, but the classifier has 3",
        ),
        (lambda: metrics.groups(np.ones((2, 2))), r"counts must be \(C,\) .* got shape \(2, 2\)"),
        (lambda: metrics.groups(np.array(["5"])), r"counts must be \(C,\) numbers"),
        (lambda: metrics.groups(np.array([5, -1])), "class 1 has -1"),
        (lambda: metrics.groups(np.array([np.nan, 3])), "class 0 has nan"),
        (
            lambda: metrics.groups(COUNTS, "halves"),
            "groups is 'halves'; choose one of field, reference",
        ),
        (
            lambda: metrics.groups(COUNTS, "reference"),
            "100 classes, but there are 4; use groups = field",
        ),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(Error, match=message):
        call()


def test_the_ends_of_a_set_are_its_outermost_filled_groups_or_halves():
    ends = lambda *a, **k: {g: c.tolist() for g, c in metrics.ends(*a, **k).items()}  # noqa: E731
    assert ends(np.array([5, 200, 50, 300, 10])) == {"many": [1, 3], "few": [0, 4]}
    assert ends(np.array([200, 50, 30])) == {"many": [0], "medium": [1, 2]}
    assert ends(np.array([3, 9, 5, 7])) == {"larger": [1, 3], "smaller": [0, 2]}
    assert ends([3, 9, 5]) == {"larger": [1], "smaller": [0, 2]}  # as result.json has them
    assert ends(np.array([5, 200, 50, 300]), labels=np.array([1, 2, 2, 3])) == {
        "many": [1, 3],
        "medium": [2],
    }  # class 0 untested
    assert ends(np.full(100, 7), "reference") == {
        "many": list(range(36)),
        "few": list(range(71, 100)),
    }
    with pytest.raises(Error, match="at least two classes; this set has 1"):
        metrics.ends(np.array([4, 5]), labels=np.array([1, 1]))
