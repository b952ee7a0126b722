import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2t import Error
from h2t.data import longtail
from h2t.data.lists import Paths
from h2t.base.files import write_atomic

PUBLISHED = [(100, 500, {200: 9502, 100: 10847, 50: 12608, 10: 19573}), (10, 5000, {200: 11203, 100: 12406, 50: 13996, 10: 20431})]


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
    assert set(longtail.class_counts(n_min * factor, factor, classes, "step")) <= {n_min, n_min * factor}


@given(st.lists(st.integers(1, 300), min_size=2, max_size=12), st.one_of(st.floats(1, 20), st.integers(1, 20)), st.sampled_from(["exponential", "step"]))
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
        have = longtail.class_counts(300, 3, 2, profile) - [0, 1]  # 300 / 3 is 100, and 99 are there
        assert (longtail.class_counts(longtail.largest_n_max(have, 3, profile), 3, 2, profile) <= have).all()


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
    return longtail.build(labels, classes=tuple("abcdefgh"[: labels.max() + 1]), source="npz", **how)


LABELS = np.repeat(np.arange(4), 50)[np.random.default_rng(0).permutation(200)]


def test_a_manifest_comes_back_as_it_was(tmp_path):
    m = make(LABELS, imbalance_factor=5.0, split_seed=3)
    assert m.counts == (50, 29, 17, 10) and m.n_max == 50 and (LABELS[m.indices] == m.labels).all()
    m.save(tmp_path)
    back = longtail.Manifest.load(tmp_path)
    assert back.hash == m.hash and np.array_equal(back.indices, m.indices) and back.counts == m.counts and back.split_seed == 3
    record = json.loads((tmp_path / "split.json").read_text())
    assert record["hash"] == m.hash and record["counts"] == [50, 29, 17, 10]
    assert make(LABELS, imbalance_factor=5.0, split_seed=4).hash != m.hash


def test_a_manifest_that_was_tampered_with_is_refused(tmp_path):
    make(LABELS, imbalance_factor=5.0).save(tmp_path)
    indices = np.load(tmp_path / "indices.npy")
    np.save(tmp_path / "indices.npy", indices[::-1])
    with pytest.raises(Error, match="does not fit the hash"):
        longtail.Manifest.load(tmp_path)
    (tmp_path / "indices.npy").write_bytes(b"junk")
    with pytest.raises(Error, match="is damaged"):
        longtail.Manifest.load(tmp_path)
    (tmp_path / "indices.npy").write_bytes(b"")
    with pytest.raises(Error, match="is damaged"):
        longtail.Manifest.load(tmp_path)
    (tmp_path / "indices.npy").unlink()
    with pytest.raises(Error, match="indices.npy does not exist"):
        longtail.Manifest.load(tmp_path)


def test_counts_that_were_tampered_with_are_refused(tmp_path):
    make(LABELS, imbalance_factor=5.0).save(tmp_path)
    record = json.loads((tmp_path / "split.json").read_text())
    record["counts"][0] = 49
    (tmp_path / "split.json").write_text(json.dumps(record))
    with pytest.raises(Error, match="is damaged .its counts are not those of its labels"):
        longtail.Manifest.load(tmp_path)


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["content", "fsync"])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch, where):
    write_atomic(tmp_path / "x", b"before")
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(Error, match="cannot write .*x: No space left on device"):
        write_atomic(tmp_path / "x", no_space if where == "content" else b"after")
    assert (tmp_path / "x").read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_while_a_manifest_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(Error, match="cannot write .*indices.npy: No space left on device"):
        make(LABELS, imbalance_factor=5.0).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_exported_paths_keep_foreign_bytes_and_refuse_line_breaks(tmp_path):
    m = longtail.build(np.array([0, 1]), classes=("a", "b"), source="folder", profile="natural")
    paths = Paths.of(["a\udcff.png", "b.png"])
    longtail.export_list(m, tmp_path / "l.txt", paths)
    assert (tmp_path / "l.txt").read_bytes() == b"a\xff.png 0\nb.png 1\n"
    assert longtail.import_list(tmp_path / "l.txt", m.labels, paths).tolist() == [0, 1]
    with pytest.raises(Error, match="holds a line break"):
        longtail.export_list(m, tmp_path / "l.txt", ["a\nb.png", "b.png"])


