import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert got["top1"] == pytest.approx(100 * sum(hits) / 80) and got["top5"] == pytest.approx(100 * top5 / 80)
    each = [100 * h / s if s else None for h, s in zip(hits, seen, strict=True)]
    for group, inside in (("many", lambda n: n > 100), ("medium", lambda n: 20 <= n <= 100), ("few", lambda n: n < 20)):
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
            total += len(inside) * abs(np.mean([a for _, a in inside]) - np.mean([q for q, _ in inside]))
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
    assert got["medium"] is None and got["few"] is None and got["many"] == 100 and got["top5"] is None
    assert np.isnan(metrics.per_class(logits, labels)[2])


def test_extreme_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0], [-1e30, 1e30, 0]])
    assert metrics.softmax(logits).sum(1) == pytest.approx([1, 1]) and metrics.ece(logits, np.array([0, 1])) == pytest.approx(0)


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


def test_the_table_has_a_row_per_method():
    logits, labels, counts = make(0)
    table = metrics.group_table({"a": (logits, labels), "b": (-logits, labels)}, counts)
    assert list(table.index) == ["a", "b"] and table.loc["a", "all"] == pytest.approx(metrics.summary(logits, labels, counts)["top1"])
