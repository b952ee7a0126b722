"""Arrays in the MedMNIST layout: one npz file, checked before anything is made of it.

A file of `h2t pack` stands for a large set, as far as it holds its images: one long tail's, with
their places in the training part they are from and all of its labels. What is drawn from it is
drawn from the whole set: a tail of the same seed at a larger imbalance factor has the same images,
in the same order and with the same hash, as if the whole set were here.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from h2t.base.errors import Error
from h2t.base.files import write_atomic
from h2t.base.readers import reading, regular
from h2t.data.manifest import Manifest
from h2t.data.split import Dataset, Split, Unread

SAVE = "save it with numpy.savez_compressed"
EXTRA = ("source_indices", "source_labels", "packed_as")  # what a packed file holds besides


def read(path: Path, *how: int) -> dict[str, Split]:
    """Read train_images, train_labels and, where they are there, val_*, test_* and class_names.

    Arguments: ``how`` as of ``resized``. Raises: ``h2t.Error`` naming the array or class at fault.
    """
    with opened(path) as archive:
        parts = {part: _part(archive, path, part) for part in parts_of(archive, path, "images")}
        classes = class_names(archive, path, {part: y for part, (_, y) in parts.items()})
        splits = {part: Split(resized(x, *how), y, classes) for part, (x, y) in parts.items()}
        if set(EXTRA) <= set(archive):
            extra = [array(archive, path, name) for name in EXTRA]
            splits["train"] = _unpack(splits["train"], *extra, path)
    return splits


def opened(path: Path) -> NpzFile:
    """An npz file, whose arrays are read when they are asked for."""
    with reading(path, SAVE):
        regular(path)
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no npz file")
        return np.load(path, allow_pickle=False)


def parts_of(archive: NpzFile, path: Path, kind: str) -> list[str]:
    """The parts in a file. Raises ``h2t.Error`` where one lacks its ``kind``, images or features,
    or its labels."""
    further = [p for p in ("val", "test") if {f"{p}_{kind}", f"{p}_labels"} & set(archive)]
    parts = ["train", *further]
    for name in (f"{part}_{what}" for part in parts for what in (kind, "labels")):
        if name not in archive:
            held = ", ".join(sorted(archive)) or "nothing"
            raise Error(f"{path} lacks the array {name!r}; it holds {held:.500}")
    return parts


def array(archive: NpzFile, path: Path, name: str) -> np.ndarray:
    """One array of a file. Raises ``h2t.Error`` naming it."""
    try:
        return np.asarray(archive[name])
    except Exception as e:  # zipfile, zlib and NumPy raise nearly anything on damaged bytes
        why = " ".join(str(e).split()) or type(e).__name__
        raise Error(f"{path}: the array {name!r} cannot be read: {why:.200}; {SAVE}") from None


def _part(archive: NpzFile, path: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The images (N, H, W, C) uint8 and labels (N,) int64 of a part."""
    images, y = (array(archive, path, f"{part}_{kind}") for kind in ("images", "labels"))
    if not images.size:
        raise Error(f"{path}: {part}_images is empty")
    what = f"{path}: {part}_images is {images.dtype} of shape {images.shape}; it must be"
    return _pixels(images, what), labels(path, part, y, len(images), "images")


def labels(path: Path, part: str, labels: np.ndarray, count: int, kind: str) -> np.ndarray:
    """The labels (N,) int64 of a part with ``count`` images or features (``kind``)."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        said = (
            f"{labels.dtype} of shape {labels.shape}; it must be whole numbers (N,) or (N, 1); "
            "of several labels an image, save the images that have one"
        )
    elif count != len(labels):
        said = f"{len(labels)} labels of {count} {kind}"
    elif not 0 <= int(labels.min()) <= int(labels.max()) < 2**62:
        said = f"from {labels.min()} to {labels.max()}; they must be 0 to C - 1"
    else:
        return labels.astype(np.int64)
    raise Error(f"{path}: {part}_labels is {said}")


def _pixels(images: np.ndarray, what: str) -> np.ndarray:
    """Images (N, H, W, 1 or 3) uint8 of an array that may be without channels, or of shares."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise Error(
            f"{what} (N, H, W) or (N, H, W, 3); where channels come first, save "
            "images.transpose(0, 2, 3, 1), of volumes save a slice"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1:  # NaN is neither
        return np.round(images * 255).astype(np.uint8)
    spans = f", and is {images.min()} to {images.max()}" if images.dtype.kind == "f" else ""
    raise Error(f"{what} uint8, or floats from 0 to 1{spans}")


