"""Files in the MedMNIST layout."""

import numpy as np
import pytest

from h2t import Error, load
from tests import images
from tests.images import R

cache = images.cache  # a fixture


def save_npz(path, change=None, grey=False, **more):
    shape = (12, 9, 9) if grey else (12, 9, 9, 3)
    arrays = {f"{p}_images": R.integers(0, 256, shape, dtype=np.uint8) for p in ("train", "test")}
    arrays |= {f"{p}_labels": (np.arange(12) % 3).reshape(-1, 1) for p in ("train", "test")}
    arrays |= more
    if change:
        change(arrays)
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize("grey", [True, False])
def test_npz_in_the_medmnist_layout(tmp_path, grey):
    arrays = save_npz(tmp_path / "x.npz", grey=grey, class_names=np.array(["a", "b", "c"]))
    data = load("npz", str(tmp_path / "x.npz"))
    assert data.train.images.shape == (12, 9, 9, 1 if grey else 3) and data.train.classes == (
        "a",
        "b",
        "c",
    )
    assert np.array_equal(
        data.test.images.reshape(arrays["test_images"].shape), arrays["test_images"]
    )
    assert data.test.labels.tolist() == arrays["test_labels"][:, 0].tolist() and data.val is None
    resized = load("npz", str(tmp_path / "x.npz"), image_size=16, channels=3)
    assert resized.train.images.shape == (12, 16, 16, 3)
    assert load("npz", str(tmp_path / "x.npz"), channels=1).train.images.shape == (12, 9, 9, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_from_0_to_1_are_read(tmp_path, dtype):
    x = R.integers(0, 256, (12, 9, 9, 3), dtype=np.uint8)
    save_npz(tmp_path / "x.npz", train_images=x / np.array(255, dtype))
    assert np.array_equal(load("npz", tmp_path / "x.npz").train.images, x)


def test_npz_without_a_test_part_is_split(tmp_path):
    save_npz(tmp_path / "x.npz", lambda a: (a.pop("test_images"), a.pop("test_labels")))
    data = load("npz", str(tmp_path / "x.npz"), test_fraction=0.25)
    assert data.test.counts.tolist() == [1, 1, 1] and data.train.counts.tolist() == [3, 3, 3]


def put(name, value):
    return lambda a: a.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("train_labels"), "lacks the array 'train_labels'"),
        (lambda a: a.pop("test_labels"), "lacks the array 'test_labels'"),
        (put("train_labels", np.arange(5)), "train_labels is 5 labels of 12 images"),
        (
            put("train_images", np.full((12, 9, 9, 3), 7.0)),
            "must be uint8, or floats from 0 to 1, and is 7.0 to 7.0",
        ),
        (put("train_images", np.zeros((12, 9, 9, 4), np.uint8)), "train_images is uint8 of shape"),
        (put("train_labels", np.full(12, 0.5)), "train_labels is float64"),
        (put("train_labels", np.full((12, 2), 1)), "train_labels is int64 of shape"),
        (put("train_labels", np.arange(12) - 1), "train_labels is from -1 to 10; they must"),
        (put("test_labels", np.full(12, 7)), "a label 7, outside its 3 classes"),
        (
            put("train_labels", np.array([{}] * 12, dtype=object)),
            "'train_labels' cannot be read: Object arrays .*; save it with numpy.savez_compressed",
        ),
        (put("class_names", np.array(["a", "b"])), "a label 2, outside its 2 classes"),
        (put("class_names", np.array("a")), r"class_names has shape \(\)"),
        (put("class_names", np.array(["a", "b", "c", "d"])), "class 3 has no training image"),
        (put("train_labels", np.arange(12) % 3 * 2), "class 1 has no training image"),
        (put("train_labels", np.array([0, 1, 2, *[10**7] * 9])), "class 3 has no training image"),
        (put("train_images", np.zeros((12, 0, 0), np.uint8)), "train_images is empty"),
        (put("train_images", np.full((12, 9, 9), np.nan)), "floats from 0 to 1, and is nan to nan"),
        (put("train_images", np.zeros((12, 9, 9), np.int16)), "it must be uint8, or floats"),
        (put("train_images", np.full((12, 9, 9), "abc")), "train_images is <U3 .* floats from 0"),
        (put("train_images", np.zeros((12, 3, 9, 9), np.uint8)), "save images.transpose"),
        (put("train_images", np.zeros((12, 9, 9, 9), np.uint8)), "of volumes save a slice"),
        (put("train_labels", np.ones((12, 14), int)), "of several labels an image, save the"),
        (put("train_labels", np.full(12, 2**63, np.uint64)), "to 9223372036854775808; they"),
    ],
)
def test_a_bad_npz_is_refused(tmp_path, change, message):
    save_npz(tmp_path / "x.npz", change)
    with pytest.raises(Error, match=message):
        load("npz", str(tmp_path / "x.npz"))


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    save_npz(tmp_path / "x.npz")
    whole = (tmp_path / "x.npz").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:300] + whole[400:]):
        (tmp_path / "y.npz").write_bytes(content)
        with pytest.raises(Error, match="y.npz") as e:
            load("npz", str(tmp_path / "y.npz"))
        assert "pickle" not in str(e.value)
    with pytest.raises(Error, match="none.npz does not exist"):
        load("npz", str(tmp_path / "none.npz"))
    name = whole.rindex(b"test_labels.npy")  # in the directory, at the end
    utf8 = whole.rindex(b"PK\1\2", 0, name) + 8
    flags = (int.from_bytes(whole[utf8 : utf8 + 2], "little") | 0x800).to_bytes(2, "little")
    broken = whole[:utf8] + flags + whole[utf8 + 2 : name] + b"\xff" + whole[name + 1 :]
    (tmp_path / "y.npz").write_bytes(broken)
    with pytest.raises(Error, match="y.npz is damaged .*; save it with"):
        load("npz", str(tmp_path / "y.npz"))
    np.save(tmp_path / "z.npy", np.zeros(3))
    with pytest.raises(Error, match="z.npy is damaged .it is no npz file.; save it"):
        load("npz", str(tmp_path / "z.npy"))


def test_a_compressed_npz_with_changed_bytes_is_refused(tmp_path):
    np.savez_compressed(
        tmp_path / "x.npz",
        train_images=R.integers(0, 9, (60, 9, 9)).astype(np.uint8),
        train_labels=np.arange(60) % 3,
    )
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[200:260] = bytes(b ^ 0xFF for b in content[200:260])
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(Error, match="x.npz"):
        load("npz", tmp_path / "x.npz")


def test_npz_class_names_may_be_bytes(tmp_path):
    save_npz(tmp_path / "x.npz", class_names=np.array([b"a", b"b", b"c"]))
    assert load("npz", tmp_path / "x.npz").train.classes == ("a", "b", "c")


def test_wild_files_end_in_one_sentence_each(shared):
    """Encrypted, packed by LZMA, huge or nested headers, wild indices of a packed tail."""
    files = sorted((shared / "cases" / "npz").glob("*.npz"))
    assert len(files) == 11
    for file in files:
        with pytest.raises(Error, match=file.name) as e:
            load("npz", file)
        assert "\n" not in str(e.value) and len(str(e.value)) < 500
