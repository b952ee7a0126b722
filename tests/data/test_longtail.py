import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2t import Error
from h2t.data import longtail

PUBLISHED = [
    (100, 500, {200: 9502, 100: 10847, 50: 12608, 10: 19573}),
    (10, 5000, {200: 11203, 100: 12406, 50: 13996, 10: 20431}),
]


@pytest.mark.parametrize(("classes", "n_max", "totals"), PUBLISHED)
def test_published_totals(classes, n_max, totals):
    for factor, total in totals.items():
        counts = longtail.class_counts(n_max, factor, classes)
        assert counts.sum() == total and counts[0] == n_max and counts[-1] == n_max // factor


@given(st.integers(2, 60), st.integers(1, 400), st.integers(1, 50))
def test_profiles_fall_from_n_max_to_n_max_over_the_factor(classes, n_min, factor):
    for profile in ("exponential", "step"):
        counts = longtail.class_counts(n_min * factor, factor, classes, profile)
        assert counts[0] == n_min * factor and counts[-1] == n_min
        assert (np.diff(counts) <= 0).all()
    assert set(longtail.class_counts(n_min * factor, factor, classes, "step")) <= {
        n_min,
        n_min * factor,
    }


@given(
    st.lists(st.integers(1, 300), min_size=2, max_size=12),
    st.one_of(st.floats(1, 20), st.integers(1, 20)),
    st.sampled_from(["exponential", "step"]),
)
def test_the_largest_n_max_fits_and_one_more_does_not(available, factor, profile):
    have = np.array(available)
    n = longtail.largest_n_max(have, factor, profile)

    def fits(n):
        try:
            return (longtail.class_counts(n, factor, len(have), profile) <= have).all()
        except Error:  # a class ends empty, which asks for no more than there is
            return None

    assert fits(n) is not False
    assert n == have.max() or fits(n + 1) is not True


def test_n_max_0_never_asks_for_more_than_there_is_where_one_over_the_factor_is_rounded():
    for profile in ("exponential", "step"):
        have = longtail.class_counts(300, 3, 2, profile) - [
            0,
            1,
        ]  # 300 / 3 is 100, and 99 are there
        assert (
            longtail.class_counts(longtail.largest_n_max(have, 3, profile), 3, 2, profile) <= have
        ).all()


def slow_draw(labels, counts, seed):
    generator, out = np.random.RandomState(seed), []
    for c in range(len(counts)):
        mine = np.array([i for i in range(len(labels)) if labels[i] == c])
        generator.shuffle(mine)
        out += list(mine[: counts[c]])
    return out


@given(st.integers(0, 2**31), st.integers(0, 1000))
def test_the_draw_is_the_fields_and_touches_no_global_generator(seed, data_seed):
    labels = np.random.default_rng(data_seed).integers(0, 4, 80)
    labels[:4] = range(4)
    counts = np.maximum(np.bincount(labels) // [1, 2, 4, 8], 1)
    state = np.random.get_state()[1].copy()
    drawn = longtail.draw(labels, counts, seed)
    assert drawn.tolist() == slow_draw(labels, counts, seed)
    assert (np.random.get_state()[1] == state).all()
    smaller = longtail.draw(labels, np.maximum(counts // 2, 1), seed)
    assert set(smaller) <= set(drawn)  # subsets of smaller counts are contained in larger ones


def make(labels, **how):
    return longtail.build(
        labels, classes=tuple("abcdefgh"[: labels.max() + 1]), source="npz", **how
    )


LABELS = np.repeat(np.arange(4), 50)[np.random.default_rng(0).permutation(200)]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"imbalance_factor": 100.0},
            "100.0 with n_max 50 leaves class 3 without an image; lower it to at most 50",
        ),
        (
            {"imbalance_factor": 2.0, "n_max": 500},
            "class 'a' has 50 images, but 500 are asked for; lower n_max, or set it to 0",
        ),
        ({"imbalance_factor": 1e12}, "with n_max 50 leaves class 1 without an image"),
    ],
)
def test_impossible_tails_are_refused(how, message):
    with pytest.raises(Error, match=message):
        make(LABELS, **how)


def test_a_class_with_too_few_images_is_named():
    labels = np.repeat(np.arange(3), [20, 3, 20])
    with pytest.raises(Error, match="class 'b' has 3 images, but 14 are asked for"):
        make(labels, imbalance_factor=2.0, n_max=20)
    assert make(labels, imbalance_factor=2.0).counts[1] == 3  # n_max 0 takes what fits
    with pytest.raises(Error, match="class 'b' has no training image"):
        make(np.array([0, 0, 2, 2]))


def test_natural_keeps_every_image():
    m = make(LABELS, profile="natural")
    assert np.array_equal(m.indices, np.arange(200))


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 0, 1], "twice"),
        ([0, 999], "index 999 is outside the 200"),
        ([-1, 3], "index -1"),
        ([0.5], "whole numbers"),
        ([0], "without an image"),
    ],
)
def test_foreign_indices_that_do_not_fit_are_refused(indices, message):
    with pytest.raises(Error, match=message):
        longtail.from_indices(LABELS, np.array(indices), classes=tuple("abcd"), source="npz")


def test_the_shared_subset_is_what_seed_0_gives(shared):
    from h2t import load

    data = load("npz", str(shared / "data" / "cifar100.npz"))
    m = longtail.build(
        data.train.labels,
        classes=data.train.classes,
        source="npz",
        imbalance_factor=100.0,
        n_max=500,
    )
    assert np.array_equal(m.indices, np.load(shared / "checkpoints" / "cifar100_if100_indices.npy"))