def resized(images: np.ndarray, image_size=0, channels=0, at_most=False) -> np.ndarray:
    """Images (N, H, W, C) at another size, bilinearly, or in colour or grey; 0: as they are.
    ``at_most`` leaves smaller ones at their size.
    """
    n, h, w, c = images.shape
    image_size = 0 if at_most and max(h, w) <= image_size else image_size
    shape = (n, image_size or h, image_size or w, channels or c)
    if images.shape == shape:
        return images
    from PIL import Image

    out = np.empty(shape, np.uint8)
    for image, place in zip(images, out, strict=True):
        picture = Image.fromarray(image[..., 0] if c == 1 else image)
        picture = picture.convert("L" if shape[3] == 1 else "RGB")
        picture = picture.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
        place[:] = np.asarray(picture).reshape(place.shape)
    return out


def class_names(archive: NpzFile, path: Path, labels: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The names of the C classes, their numbers where none are given."""
    present = np.unique(labels["train"])
    if "class_names" in archive:
        given = array(archive, path, "class_names")
        if given.ndim != 1:
            must = "it must be a list of names (C,)"
            raise Error(f"{path}: class_names has shape {given.shape}; {must}")
        names = given.tolist()
    else:
        names = range(int(present[-1]) + 1)
    count, highest = len(names), max(int(of_part.max()) for of_part in labels.values())
    if highest >= count:
        raise Error(f"{path} has a label {highest}, outside its {count} classes 0 to {count - 1}")
    if len(present) < count:
        missing = [*np.flatnonzero(present != np.arange(len(present))), len(present)][0]
        need = "labels must be 0 to C - 1, each with an image"
        raise Error(f"{path}: class {missing} has no training image; {need}")
    return tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names)


class Packed(Unread):
    """The images of a training part, of which some are here; another is an error.

    Arguments: ``images`` (M, H, W, C); ``indices`` (M,) their places among ``total`` N; ``made``
    says what was packed.
    """

    def __init__(self, images: np.ndarray, indices: np.ndarray, total: int, made: str):
        self.images, self.made, self.shape = images, made, (total, *images.shape[1:])
        self.place = np.full(total, -1)
        self.place[indices] = np.arange(len(indices))

    def __getitem__(self, key) -> np.ndarray:
        places = self.place[key]
        if (np.asarray(places) < 0).any():
            raise Error(
                f"the packed file holds {len(self.images):,} of {len(self):,} training images, "
                f"those of {self.made}, and not all that are asked for; a larger imbalance_factor "
                "with the same profile, n_max and split_seed finds its own among them"
            )
        return self.images[places]

    take = __getitem__


def pack(data: Dataset, manifest: Manifest, file: str | Path) -> int:
    """Write the long tail of a manifest, with the test part, to a file for source npz.

    Arguments: ``data`` the whole set that the manifest's indices are of. Returns: the file's bytes.
    """
    train = data.train
    parts = {"train": train.take(manifest.indices), "test": data.test, "val": data.val}
    arrays = {"class_names": np.array(train.classes)}
    for name, part in parts.items():
        if part is not None:
            images = np.asarray(part.images[:])
            grey = images.shape[3] == 1  # without their last axis, as the layout has them
            arrays[f"{name}_images"] = images[..., 0] if grey else images
            arrays[f"{name}_labels"] = part.labels
    made = f"profile {manifest.profile}, imbalance_factor {manifest.imbalance_factor:g}, "
    made += f"n_max {manifest.n_max}, split_seed {manifest.split_seed}"
    arrays |= dict(zip(EXTRA, (manifest.indices, train.labels, np.array(made)), strict=True))
    write_atomic(Path(file), lambda f: np.savez_compressed(f, **arrays))
    return Path(file).stat().st_size


def _unpack(train: Split, indices, labels, made, path: Path) -> Split:
    """The whole training part that a file stands for: its images, as far as they are here."""
    fits = (
        indices.shape == train.labels.shape
        and labels.ndim == 1
        and {indices.dtype.kind, labels.dtype.kind} <= set("iu")
        and len(np.unique(indices)) == len(indices)
        and 0 <= indices.min() <= indices.max() < len(labels)
        and 0 <= labels.min() <= labels.max() < len(train.classes)
        and np.array_equal(labels[indices], train.labels)
    )
    if not fits:
        fault = "source_indices and source_labels do not fit train_labels"
        raise Error(f"{path}: {fault}; pack it again with `h2t pack`")
    images = Packed(train.images, indices, len(labels), f"{str(made):.200}")
    return Split(images, labels.astype(np.int64), train.classes)
