import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from h2t import Error, metrics


def make(seed, n=80, c=7):
    r = np.random.default_rng(seed)
    return r.normal(size=(n, c)) * 3, r.integers(0, c, n), r.integers(1, 200, c)


def slow_softmax(row):
    exps = [np.exp(np.longdouble(v - max(row))) for v in row]
    return [float(e / sum(exps)) for e in exps]


@given(st.integers(0, 10_000))
def test_accuracies_equal_a_count_by_hand(seed):
    logits, labels, counts = make(seed)
    got = metrics.summary(logits, labels, counts)
    hits, seen, top5 = [0] * 7, [0] * 7, 0
    for row, y in zip(logits, labels, strict=True):
        order = sorted(range(7), key=lambda k: -row[k])
        seen[y] += 1
        hits[y] += order[0] == y
        top5 += y in order[:5]
    assert got["all"] == pytest.approx(100 * sum(hits) / 80) and got["top5"] == pytest.approx(
        100 * top5 / 80
    )
    each = [100 * h / s if s else None for h, s in zip(hits, seen, strict=True)]
    for group, inside in (
        ("many", lambda n: n > 100),
        ("medium", lambda n: 20 <= n <= 100),
        ("few", lambda n: n < 20),
    ):
        mine = [each[k] for k in range(7) if inside(counts[k]) and each[k] is not None]
        assert got[group] == (pytest.approx(np.mean(mine)) if mine else None)
    assert got["balanced"] == pytest.approx(np.mean([e for e in each if e is not None]))


@given(st.integers(0, 10_000))
def test_ece_equals_a_loop_over_images_and_bins(seed):
    logits, labels, _ = make(seed)
    total = 0.0
    for b in range(15):
        inside = []
        for row, y in zip(logits, labels, strict=True):
            p = slow_softmax(row)
            if b / 15 < max(p) <= (b + 1) / 15:
                inside.append((max(p), float(np.argmax(row) == y)))
        if inside:
            total += len(inside) * abs(
                np.mean([a for _, a in inside]) - np.mean([q for q, _ in inside])
            )
    assert metrics.ece(logits, labels) == pytest.approx(100 * total / len(labels), abs=1e-6)


@given(st.integers(0, 1000))
def test_confusion_counts_every_pair(seed):
    logits, labels, _ = make(seed)
    want = np.zeros((7, 7), int)
    for row, y in zip(logits, labels, strict=True):
        want[y, row.argmax()] += 1
    assert np.array_equal(metrics.confusion(logits, labels), want)


@pytest.mark.parametrize(
    ("factor", "sizes"), [(100, (35, 35, 30)), (200, (30, 31, 39)), (50, (41, 41, 18))]
)
def test_group_sizes_of_cifar_100_lt(factor, sizes):
    counts = [int(500 * (1 / factor) ** (i / 99)) for i in range(100)]
    got = metrics.groups(np.array(counts))
    assert tuple(len(got[g]) for g in ("many", "medium", "few")) == sizes


def test_the_references_groups_are_fixed_ranges_of_100_classes():
    got = metrics.groups(np.ones(100, int), "reference")
    assert [(g[0], g[-1]) for g in got.values()] == [(0, 35), (36, 70), (71, 99)]
    with pytest.raises(Error, match="ranges of 100 classes, but there are 10"):
        metrics.groups(np.ones(10, int), "reference")
    with pytest.raises(Error, match="groups is 'thirds'"):
        metrics.groups(np.ones(10, int), "thirds")


def test_group_limits_are_100_and_20():
    got = metrics.groups(np.array([101, 100, 20, 19]))
    assert [list(v) for v in got.values()] == [[0], [1, 2], [3]]


def test_empty_groups_and_untested_classes_are_none_and_nan():
    logits, labels = np.eye(3)[[0, 1]], np.array([0, 1])
    got = metrics.summary(logits, labels, np.array([500, 500, 5]))
    assert (
        got["medium"] is None and got["few"] is None and got["many"] == 100 and got["top5"] is None
    )
    assert np.isnan(metrics.per_class(logits, labels)[2])


