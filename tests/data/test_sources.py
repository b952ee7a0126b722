"""Sources of images: digits, CIFAR, folders, and what they all refuse."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from h2t import Error, load
from h2t.data import cache as caching
from h2t.data.longtail import stratified
from tests import images
from tests.images import R, picture, tree

cache = images.cache  # a fixture


def test_digits_are_real_images_split_by_seed():
    a, b, c = load("digits"), load("digits"), load("digits", split_seed=1)
    assert (
        len(a.train) + len(a.test) == 1797
        and a.train.images.shape[1:] == (8, 8, 1)
        and a.train.images.max() == 255
    )
    assert np.array_equal(a.train.images, b.train.images) and not np.array_equal(
        a.test.labels, c.test.labels
    )
    assert abs(a.test.counts / (a.train.counts + a.test.counts) - 0.2).max() < 0.01


def test_a_stratified_split_keeps_and_holds_out_of_every_class():
    labels = np.repeat([0, 1, 2, 3], [50, 5, 2, 1])
    kept, held = stratified(labels, 4, 0.2, 0)
    assert sorted([*kept, *held]) == list(range(58))
    assert np.bincount(labels[held], minlength=4).tolist() == [10, 1, 1, 0]


def test_a_set_of_single_images_cannot_be_split(tmp_path):
    np.savez(
        tmp_path / "x.npz", train_images=np.zeros((3, 9, 9), np.uint8), train_labels=np.arange(3)
    )
    with pytest.raises(Error, match="no test part, and no class .* has two images"):
        load("npz", tmp_path / "x.npz")


def test_a_folder_of_classes(tmp_path, cache):
    tree(tmp_path / "set", ("train", "val", "test"))
    data = load("folder", str(tmp_path / "set"), progress=False)
    assert data.train.classes == ("cat", "dog") and data.train.labels.tolist() == [0] * 3 + [1] * 3
    assert (
        list(data.train.paths) == [f"{c}/{k}.png" for c in ("cat", "dog") for k in range(3)]
        and len(data.val) == 6
    )
    for path, image in zip(data.train.paths, data.train.images, strict=True):
        assert np.array_equal(image, np.asarray(Image.open(tmp_path / "set" / "train" / path)))
    assert isinstance(data.train.images, np.memmap)
    assert len([p for p in cache.iterdir() if ".small" not in p.name]) == 3


def at_once(number: int, work) -> list:
    with ThreadPoolExecutor(number) as pool:
        return [f.result() for f in [pool.submit(work) for _ in range(number)]]


def test_runs_that_need_cifar_at_once_download_it_once(tmp_path, monkeypatch):
    from torchvision import datasets

    class Slow:  # as torchvision's: while it downloads, its folder is there already
        base_folder, filename, asked = "cifar-10-batches-py", "archive", []

        def __init__(self, root, train, download):
            folder = Path(root) / self.base_folder
            if download:
                self.asked.append(1)
                folder.mkdir()
                time.sleep(0.3)
                (folder / "whole").touch()
            if not (folder / "whole").exists():
                raise RuntimeError("Dataset not found or corrupted.")
            self.data, self.targets, self.classes = (
                np.zeros((10, 32, 32, 3), np.uint8),
                list(range(10)),
                list("0123456789"),
            )

    monkeypatch.setattr(datasets, "CIFAR10", Slow)
    assert [len(d.train) for d in at_once(4, lambda: load("cifar10", str(tmp_path / "new")))] == [
        10
    ] * 4 and len(Slow.asked) == 1


@pytest.mark.parametrize("first", ["RGB", "L"])
def test_a_grey_image_costs_the_others_no_colour(tmp_path, first):
    root = tree(tmp_path / "set", n=2)
    for part in ("train", "test"):
        picture(mode=first).save(root / part / "cat" / "0.png")
        picture(mode={"L": "RGB", "RGB": "L"}[first]).save(root / part / "dog" / "1.png")
    data = load("folder", root, progress=False)
    for path, image in zip(data.train.paths, data.train.images, strict=True):
        assert np.array_equal(
            image, np.asarray(Image.open(root / "train" / path).convert("RGB"))
        ), path


def test_grey_images_stay_grey(tmp_path):
    root = tree(tmp_path / "set", n=2)
    for path in root.rglob("*.png"):
        picture(mode="L").save(path)
    assert load("folder", root, progress=False).train.images.shape[3] == 1


def test_hidden_files_are_no_images(tmp_path):
    root = tree(tmp_path / "set")
    (root / "train" / "cat" / ".ipynb_checkpoints").mkdir()
    picture().save(root / "train" / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    (root / "train" / "cat" / "._0.png").write_bytes(b"resource fork")
    assert list(load("folder", root, progress=False).train.paths)[:3] == [
        "cat/0.png",
        "cat/1.png",
        "cat/2.png",
    ]


def test_parts_without_train_are_not_taken_for_classes(tmp_path):
    with pytest.raises(Error, match="has test/, val/ but no train/"):
        load("folder", tree(tmp_path / "set", ("val", "test")), progress=False)


def test_class_folders_alone_are_split(tmp_path):
    data = load("folder", str(tree(tmp_path / "set", ("",), n=5)), progress=False)
    assert data.train.counts.tolist() == [4, 4] and data.test.counts.tolist() == [1, 1]


def test_images_of_many_kinds_and_sizes(tmp_path):
    root = tree(tmp_path / "set", n=1)
    folder = root / "train" / "cat"
    picture((20, 12), "L").save(folder / "grey.png")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(folder / "deep.png")
    picture((9, 9)).convert("P").save(folder / "palette.gif")
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = np.zeros((8, 16, 3), np.uint8)
    turned[:, :8] = 255
    Image.fromarray(turned).save(folder / "turned.jpg", exif=exif, quality=95)
    data = load("folder", str(root), image_size=16, progress=False)
    images = dict(zip(data.train.paths, data.train.images, strict=True))
    assert data.train.images.shape[1:] == (16, 16, 3)
    assert images["cat/clear.png"].min() == 255  # transparent is white
    assert abs(int(images["cat/deep.png"].mean()) - 156) <= 1
    assert images["cat/turned.jpg"][:6].mean() > 200 > 50 > images["cat/turned.jpg"][10:].mean()
    with pytest.raises(Error, match="is .* pixels, .* is .*; set image_size"):
        load("folder", str(root), progress=False)


def test_what_was_decoded_before_damaged_images_were_named_is_kept(tmp_path, monkeypatch):
    root = tree(tmp_path / "set")
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(Error, match="1 of 6 images"):
        load("folder", root, progress=False)
    looked, real = [], caching.read_image

    def noted(path, **how):
        looked.append(path)
        return real(path, **how)

    monkeypatch.setattr(caching, "read_image", noted)
    data = load("folder", root, skip_damaged=True, progress=False)
    assert len(data.train) == 5 and not [path for path in looked if "train" in path.parts]


def test_damaged_images_are_all_named_or_left_out(tmp_path):
    root = tree(tmp_path / "set")
    for k in (0, 2):
        (root / "train" / "cat" / f"{k}.png").write_bytes(b"no image")
    named = r"2 of 6 images \(train\) cannot be decoded: .*cat/0.png.*; .*cat/2.png.* skip_damaged"
    for _ in range(2):
        with pytest.raises(Error, match=named):
            load("folder", root, progress=False)
        for _ in range(2):  # decoded, then out of the cache
            data = load("folder", root, skip_damaged=True, progress=False)
            assert list(data.train.paths) == ["cat/1.png", *(f"dog/{k}.png" for k in range(3))]
            for path, image in zip(data.train.paths, data.train.images[:], strict=True):
                assert np.array_equal(image, np.asarray(Image.open(root / "train" / path)))
            assert "left out: 2 damaged images" in data.notes and len(data.test) == 6


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(Error, match="none does not exist"):
        load("folder", str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Error, match="holds no class folders"):
        load("folder", str(tmp_path / "empty"))


def test_cifar_that_cannot_be_had_says_where_it_belongs(tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    with pytest.raises(Error, match="cifar100 could not be had in .*cifar-100-python"):
        load("cifar100", str(tmp_path))


def test_cifar_from_a_folder_that_is_there(tmp_path, monkeypatch):
    """A small archive in torchvision's layout, its checksums replaced by those of these files."""
    import hashlib
    import pickle

    from torchvision import datasets

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    names = [f"class {c}" for c in range(100)]
    sums = {}
    for part, n in (("train", 200), ("test", 100)):
        content = pickle.dumps(
            {
                "data": R.integers(0, 256, (n, 3072), dtype=np.uint8),
                "fine_labels": [k % 100 for k in range(n)],
            }
        )
        (folder / part).write_bytes(content)
        sums[part] = hashlib.md5(content).hexdigest()
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    sums["meta"] = hashlib.md5((folder / "meta").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(
        datasets.CIFAR100,
        "meta",
        {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]},
    )
    data = load("cifar100", str(tmp_path))
    assert (
        data.train.images.shape == (200, 32, 32, 3)
        and data.train.classes[7] == "class 7"
        and len(data.test) == 100
    )
    (folder / "train").write_bytes(b"x")
    with pytest.raises(Error, match="could not be had"):
        load("cifar100", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist", "source is 'mnist'; choose one of digits"),
        ("folder", "source 'folder' needs root, the folder or file of its images"),
    ],
)
def test_bad_names_are_refused(name, message):
    with pytest.raises(Error, match=message):
        load(name)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"test_fraction": 1.5}, "test_fraction is 1.5"),
        ({"test_fraction": float("nan")}, "test_fraction is nan"),
        ({"test_fraction": 0}, "test_fraction is 0"),
        ({"split_seed": -1}, "split_seed is -1"),
        ({"split_seed": 2**32}, "split_seed is 4294967296"),
        ({"split_seed": 0.5}, "split_seed is 0.5"),
        ({"image_size": -3}, "image_size is -3"),
        ({"image_size": 8.5}, "image_size is 8.5"),
        ({"channels": 2}, "channels is 2; choose one of 0"),
    ],
)
def test_parameters_out_of_range_are_refused(how, message):
    with pytest.raises(Error, match=message):
        load("digits", **how)


def test_too_small_images_are_refused(tmp_path):
    arrays = {f"{p}_images": np.zeros((4, 5, 5), np.uint8) for p in ("train", "test")} | {
        f"{p}_labels": np.arange(4) % 2 for p in ("train", "test")
    }
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(Error, match="5x5 pixels .*set image_size to at least 8"):
        load("npz", str(tmp_path / "x.npz"))
