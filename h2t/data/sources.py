"""Sources of images, behind one ``load``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import alone
from h2t.data import arrays as npz
from h2t.data import large, pack
from h2t.data import lists as files
from h2t.data.cache import decode
from h2t.data.images import FITS
from h2t.data.lazy import need_size
from h2t.data.longtail import stratified
from h2t.data.split import Dataset, Split

LOADERS = ("auto", "resident", "streamed")
STREAM_ABOVE = 4 << 30  # bytes of decoded images that loader auto no longer keeps decoded


def load(
    name: str,
    root: str | Path = "",
    *,
    image_size: int = 0,
    channels: int = 0,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    image_fit: str = "stretch",
    loader: str = "auto",
    cache: str | Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Load a set of images by the name of its source.

    - ``digits``: scikit-learn's 1,797 handwritten digits, 8x8 grey, embedded; no root.
    - ``cifar10``, ``cifar100``: through torchvision; ``root`` is the folder they are in, or are downloaded to.
    - ``npz``: ``root`` is a file in the MedMNIST layout: train_images (N, H, W) or (N, H, W, 3) uint8, train_labels
      (N,) or (N, 1), and optionally val_*, test_* and class_names; or one of `h2t pack`, a long tail that stands for its whole set.
    - ``folder``: ``root`` holds train/<class>/*, and optionally val/ and test/ alike, or the class folders themselves.
    - ``lists``: ``root`` is the image root with one list file each that matches *train*.txt, and optionally *val*.txt and
      *test*.txt; lists that lie elsewhere are named LISTS:IMAGES.
    - ``imagenet_lt``, ``places_lt``, ``inaturalist2018``: the large sets by their published list files; ``root`` as for lists.
      iNaturalist 2018 is tested on its validation list, as the field does.

    A set without a test part is split by ``split_seed``, stratified; ``test_fraction`` of every class, and at least one
    image where it has two, is held out; a single image stays in training. A validation part is never used as test part.

    Arguments: ``image_size`` pixels a side to resize to, 0 as they are; ``channels`` 1 or 3, 0 as they are; ``image_fit``
    stretch resizes both sides, crop cuts the middle out (files only); ``loader`` streamed leaves image files to be decoded
    whenever they are used, resident decodes them once into a cache, auto streams where that would take more than 4 GiB;
    ``cache`` folder for decoded files. Raises: ``h2t.Error`` for every kind of bad input, naming the file, line or class at fault.
    """
    if name not in SOURCES:
        raise Error(f"source is {name!r}; choose one of {', '.join(SOURCES)}")
    root = str(root)
    if name != "digits" and not root:
        raise Error(f"source {name!r} needs root: {_ROOTS[name]}")
    _check(image_size, channels, test_fraction, split_seed)
    _check_files(name, image_size, image_fit, loader)
    how = {
        "image_size": image_size,
        "channels": channels,
        "fit": image_fit,
        "loader": loader,
        "cache": Path(cache) if cache else None,
        "progress": progress,
    }
    parts = SOURCES[name](root, **how)
    train = parts["train"]
    if "test" not in parts:
        kept, held = stratified(train.labels, len(train.classes), test_fraction, split_seed)
        if not len(held):
            raise Error(
                f"{name} has no test part, and no class of {root} has two images to hold one out; add a test part"
            )
        parts = {**parts, "train": train.take(kept), "test": train.take(held)}
    for part, split in parts.items():
        if min(split.images.shape[1:3]) < 8:
            raise Error(
                f"{name} images are {split.images.shape[1]}x{split.images.shape[2]} pixels ({part}); set image_size to at least 8"
            )
        if split.images.shape[1:] != parts["train"].images.shape[1:]:
            raise Error(
                f"{part} images are {split.images.shape[1:]}, training images {parts['train'].images.shape[1:]} (H, W, C); set image_size and channels"
            )
    return Dataset(name, parts["train"], parts["test"], parts.get("val"))


def _check(image_size, channels, test_fraction, split_seed) -> None:
    if not isinstance(image_size, int | np.integer) or image_size < 0:
        raise Error(
            f"image_size is {image_size!r}; it must be a whole number of pixels, or 0 to keep the images as they are"
        )
    if channels not in (0, 1, 3):
        raise Error(f"channels is {channels!r}; choose 0 (as they are), 1 (grey) or 3 (RGB)")
    if not 0 < test_fraction < 1:
        raise Error(f"test_fraction is {test_fraction!r}; it must lie between 0 and 1")
    if not isinstance(split_seed, int | np.integer) or not 0 <= split_seed < 2**32:
        raise Error(f"split_seed is {split_seed!r}; it must be a whole number from 0 to 4294967295")


def _check_files(name: str, image_size: int, image_fit: str, loader: str) -> None:
    for what, value, choices in (("image_fit", image_fit, FITS), ("loader", loader, LOADERS)):
        if value not in choices:
            raise Error(f"{what} is {value!r}; choose one of {', '.join(choices)}")
    if name not in FILES and (loader == "streamed" or image_fit != "stretch"):
        what = "loader streamed" if loader == "streamed" else "image_fit crop"
        raise Error(
            f"{what} is for image files, which source {name!r} has not; use it with {', '.join(FILES)}"
        )
    if image_fit == "crop" and not image_size:
        raise Error(
            "image_fit crop needs image_size, the side of the square that is cut out; set it to 224, say"
        )
    if loader == "streamed":
        need_size(image_size)


def _digits(root, *, image_size, channels, **_) -> dict[str, Split]:
    images, labels = _digits_table()
    images = np.round(images * (255 / 16)).astype(np.uint8)[..., None]
    return {"train": _array_split(images, labels, tuple("0123456789"), image_size, channels)}


