import errno
import os

import numpy as np
import pytest
from PIL import Image

from h2t import Error, load
from h2t.data import files
from h2t.data.sources import stratified

R = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("H2T_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(size=(10, 8), mode="RGB", seed=0):
    r = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(r.integers(0, 256, shape, dtype=np.uint8))


def tree(root, parts=("train", "test"), classes=("cat", "dog"), n=3, size=(10, 8)):
    for p, part in enumerate(parts):
        for c, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(n):
                picture(size, seed=100 * p + 10 * c + k).save(folder / f"{k}.png")
    return root


def test_digits_are_real_images_split_by_seed():
    a, b, c = load("digits"), load("digits"), load("digits", split_seed=1)
    assert len(a.train) + len(a.test) == 1797 and a.train.images.shape[1:] == (8, 8, 1) and a.train.images.max() == 255
    assert np.array_equal(a.train.images, b.train.images) and not np.array_equal(a.test.labels, c.test.labels)
    assert abs(a.test.counts / (a.train.counts + a.test.counts) - 0.2).max() < 0.01


def test_a_stratified_split_keeps_and_holds_out_of_every_class():
    labels = np.repeat([0, 1, 2, 3], [50, 5, 2, 1])
    kept, held = stratified(labels, 4, 0.2, 0)
    assert sorted([*kept, *held]) == list(range(58))
    assert np.bincount(labels[held], minlength=4).tolist() == [10, 1, 1, 0]


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
    assert data.train.images.shape == (12, 9, 9, 1 if grey else 3) and data.train.classes == ("a", "b", "c")
    assert np.array_equal(data.test.images.reshape(arrays["test_images"].shape), arrays["test_images"])
    assert data.test.labels.tolist() == arrays["test_labels"][:, 0].tolist() and data.val is None
    resized = load("npz", str(tmp_path / "x.npz"), image_size=16, channels=3)
    assert resized.train.images.shape == (12, 16, 16, 3)
    assert load("npz", str(tmp_path / "x.npz"), channels=1).train.images.shape == (12, 9, 9, 1)


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
        (put("train_labels", np.arange(5)), "train_images has 12 images, train_labels 5 labels"),
        (put("train_images", np.zeros((12, 9, 9, 3))), "train_images is float64"),
        (put("train_images", np.zeros((12, 9, 9, 4), np.uint8)), "train_images is uint8 of shape"),
        (put("train_labels", np.full(12, 0.5)), "train_labels is float64"),
        (put("train_labels", np.full((12, 2), 1)), "train_labels is int64 of shape"),
        (put("train_labels", np.arange(12) - 1), "negative label -1"),
        (put("test_labels", np.full(12, 7)), "a label 7, outside its 3 classes"),
        (put("train_labels", np.array([{}] * 12, dtype=object)), "'train_labels' holds pickled objects"),
        (put("class_names", np.array(["a", "b"])), "a label 2, outside its 2 classes"),
        (put("class_names", np.array("a")), r"class_names has shape \(\)"),
        (put("class_names", np.array(["a", "b", "c", "d"])), "class 3 has no training image"),
        (put("train_labels", np.arange(12) % 3 * 2), "class 1 has no training image"),
        (put("train_labels", np.array([0, 1, 2, *[10**7] * 9])), "class 3 has no training image"),
        (put("train_images", np.zeros((12, 0, 0), np.uint8)), "train_images is empty"),
    ],
)
def test_a_bad_npz_is_refused(tmp_path, change, message):
    save_npz(tmp_path / "x.npz", change)
    with pytest.raises(Error, match=message):
        load("npz", str(tmp_path / "x.npz"))


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    save_npz(tmp_path / "x.npz")
    whole = (tmp_path / "x.npz").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "y.npz").write_bytes(content)
        with pytest.raises(Error, match="y.npz is not a readable npz file|y.npz"):
            load("npz", str(tmp_path / "y.npz"))
    with pytest.raises(Error, match="none.npz does not exist"):
        load("npz", str(tmp_path / "none.npz"))
    np.save(tmp_path / "z.npy", np.zeros(3))
    with pytest.raises(Error, match="z.npy is not a readable npz file: it holds a single array"):
        load("npz", str(tmp_path / "z.npy"))


def test_a_compressed_npz_with_changed_bytes_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", train_images=R.integers(0, 9, (60, 9, 9)).astype(np.uint8), train_labels=np.arange(60) % 3)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[200:260] = bytes(b ^ 0xFF for b in content[200:260])
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(Error, match="x.npz"):
        load("npz", tmp_path / "x.npz")