def test_extreme_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0], [-1e30, 1e30, 0]])
    assert metrics.softmax(logits).sum(1) == pytest.approx([1, 1]) and metrics.ece(
        logits, np.array([0, 1])
    ) == pytest.approx(0)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), r"logits must be \(N, C\)"),
        (np.zeros((2, 2)), np.array([0, 2]), "labels must lie in 0 to 1"),
        (np.array([[0, 1], [np.nan, 0]]), np.zeros(2, int), "test image 1 are not finite"),
        (np.zeros((0, 2)), np.zeros(0, int), "N > 0"),
    ],
)
def test_bad_input_is_refused(logits, labels, message):
    with pytest.raises(Error, match=message):
        metrics.summary(logits, labels, np.ones(2, int))


@st.composite
def outputs(draw, dtype=None, smallest=1):
    """Logits and labels; whole-numbered logits, so that ties are common."""
    n, c = draw(st.integers(1, 25)), draw(st.integers(smallest, 9))
    kind = dtype or draw(st.sampled_from([np.float16, np.float32, np.float64]))
    logits = draw(hnp.arrays(np.int64, (n, c), elements=st.integers(-6, 6))).astype(kind)
    labels = draw(
        hnp.arrays(
            draw(st.sampled_from([np.uint8, np.int32, np.int64])), n, elements=st.integers(0, c - 1)
        )
    )
    return logits, labels


def prediction(row) -> int:
    """The class with the largest logit, the first of equals."""
    best = 0
    for c, value in enumerate(row):
        if value > row[best]:
            best = c
    return best


def ranking(row) -> list[int]:
    return sorted(range(len(row)), key=lambda c: (-float(row[c]), c))


@given(outputs())
def test_per_class_and_confusion_are_what_a_loop_counts(out):
    logits, labels = out
    c = logits.shape[1]
    table = [[0] * c for _ in range(c)]
    for row, label in zip(logits, labels, strict=True):
        table[int(label)][prediction(row)] += 1
    confusion = metrics.confusion(logits, labels)
    assert confusion.tolist() == table and confusion.dtype == np.int64
    for k, accuracy in enumerate(metrics.per_class(logits, labels)):
        if sum(table[k]) == 0:
            assert math.isnan(accuracy)
        else:
            assert accuracy == pytest.approx(100 * table[k][k] / sum(table[k]))


def test_confusion_is_scikit_learns_also_for_labels_of_one_byte():
    from sklearn.metrics import confusion_matrix

    generator = np.random.default_rng(0)
    logits, labels = (
        generator.normal(size=(500, 100)).astype(np.float32),
        generator.integers(0, 100, 500),
    )
    expected = confusion_matrix(labels, logits.argmax(1), labels=range(100))
    assert (metrics.confusion(logits, labels) == expected).all()
    assert (metrics.confusion(logits, labels.astype(np.uint8)) == expected).all()


@given(outputs(), st.data())
def test_summary_is_what_a_loop_counts(out, data):
    logits, labels = out
    n, c = logits.shape
    counts = data.draw(
        hnp.arrays(np.int64, c, elements=st.sampled_from([0, 1, 19, 20, 21, 99, 100, 101, 500]))
    )
    found = metrics.summary(logits, labels, counts)
    assert set(found) == {"all", "top5", "balanced", "many", "medium", "few", "ece"}
    top1 = sum(ranking(row)[0] == y for row, y in zip(logits, labels, strict=True))
    top5 = sum(int(y) in ranking(row)[:5] for row, y in zip(logits, labels, strict=True))
    assert found["all"] == pytest.approx(100 * top1 / n)
    assert found["top5"] is None if c < 6 else found["top5"] == pytest.approx(100 * top5 / n)
    by_class = {}
    for k in range(c):
        rows = [row for row, y in zip(logits, labels, strict=True) if y == k]
        if rows:
            by_class[k] = 100 * sum(prediction(row) == k for row in rows) / len(rows)
    assert found["balanced"] == pytest.approx(sum(by_class.values()) / len(by_class))
    borders = {"many": (101, math.inf), "medium": (20, 100), "few": (0, 19)}
    for group, (low, high) in borders.items():
        inside = [a for k, a in by_class.items() if low <= counts[k] <= high]
        if inside:
            assert found[group] == pytest.approx(sum(inside) / len(inside))
        else:
            assert found[group] is None