def _digits_table() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, (N, 8, 8) in 0..16 and labels (N,), read from its file: importing it takes longer than all else that
    the first notebook does. Where the file lies elsewhere, scikit-learn itself is asked."""
    folder = importlib.util.find_spec("sklearn").submodule_search_locations[0]
    try:
        table = np.loadtxt(Path(folder) / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    except OSError:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.images, digits.target
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _cifar(name: str) -> Callable[..., dict[str, Split]]:
    def source(root, *, image_size, channels, **_):
        from torchvision import datasets

        kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        parts = {}
        for part, is_train in (("train", True), ("test", False)):
            try:
                try:
                    data = kind(root, train=is_train, download=False)
                except RuntimeError:  # not there, or another process is at it
                    with alone(Path(root) / f".{name}.lock"):
                        data = kind(
                            root,
                            train=is_train,
                            download=not (Path(root) / kind.base_folder).is_dir(),
                        )
            except Exception as e:
                raise Error(
                    f"{name} could not be had in {root}: {' '.join(str(e).split())}. Put the extracted folder "
                    f"{kind.base_folder!r} there (archive {kind.filename}), or let it be downloaded with a network"
                ) from None
            parts[part] = _array_split(
                data.data, np.array(data.targets), tuple(data.classes), image_size, channels
            )
        return parts

    return source


def _npz(root, *, image_size, channels, **_) -> dict[str, Split]:
    arrays, classes = npz.read(Path(root))
    parts = {
        p: _array_split(images, labels, classes, image_size, channels)
        for p, (images, labels) in arrays.items()
    }
    if extra := npz.further(Path(root), pack.EXTRA):
        train = parts["train"]
        parts["train"] = Split(*pack.unpack(train.images, train.labels, extra, Path(root)), classes)
    return parts


def _folder(root, **how) -> dict[str, Split]:
    top = Path(root)
    if not top.is_dir():
        raise Error(
            f"folder {top} does not exist; it must hold train/<class>/ or one folder of images per class"
        )
    there = [p for p in ("train", "val", "test") if (top / p).is_dir()] or [""]
    if there[0] not in ("train", ""):
        raise Error(
            f"folder {top} has {there[0]}/ but no train/; put the training images in {top}/train/<class>/"
        )
    parts, classes = {}, None
    for part in there:
        paths, labels, found = files.list_folder(top / part, classes)
        classes = classes or found
        if len(paths):
            parts[part or "train"] = (top / part, paths, labels)
        else:
            raise Error(f"folder {top / part} holds no images")
    return _decoded(parts, classes, how)


def _lists(root, **how) -> dict[str, Split]:
    folder, image_root = large.split_root(root)
    lists, kinds = {}, ("train", "val", "test")
    for path in sorted(folder.glob("*.txt")):
        if len(several := [k for k in kinds if k in path.stem.lower()]) > 1:
            raise Error(
                f"list file {path} is named after {' and '.join(several)}; rename it to say which part it is"
            )
    for part in kinds:
        found = sorted(p for p in folder.glob("*.txt") if part in p.stem.lower())
        if len(found) > 1:
            raise Error(
                f"{folder} has several {part} lists ({', '.join(p.name for p in found)}); keep one"
            )
        if found:
            lists[part] = files.read_list(found[0])
    if "train" not in lists:
        raise Error(f"{folder} has no list file *train*.txt")
    classes = tuple(map(str, range(large.check_labels(folder, lists))))
    return _decoded({part: (image_root, *found) for part, found in lists.items()}, classes, how)


def _large(name: str) -> Callable[..., dict[str, Split]]:
    def source(root, **how):
        return _decoded(*large.read_set(name, root), how)

    return source


def _decoded(parts, classes, how) -> dict[str, Split]:
    loader, size = how.pop("loader"), how["image_size"]
    taken = sum(len(paths) for _, paths, _ in parts.values()) * size**2 * (how["channels"] or 3)
    streamed = loader == "streamed" or (loader == "auto" and taken > STREAM_ABOVE)
    return {
        part: decode(*found, classes, where=part, streamed=streamed, **how)
        for part, found in parts.items()
    }


def _array_split(
    images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], image_size: int, channels: int
) -> Split:
    """Resize and convert an array (N, H, W, C) where that is asked for."""
    n, h, w, c = images.shape
    if (image_size and (h, w) != (image_size, image_size)) or (channels and channels != c):
        from PIL import Image

        size, mode = (image_size or w, image_size or h), {1: "L", 3: "RGB"}[channels or c]
        out = np.empty((n, size[1], size[0], channels or c), dtype=np.uint8)
        for k, image in enumerate(images):
            picture = Image.fromarray(image[..., 0] if c == 1 else image).convert(mode)
            out[k] = np.asarray(picture.resize(size, Image.Resampling.BILINEAR)).reshape(
                out.shape[1:]
            )
        images = out
    return Split(images, np.asarray(labels, dtype=np.int64), classes)


SOURCES: dict[str, Callable[..., dict[str, Split]]] = {
    "digits": _digits,
    "cifar10": _cifar("cifar10"),
    "cifar100": _cifar("cifar100"),
    "npz": _npz,
    "folder": _folder,
    "lists": _lists,
    **{name: _large(name) for name in large.SETS},
}
FILES = ("folder", "lists", *large.SETS)
_ROOTS = {
    "cifar10": "the folder the set is in, or is to be downloaded to",
    "cifar100": "the folder the set is in, or is to be downloaded to",
    "npz": "a file in the MedMNIST layout",
    "folder": "a folder with train/<class>/ or <class>/",
    **{
        name: "a folder with list files and images, or LISTS:IMAGES"
        for name in ("lists", *large.SETS)
    },
}
