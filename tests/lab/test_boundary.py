import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error
from h2t.lab.explorer.boundary import pair, pair_table, plane
from h2t.lab.explorer.embedding import STEP, fit_map


def make(seed, d=9, c=5, n=60):
    r = np.random.default_rng(seed)
    return (
        (r.normal(size=(c, d)), r.normal(size=c)),
        (r.normal(size=(c, d)), r.normal(size=c)),
        r.normal(size=(n, d)),
        r.integers(0, c, n),
    )


def tail_side(points, line):
    a, b = line
    return points @ a + b > 0


def decision(classifier, z, head, tail, scale):
    """What the classifier itself says, one point at a time: is the tail's logit the larger?"""
    w, b = classifier
    out = []
    for point in z:
        if scale is None:
            out.append(point @ w[tail] + b[tail] > point @ w[head] + b[head])
        else:
            cosines = w @ point / np.linalg.norm(point) / np.linalg.norm(w, axis=1)
            out.append(scale * cosines[tail] > scale * cosines[head])
    return np.array(out)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([None, 30.0]))
def test_every_point_is_drawn_on_the_side_on_which_the_classifier_puts_it(seed, scale):
    before, after, z, _ = make(seed)
    drawn = plane(before, after, 1, 3, scale)
    x = drawn.project(z)
    assert np.array_equal(tail_side(x, drawn.before), decision(before, z, 1, 3, scale))
    assert np.array_equal(tail_side(x, drawn.after), decision(after, z, 1, 3, scale))


@given(st.integers(0, 10_000))
def test_the_plane_is_orthonormal_and_keeps_distances_to_the_boundary(seed):
    before, after, z, _ = make(seed)
    drawn = plane(before, after, 0, 2)
    assert np.allclose(drawn.basis @ drawn.basis.T, np.eye(2), atol=1e-9)
    for classifier, (a, b) in ((before, drawn.before), (after, drawn.after)):
        d, bias = pair(classifier, 0, 2)
        assert np.allclose(
            (drawn.project(z) @ a + b) / np.linalg.norm(a), (z @ d + bias) / np.linalg.norm(d)
        )


def test_a_classifier_that_did_not_move_still_has_a_plane():
    before, _, z, _ = make(0)
    drawn = plane(before, before, 0, 1)
    assert np.allclose(drawn.basis @ drawn.basis.T, np.eye(2))
    assert np.array_equal(
        tail_side(drawn.project(z), drawn.before), tail_side(drawn.project(z), drawn.after)
    )


def test_the_pair_table_measures_a_known_shift():
    """Classes at 0 and 1 on a line, the boundary moved from 0.75 to 0.5: a quarter of the way."""
    z = np.array([[-0.1], [0.1], [0.6], [1.4]])
    labels = np.array([0, 0, 1, 1])
    before, after = (
        (np.array([[0.0], [1.0]]), np.array([0.0, -0.75])),
        (np.array([[0.0], [1.0]]), np.array([0.0, -0.5])),
    )
    row = pair_table(before, after, z, labels, [0], [1]).iloc[0]
    assert row.moved == pytest.approx(0.25)
    assert (row.tail_before, row.tail_after) == (50, 100)
    assert (row.head_before, row.head_after) == (100, 100)


def test_the_pair_table_has_all_pairs_and_counts_what_the_classifiers_decide():
    before, after, z, labels = make(4)
    table = pair_table(before, after, z, labels, [0, 1], [3, 4])
    assert set(zip(table["head"], table["tail"], strict=True)) == {(0, 3), (0, 4), (1, 3), (1, 4)}
    for row in table.itertuples():
        h, t = int(row.head), int(row.tail)
        assert row.tail_after == pytest.approx(
            100 * decision(after, z[labels == t], h, t, None).mean()
        )
        assert row.head_before == pytest.approx(
            100 * (~decision(before, z[labels == h], h, t, None)).mean()
        )


@pytest.mark.parametrize(
    ("head", "tail", "message"),
    [
        (0, 0, "choose two different"),
        (9, 1, "head class is 9; .* 0 to 4"),
        (1, -1, "tail class is -1"),
    ],
)
def test_bad_pairs_are_refused(head, tail, message):
    before, after, *_ = make(0)
    with pytest.raises(Error, match=message):
        plane(before, after, head, tail)


def two_clouds():
    r = np.random.default_rng(0)
    return np.concatenate([r.normal(size=(40, 6)), r.normal(size=(40, 6)) + 8])


def test_a_map_keeps_clouds_apart_and_is_the_same_each_time():
    z = two_clouds()
    xy = fit_map(z)
    gap = np.linalg.norm(xy[:40].mean(0) - xy[40:].mean(0))
    for cloud in (xy[:40], xy[40:]):
        assert (np.linalg.norm(cloud - cloud.mean(0), axis=1) < gap / 2).all()
    assert np.array_equal(xy, fit_map(z))


def test_a_map_is_shown_as_it_converges_and_can_be_ended():
    seen = []
    fit_map(two_clouds(), on_step=lambda xy: seen.append(xy))
    assert len(seen) >= 350 // STEP and all(xy.shape == (80, 2) for xy in seen)
    ended = []

    def end(xy):
        ended.append(xy)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        fit_map(two_clouds(), on_step=end)
    assert len(ended) == 1


def test_a_map_of_too_few_points_is_refused():
    with pytest.raises(Error, match="at least 10 points"):
        fit_map(two_clouds()[:5])