def test_group_accuracy_is_the_share_of_images_only_where_the_test_set_is_balanced():
    logits = np.eye(3)[[0, 0, 0, 1, 1, 1, 1, 0]]  # class 0: 3 of 3 right; class 1: 4 of 5
    found = metrics.summary(logits, np.array([0, 0, 0, 1, 1, 1, 1, 1]), np.array([500, 300, 5]))
    assert found["many"] == pytest.approx((100 + 80) / 2)
    assert found["all"] == pytest.approx(100 * 7 / 8)
    assert found["few"] is None and found["medium"] is None  # class 2 has no test images


@pytest.mark.parametrize("classes, expected", [(5, None), (6, 5 / 6 * 100)])
def test_top5_needs_six_classes(classes, expected):
    logits = np.tile(np.arange(classes, 0, -1.0), (classes, 1))
    found = metrics.summary(logits, np.arange(classes), np.full(classes, 5))["top5"]
    assert found is None if expected is None else found == pytest.approx(expected)


def test_top5_of_equal_logits_takes_the_lower_classes():
    labels = np.arange(8)
    assert metrics.summary(np.zeros((8, 8)), labels, np.full(8, 5))["top5"] == pytest.approx(
        100 * 5 / 8
    )


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.floats(-1e300, 1e300),
    )
)
def test_softmax_is_finite_and_sums_to_one(logits):
    p = metrics.softmax(logits)
    assert np.isfinite(p).all() and np.allclose(p.sum(1), 1) and p.dtype == np.float64


def test_softmax_of_half_precision_is_computed_in_double():
    z = np.array([[6.0e4, 6.0e4, -6.0e4]], np.float16)  # their differences overflow float16
    assert metrics.softmax(z) == pytest.approx(np.array([[0.5, 0.5, 0.0]]))


@given(outputs(dtype=np.float64, smallest=2))
def test_shifting_all_logits_of_an_image_changes_nothing(out):
    logits, labels = out
    counts = np.full(logits.shape[1], 30)
    shifted = metrics.summary(logits + np.arange(len(logits))[:, None], labels, counts)
    assert shifted == pytest.approx(metrics.summary(logits, labels, counts))


@settings(max_examples=20)
@given(outputs(), st.integers(1, 4))
def test_a_result_does_not_depend_on_how_many_rows_are_looked_at_together(out, rows):
    logits, labels = out
    counts = np.full(logits.shape[1], 30)
    whole, block = metrics.summary(logits, labels, counts), metrics.BLOCK
    try:
        metrics.BLOCK = rows * logits.shape[1]  # often with a shorter block at the end
        assert metrics.summary(logits, labels, counts) == whole
    finally:
        metrics.BLOCK = block


@given(hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 300)))
def test_the_fields_groups_partition_the_classes(counts):
    groups = metrics.groups(counts)
    assert list(groups) == ["many", "medium", "few"]
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(len(counts)))
    for k in range(len(counts)):
        expected = "many" if counts[k] > 100 else "few" if counts[k] < 20 else "medium"
        assert k in groups[expected]


@pytest.mark.parametrize(
    "factor, sizes", [(200, (30, 31, 39)), (100, (35, 35, 30)), (50, (41, 41, 18))]
)
def test_the_published_group_sizes_of_cifar100(factor, sizes):
    counts = np.array([int(500 * (1 / factor) ** (c / 99)) for c in range(100)])
    assert tuple(len(g) for g in metrics.groups(counts).values()) == sizes


def test_the_references_groups_are_fixed_ranges():
    groups = metrics.groups(np.ones(100), "reference")
    assert {g: (c[0], c[-1], len(c)) for g, c in groups.items()} == {
        "many": (0, 35, 36),
        "medium": (36, 70, 35),
        "few": (71, 99, 29),
    }
