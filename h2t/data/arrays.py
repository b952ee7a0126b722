"""Arrays in the MedMNIST layout: one npz file, opened with pickling off and checked before anything is made of it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from h2t.base.errors import Error

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def read(path: Path) -> tuple[Arrays, tuple[str, ...]]:
    """Read train_images, train_labels and, where they are there, val_*, test_* and class_names.

    Returns: part -> images (N, H, W, 1 or 3) uint8 and labels (N,) int64; C class names, the numbers where none are given.
    Raises: ``h2t.Error`` naming the file, and the array or class at fault.
    """
    if not path.is_file():
        raise Error(f"npz file {path} does not exist")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise Error(
                f"{path} is not a readable npz file: it holds a single array; save it with numpy.savez"
            )
        with archive:
            names = set(archive.files)
            if missing := {"train_images", "train_labels"} - names:
                raise Error(
                    f"{path} lacks the array {sorted(missing)[0]!r}; it holds {', '.join(sorted(names)) or 'nothing'}"
                )
            parts = [
                p
                for p in ("train", "val", "test")
                if f"{p}_images" in names or f"{p}_labels" in names
            ]
            for p in parts:
                if lacking := {f"{p}_images", f"{p}_labels"} - names:
                    raise Error(f"{path} lacks the array {lacking.pop()!r}")
            class_names = _array(archive, path, "class_names") if "class_names" in names else None
            arrays = {p: _part(archive, path, p) for p in parts}
    except (
        OSError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
    ) as e:
        raise Error(f"{path} is not a readable npz file: {' '.join(str(e).split())}") from None
    return arrays, _classes(path, arrays, class_names)


def further(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Further arrays of a file that ``read`` has found good; nothing where one of the ``names`` is missing."""
    with np.load(path, allow_pickle=False) as archive:
        return (
            {name: _array(archive, path, name) for name in names}
            if set(names) <= set(archive.files)
            else {}
        )


def _classes(path: Path, arrays: Arrays, class_names: np.ndarray | None) -> tuple[str, ...]:
    labels = arrays["train"][1]
    if class_names is None:
        count = int(labels.max()) + 1
    elif class_names.ndim == 1:
        count = len(class_names)
    else:
        raise Error(
            f"{path}: class_names has shape {class_names.shape}; it must be a list of names (C,)"
        )
    highest = max(int(labels.max()) for _, labels in arrays.values())
    if highest >= count:
        raise Error(f"{path} has a label {highest}, outside its {count} classes 0 to {count - 1}")
    # one bin more than there are images always has an empty one below it, so a wild label costs no memory
    present = np.bincount(labels[labels <= len(labels)], minlength=min(count, len(labels) + 1))
    if (present[:count] == 0).any():
        raise Error(
            f"{path}: class {int(np.flatnonzero(present == 0)[0])} has no training image; labels must be 0 to C - 1, each with an image"
        )
    if class_names is None:
        return tuple(map(str, range(count)))
    return tuple(
        n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n)
        for n in class_names.tolist()
    )


def _array(archive, path: Path, name: str) -> np.ndarray:
    try:
        return archive[name]
    except ValueError as e:
        if "pickle" in str(e) or "Object arrays" in str(e):
            raise Error(
                f"{path}: the array {name!r} holds pickled objects, which are not read; save plain numbers"
            ) from None
        raise Error(f"{path}: the array {name!r} is damaged: {e}") from None


def _part(archive, path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        _array(archive, path, f"{part}_images"),
        _array(archive, path, f"{part}_labels"),
    )
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or (images.ndim == 4 and images.shape[3] not in (1, 3))
    ):
        raise Error(
            f"{path}: {part}_images is {images.dtype} of shape {images.shape}; it must be uint8 (N, H, W) or (N, H, W, 3)"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise Error(
            f"{path}: {part}_labels is {labels.dtype} of shape {labels.shape}; it must be whole numbers (N,) or (N, 1)"
        )
    if len(images) != len(labels):
        raise Error(
            f"{path}: {part}_images has {len(images)} images, {part}_labels {len(labels)} labels"
        )
    if not images.size:
        raise Error(f"{path}: {part}_images is empty")
    labels = labels.astype(np.int64)
    if labels.min() < 0:
        raise Error(f"{path}: {part}_labels has a negative label {labels.min()}")
    return images[..., None] if images.ndim == 3 else images, labels