def test_npz_class_names_may_be_bytes(tmp_path):
    save_npz(tmp_path / "x.npz", class_names=np.array([b"a", b"b", b"c"]))
    assert load("npz", tmp_path / "x.npz").train.classes == ("a", "b", "c")


def test_a_set_of_single_images_cannot_be_split(tmp_path):
    np.savez(tmp_path / "x.npz", train_images=np.zeros((3, 9, 9), np.uint8), train_labels=np.arange(3))
    with pytest.raises(Error, match="no test part, and no class .* has two images"):
        load("npz", tmp_path / "x.npz")


def test_a_folder_of_classes(tmp_path, cache):
    tree(tmp_path / "set", ("train", "val", "test"))
    data = load("folder", str(tmp_path / "set"), progress=False)
    assert data.train.classes == ("cat", "dog") and data.train.labels.tolist() == [0] * 3 + [1] * 3
    assert list(data.train.paths) == [f"{c}/{k}.png" for c in ("cat", "dog") for k in range(3)] and len(data.val) == 6
    for path, image in zip(data.train.paths, data.train.images, strict=True):
        assert np.array_equal(image, np.asarray(Image.open(tmp_path / "set" / "train" / path)))
    assert isinstance(data.train.images, np.memmap) and len(list(cache.iterdir())) == 3


def test_decoded_images_are_kept_and_a_changed_image_is_noticed(tmp_path, cache):
    root = tree(tmp_path / "set", ("train", "test"))
    before = load("folder", str(root), progress=False).train.images[0].copy()
    stamps = {p: p.stat().st_mtime_ns for p in cache.iterdir()}
    load("folder", str(root), progress=False)
    assert {p: p.stat().st_mtime_ns for p in cache.iterdir()} == stamps
    picture(seed=77).save(root / "train" / "cat" / "0.png")
    os.utime(root / "train" / "cat" / "0.png", ns=(1, 1))
    assert not np.array_equal(load("folder", str(root), progress=False).train.images[0], before)


def test_a_damaged_cache_is_decoded_again(tmp_path, cache):
    root = tree(tmp_path / "set")
    before = np.array(load("folder", root, progress=False).train.images)
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:130])
    assert np.array_equal(load("folder", root, progress=False).train.images, before)