@pytest.mark.parametrize("named", [False, True])
def test_a_list_file_goes_out_and_comes_back(tmp_path, named):
    m = make(LABELS, imbalance_factor=5.0)
    paths = Paths.of([f"dir {i % 7}/é {i}.jpg" for i in range(len(LABELS))]) if named else None
    longtail.export_list(m, tmp_path / "train.txt", paths[m.indices] if named else None)
    lines = (tmp_path / "train.txt").read_text().splitlines()
    assert len(lines) == len(m.indices) and lines[0].rsplit(" ", 1)[1] == str(m.labels[0])
    assert np.array_equal(longtail.import_list(tmp_path / "train.txt", LABELS, paths), m.indices)
    other = np.roll(LABELS, 1)
    with pytest.raises(Error, match=r"train.txt, line \d+: .* (is not in the source|has label \d there)"):
        longtail.import_list(tmp_path / "train.txt", other, paths)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"imbalance_factor": 0.5}, "imbalance_factor is 0.5; .* at least 1"),
        ({"imbalance_factor": 100.0}, "imbalance_factor 100.0 with n_max 50 leaves class 3 without an image; lower the factor to at most 50"),
        ({"imbalance_factor": 2.0, "n_max": 500}, "n_max is 500, but the largest class has 50 images"),
        ({"imbalance_factor": float("nan")}, "imbalance_factor is nan"),
        ({"imbalance_factor": float("inf")}, "imbalance_factor is inf"),
        ({"imbalance_factor": 1e12}, "with n_max 50 leaves class 1 without an image"),
        ({"imbalance_factor": 2.0, "n_max": -1}, "n_max is -1; .* at least 1"),
        ({"imbalance_factor": 2.0, "split_seed": -1}, "split_seed is -1"),
        ({"imbalance_factor": 2.0, "split_seed": 2**40}, "split_seed is 1099511627776"),
        ({"profile": "linear"}, "profile is 'linear'; choose one of exponential, step, natural"),
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


def test_a_label_without_a_count_is_refused():
    with pytest.raises(Error, match="label 5 is outside the 2 classes"):
        longtail.draw(np.arange(6), np.array([1, 1]), 0)


def test_natural_keeps_every_image():
    m = make(LABELS, profile="natural")
    assert np.array_equal(m.indices, np.arange(200))


@pytest.mark.parametrize(
    ("indices", "message"),
    [([0, 0, 1], "twice"), ([0, 999], "index 999 is outside the 200"), ([-1, 3], "index -1"), ([0.5], "whole numbers"), ([0], "without an image")],
)
def test_foreign_indices_that_do_not_fit_are_refused(indices, message):
    with pytest.raises(Error, match=message):
        longtail.from_indices(LABELS, np.array(indices), classes=tuple("abcd"), source="npz")


def test_index_files_are_opened_without_pickle(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(Error, match="x.npy is not a readable"):
        longtail.read_indices(tmp_path / "x.npy")
    with pytest.raises(Error, match="none.npy does not exist"):
        longtail.read_indices(tmp_path / "none.npy")


def test_the_shared_subset_is_what_seed_0_gives(shared):
    from h2t import load

    data = load("npz", str(shared / "data" / "cifar100.npz"))
    m = longtail.build(data.train.labels, classes=data.train.classes, source="npz", imbalance_factor=100.0, n_max=500)
    assert np.array_equal(m.indices, np.load(shared / "checkpoints" / "cifar100_if100_indices.npy"))
