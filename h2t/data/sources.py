"""Sources of images, behind one ``load``."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from h2t.data import files
from h2t.data.split import Dataset, Split
from h2t.errors import Error


def load(
    name: str, root: str = "", *, image_size: int = 0, channels: int = 0, test_fraction: float = 0.2,
    split_seed: int = 0, cache: str | Path | None = None, progress: bool = True,
) -> Dataset:  # fmt: skip
    """Load a set of images by the name of its source.

    - ``digits``: scikit-learn's 1,797 handwritten digits, 8x8 grey, embedded; no root.
    - ``cifar10``, ``cifar100``: through torchvision; ``root`` is the folder they are in, or are downloaded to.
    - ``npz``: ``root`` is a file in the MedMNIST layout: train_images (N, H, W) or (N, H, W, 3) uint8, train_labels
      (N,) or (N, 1), and optionally val_*, test_* and class_names.
    - ``folder``: ``root`` holds train/<class>/*, and optionally val/ and test/ alike, or the class folders themselves.
    - ``lists``: ``root`` is the image root with one list file each that matches *train*.txt, and optionally *val*.txt and
      *test*.txt; lists that lie elsewhere are named LISTS:IMAGES.

    A set without a test part is split by ``split_seed``, stratified; ``test_fraction`` of every class, and at least one
    image where it has two, is held out.

    Arguments: ``image_size`` pixels a side to resize to, 0 as they are; ``channels`` 1 or 3, 0 as they are; ``cache``
    folder for decoded files. Raises: ``h2t.Error`` for every kind of bad input, naming the file, line or class at fault.
    """
    if name not in SOURCES:
        raise Error(f"source is {name!r}; choose one of {', '.join(SOURCES)}")
    if name != "digits" and not root:
        raise Error(f"source {name!r} needs root: {_ROOTS[name]}")
    how = {"image_size": image_size, "channels": channels, "cache": Path(cache) if cache else None, "progress": progress}
    parts = SOURCES[name](root, **how)
    train = parts["train"]
    if "test" not in parts:
        kept, held = stratified(train.labels, len(train.classes), test_fraction, split_seed)
        parts = {**parts, "train": train.take(kept), "test": train.take(held)}
    for part, split in parts.items():
        if min(split.images.shape[1:3]) < 8:
            raise Error(f"{name} images are {split.images.shape[1]}x{split.images.shape[2]} pixels ({part}); set image_size to at least 8")
        if split.images.shape[1:] != parts["train"].images.shape[1:]:
            raise Error(f"{part} images are {split.images.shape[1:]}, training images {parts['train'].images.shape[1:]} (H, W, C); set image_size and channels")
    return Dataset(name, parts["train"], parts["test"], parts.get("val"))


def stratified(labels: np.ndarray, num_classes: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a share of every class: at least one image where it has two, never its last one.

    Returns: kept and held-out indices, ascending. No global generator is touched.
    """
    generator, held = np.random.default_rng([seed, 0x5917]), []
    for c in range(num_classes):
        indices = np.flatnonzero(labels == c)
        number = min(max(round(fraction * len(indices)), 1), len(indices) - 1)
        held.append(generator.permutation(indices)[: max(number, 0)])
    test = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), test), test


def _digits(root, *, image_size, channels, **_) -> dict[str, Split]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return {"train": _array_split(images, digits.target, tuple("0123456789"), image_size, channels)}


def _cifar(name: str) -> Callable[..., dict[str, Split]]:
    def source(root, *, image_size, channels, **_):
        from torchvision import datasets

        kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        parts = {}
        for part, is_train in (("train", True), ("test", False)):
            try:
                there = (Path(root) / kind.base_folder).is_dir()
                data = kind(root, train=is_train, download=not there)
            except Exception as e:
                raise Error(
                    f"{name} could not be had in {root}: {' '.join(str(e).split())}. Put the extracted folder "
                    f"{kind.base_folder!r} there (archive {kind.filename}), or let it be downloaded with a network"
                ) from None
            parts[part] = _array_split(data.data, np.array(data.targets), tuple(data.classes), image_size, channels)
        return parts

    return source


def _npz(root, *, image_size, channels, **_) -> dict[str, Split]:
    path = Path(root)
    if not path.is_file():
        raise Error(f"npz file {path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            if missing := {"train_images", "train_labels"} - names:
                raise Error(f"{path} lacks the array {sorted(missing)[0]!r}; it holds {', '.join(sorted(names)) or 'nothing'}")
            parts = [p for p in ("train", "val", "test") if f"{p}_images" in names or f"{p}_labels" in names]
            for p in parts:
                if lacking := {f"{p}_images", f"{p}_labels"} - names:
                    raise Error(f"{path} lacks the array {lacking.pop()!r}")
            class_names = _read(archive, path, "class_names") if "class_names" in names else None
            arrays = {p: _npz_part(archive, path, p) for p in parts}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as e:
        raise Error(f"{path} is not a readable npz file: {' '.join(str(e).split())}") from None
    highest = max(int(labels.max()) for _, labels in arrays.values())
    count = len(class_names) if class_names is not None else int(arrays["train"][1].max()) + 1
    if highest >= count:
        raise Error(f"{path} has a label {highest}, outside its {count} classes 0 to {count - 1}")
    classes = tuple(map(str, class_names)) if class_names is not None else tuple(map(str, range(count)))
    return {p: _array_split(images, labels, classes, image_size, channels) for p, (images, labels) in arrays.items()}


def _read(archive, path: Path, name: str) -> np.ndarray:
    try:
        return archive[name]
    except ValueError as e:
        if "pickle" in str(e) or "Object arrays" in str(e):
            raise Error(f"{path}: the array {name!r} holds pickled objects, which are not read; save plain numbers") from None
        raise Error(f"{path}: the array {name!r} is damaged: {e}") from None


def _npz_part(archive, path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = _read(archive, path, f"{part}_images"), _read(archive, path, f"{part}_labels")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise Error(f"{path}: {part}_images is {images.dtype} of shape {images.shape}; it must be uint8 (N, H, W) or (N, H, W, 3)")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise Error(f"{path}: {part}_labels is {labels.dtype} of shape {labels.shape}; it must be whole numbers (N,) or (N, 1)")
    if len(images) != len(labels):
        raise Error(f"{path}: {part}_images has {len(images)} images, {part}_labels {len(labels)} labels")
    if not len(images):
        raise Error(f"{path}: {part}_images is empty")
    if labels.min() < 0:
        raise Error(f"{path}: {part}_labels has a negative label {labels.min()}")
    return images[..., None] if images.ndim == 3 else images, labels.astype(np.int64)


def _folder(root, **how) -> dict[str, Split]:
    top = Path(root)
    if not top.is_dir():
        raise Error(f"folder {top} does not exist; it must hold train/<class>/ or one folder of images per class")
    there = [p for p in ("train", "val", "test") if (top / p).is_dir()]
    if "train" not in there:
        there = [""]
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
    lists, _, images = root.partition(":") if not Path(root).is_dir() else (root, "", "")
    folder, image_root = Path(lists), Path(images or lists)
    for name, path in (("list folder", folder), ("image root", image_root)):
        if not path.is_dir():
            raise Error(f"{name} {path} does not exist; root is the folder of both, or LISTS:IMAGES")
    parts, highest = {}, -1
    for part in ("train", "val", "test"):
        found = sorted(p for p in folder.glob("*.txt") if part in p.stem.lower())
        if len(found) > 1:
            raise Error(f"{folder} has several {part} lists ({', '.join(p.name for p in found)}); keep one")
        if found:
            paths, labels = files.read_list(found[0])
            parts[part], highest = (image_root, paths, labels), max(highest, int(labels.max()))
    if "train" not in parts:
        raise Error(f"{folder} has no list file *train*.txt")
    have = np.bincount(parts["train"][2])
    if highest >= len(have) or (have == 0).any():
        c = highest if highest >= len(have) else int(np.flatnonzero(have == 0)[0])
        raise Error(f"label {c} is outside the range of the training list: its labels must be 0 to {len(have) - 1}, each with an image")
    return _decoded(parts, tuple(map(str, range(len(have)))), how)


def _decoded(parts, classes, how) -> dict[str, Split]:
    return {part: files.decode(*found, classes, where=part, **how) for part, found in parts.items()}


def _array_split(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], image_size: int, channels: int) -> Split:
    """Resize and convert an array (N, H, W, C) where that is asked for."""
    n, h, w, c = images.shape
    if (image_size and (h, w) != (image_size, image_size)) or (channels and channels != c):
        from PIL import Image

        size, mode = (image_size or w, image_size or h), {1: "L", 3: "RGB"}[channels or c]
        out = np.empty((n, size[1], size[0], channels or c), dtype=np.uint8)
        for k, image in enumerate(images):
            picture = Image.fromarray(image[..., 0] if c == 1 else image).convert(mode)
            out[k] = np.asarray(picture.resize(size, Image.Resampling.BILINEAR)).reshape(out.shape[1:])
        images = out
    return Split(images, np.asarray(labels, dtype=np.int64), classes)


SOURCES: dict[str, Callable[..., dict[str, Split]]] = {
    "digits": _digits,
    "cifar10": _cifar("cifar10"),
    "cifar100": _cifar("cifar100"),
    "npz": _npz,
    "folder": _folder,
    "lists": _lists,
}
_ROOTS = {
    "cifar10": "the folder the set is in, or is to be downloaded to",
    "cifar100": "the folder the set is in, or is to be downloaded to",
    "npz": "a file in the MedMNIST layout",
    "folder": "a folder with train/<class>/ or <class>/",
    "lists": "a folder with list files and images, or LISTS:IMAGES",
}