def test_a_disk_too_small_for_the_cache_ends_in_one_message(tmp_path, cache, monkeypatch):
    """Space is claimed before the map is written: a disk that fills up under a memory map would kill the process."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(Error, match="cannot write the image cache .*npy: No space left on device; .* set H2T_CACHE"):
        load("folder", tree(tmp_path / "set"), progress=False)
    assert list(cache.iterdir()) == []


def test_space_is_checked_where_a_file_system_cannot_reserve_it(tmp_path, cache, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fallocate", cannot, raising=False)
    root = tree(tmp_path / "set")
    assert len(load("folder", root, progress=False).train) == 6
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(Error, match="No space left"):
        load("folder", root, image_size=16, progress=False)


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Error, match="cannot write the image cache .*file"):
        load("folder", tree(tmp_path / "set"), cache=tmp_path / "file", progress=False)


@pytest.mark.parametrize("first", ["RGB", "L"])
def test_a_grey_image_costs_the_others_no_colour(tmp_path, first):
    root = tree(tmp_path / "set", n=2)
    for part in ("train", "test"):
        picture(mode=first).save(root / part / "cat" / "0.png")
        picture(mode={"L": "RGB", "RGB": "L"}[first]).save(root / part / "dog" / "1.png")
    data = load("folder", root, progress=False)
    for path, image in zip(data.train.paths, data.train.images, strict=True):
        assert np.array_equal(image, np.asarray(Image.open(root / "train" / path).convert("RGB"))), path


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
    assert list(load("folder", root, progress=False).train.paths)[:3] == ["cat/0.png", "cat/1.png", "cat/2.png"]


def test_parts_without_train_are_not_taken_for_classes(tmp_path):
    with pytest.raises(Error, match="has val/ but no train/"):
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


def break_image(root):
    path = root / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_image, "image .*train/dog/1.png cannot be decoded"),
        (lambda r: (r / "train" / "dog" / "1.png").write_text("no image"), "image .*dog/1.png cannot be decoded"),
        (lambda r: (r / "train" / "empty").mkdir(), "class folder .*empty holds no images"),
        (lambda r: tree(r / "more", ("",), ("fox",)).joinpath("fox").rename(r / "test" / "fox"), "class 'fox' that the training part does not have"),
    ],
)
def test_a_bad_folder_is_refused(tmp_path, cache, change, message):
    root = tree(tmp_path / "set")
    change(root)
    with pytest.raises(Error, match=message):
        load("folder", str(root), progress=False)
    assert not cache.exists() or not [p for p in cache.iterdir() if "tmp" in p.name]


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(Error, match="none does not exist"):
        load("folder", str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Error, match="holds no class folders"):
        load("folder", str(tmp_path / "empty"))


def test_an_image_behind_a_link_out_of_the_root_is_refused(tmp_path):
    root = tree(tmp_path / "set")
    picture().save(tmp_path / "secret.png")
    (root / "train" / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(Error, match="link.png .* leads outside the image root"):
        load("folder", str(root), progress=False)


def test_a_class_folder_that_links_out_of_the_root_is_refused(tmp_path):
    root = tree(tmp_path / "set")
    (root / "train" / "cat").rename(tmp_path / "cat")
    (root / "train" / "cat").symlink_to(tmp_path / "cat")
    with pytest.raises(Error, match="cat.*0.png .* leads outside the image root"):
        load("folder", root, progress=False)


def test_links_within_the_root_and_a_root_that_is_a_link_are_followed(tmp_path):
    root = tree(tmp_path / "set")
    (root / "train" / "dog" / "twin.png").symlink_to(root / "train" / "cat" / "0.png")
    (tmp_path / "alias").symlink_to(root)
    assert load("folder", tmp_path / "alias", progress=False).train.counts.tolist() == [3, 4]


def lists(root, lines, test="test/cat/0.png 0\ntest/dog/0.png 1\n"):
    tree(root)
    (root / "X_train.txt").write_text(lines)
    if test:
        (root / "X_test.txt").write_text(test)
    return root


GOOD = "train/cat/0.png 0\ntrain/dog/1.png 1\ntrain/cat/2.png 0\n"


def test_list_files(tmp_path):
    data = load("lists", str(lists(tmp_path / "set", GOOD)), progress=False)
    assert data.train.labels.tolist() == [0, 1, 0] and list(data.train.paths) == ["train/cat/0.png", "train/dog/1.png", "train/cat/2.png"]
    assert np.array_equal(data.train.images[1], np.asarray(Image.open(tmp_path / "set/train/dog/1.png")))
    (tmp_path / "lists").mkdir()
    for name in ("X_train.txt", "X_test.txt"):
        (tmp_path / "set" / name).rename(tmp_path / "lists" / name)
    apart = load("lists", f"{tmp_path / 'lists'}:{tmp_path / 'set'}", progress=False)
    assert np.array_equal(apart.test.images, data.test.images)


def test_paths_may_contain_spaces_and_lines_may_end_in_crlf(tmp_path):
    (tmp_path / "l.txt").write_bytes("a b/ü c.jpg 12\r\nd.jpg 0\r\n\r\n".encode())
    paths, labels = files.read_list(tmp_path / "l.txt")
    assert list(paths) == ["a b/ü c.jpg", "d.jpg"] and labels.tolist() == [12, 0]
    assert list(paths[np.array([1, 0])]) == ["d.jpg", "a b/ü c.jpg"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a.jpg 0\nb.jpg\n", "line 2: 'b.jpg' is not"),
        ("a.jpg 0\nb.jpg one\n", "line 2: 'b.jpg one' is not"),
        ("a.jpg 0\nb.jpg -1\n", "line 2: 'b.jpg -1' is not"),
        ("a.jpg 0\n\nb.jpg 1\n", "line 2: '' is not"),
        ("a.jpg 0\n 1\n", "line 2: ' 1' is not"),
        ("a.jpg 0\nb.jpg 99999999999999999999\n", "line 2"),
        ("a.jpg 0\n../b.jpg 1\n", "line 2: the path '../b.jpg' leaves the image root"),
        ("/etc/b.jpg 0\n", "line 1: the path '/etc/b.jpg' leaves"),
        ("a/../../b.jpg 0\n", "line 1: the path"),
        ("C:\\b.jpg 0\n", "line 1: the path"),
        ("a.jpg 0\nb\0.jpg 1\n", "line 2: the path .* holds a zero byte"),
        ("", "is empty"),
    ],
)
def test_a_malformed_list_is_refused_with_its_line(tmp_path, lines, message):
    (tmp_path / "l.txt").write_text(lines)
    with pytest.raises(Error, match="l.txt.*" + message):
        files.read_list(tmp_path / "l.txt")


def test_lists_read_in_blocks_give_what_a_plain_loop_gives(tmp_path, monkeypatch):
    r = np.random.default_rng(5)
    lines = [f"{'d ' * r.integers(0, 3)}{'x' * r.integers(1, 40)}.jpg {r.integers(0, 10 ** r.integers(1, 8))}" for _ in range(300)]
    (tmp_path / "l.txt").write_text("\n".join(lines) + "\n" * r.integers(0, 3))
    for block in (1, 7, 64, 1000, 1 << 20):
        monkeypatch.setattr(files, "BLOCK", block)
        paths, labels = files.read_list(tmp_path / "l.txt")
        assert list(paths) == [line.rsplit(" ", 1)[0] for line in lines]
        assert labels.tolist() == [int(line.rsplit(" ", 1)[1]) for line in lines]
    monkeypatch.setattr(files, "BLOCK", 64)
    (tmp_path / "l.txt").write_text("\n".join([*lines, "bad", *lines]))
    with pytest.raises(Error, match="line 301: 'bad'"):
        files.read_list(tmp_path / "l.txt")


def test_a_list_named_after_two_parts_is_refused(tmp_path):
    lists(tmp_path / "set", GOOD, test="")
    (tmp_path / "set" / "X_train.txt").rename(tmp_path / "set" / "latest_train.txt")
    with pytest.raises(Error, match="latest_train.txt is named after train and test"):
        load("lists", tmp_path / "set", progress=False)


def test_names_with_two_dots_are_no_escape(tmp_path):
    (tmp_path / "l.txt").write_text("a..b/c..jpg 0\n")
    assert list(files.read_list(tmp_path / "l.txt")[0]) == ["a..b/c..jpg"]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (GOOD + "train/none.png 1\n", None, "image .*train/none.png .* does not exist"),
        (GOOD, "test/cat/0.png 5\n", "label 5 is outside the range of the training list .* its labels are 0 to 1"),
        ("train/cat/0.png 0\ntrain/dog/1.png 2\n", None, "has label 2 but no image of class 1"),
        ("train/cat/0.png 0\ntrain/dog/1.png 999999999999\n", None, "has label 999999999999 but no image of class 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, train, test, message):
    with pytest.raises(Error, match=message):
        load("lists", str(lists(tmp_path / "set", train, test or "test/cat/0.png 0\n")), progress=False)


def test_cifar_that_cannot_be_had_says_where_it_belongs(tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    with pytest.raises(Error, match="cifar100 could not be had in .*cifar-100-python"):
        load("cifar100", str(tmp_path))


def test_cifar_from_a_folder_that_is_there(tmp_path, monkeypatch):
    """A small archive in torchvision's own layout, its checksums replaced by those of these files."""
    import hashlib
    import pickle

    from torchvision import datasets

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    names = [f"class {c}" for c in range(100)]
    sums = {}
    for part, n in (("train", 200), ("test", 100)):
        content = pickle.dumps({"data": R.integers(0, 256, (n, 3072), dtype=np.uint8), "fine_labels": [k % 100 for k in range(n)]})
        (folder / part).write_bytes(content)
        sums[part] = hashlib.md5(content).hexdigest()
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    sums["meta"] = hashlib.md5((folder / "meta").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]})
    data = load("cifar100", str(tmp_path))
    assert data.train.images.shape == (200, 32, 32, 3) and data.train.classes[7] == "class 7" and len(data.test) == 100
    (folder / "train").write_bytes(b"x")
    with pytest.raises(Error, match="could not be had"):
        load("cifar100", str(tmp_path))


@pytest.mark.parametrize(("name", "message"), [("mnist", "source is 'mnist'; choose one of digits"), ("folder", "source 'folder' needs root: a folder with train")])
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
        ({"image_size": -3}, "image_size is -3"),
        ({"image_size": 8.5}, "image_size is 8.5"),
        ({"channels": 2}, "channels is 2; choose 0"),
    ],
)
def test_parameters_out_of_range_are_refused(how, message):
    with pytest.raises(Error, match=message):
        load("digits", **how)


def test_too_small_images_are_refused(tmp_path):
    arrays = {f"{p}_images": np.zeros((4, 5, 5), np.uint8) for p in ("train", "test")} | {f"{p}_labels": np.arange(4) % 2 for p in ("train", "test")}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(Error, match="5x5 pixels .*set image_size to at least 8"):
        load("npz", str(tmp_path / "x.npz"))
