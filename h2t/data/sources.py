"""Sources of images, behind one ``load``.

digits: scikit-learn's 1,797 handwritten digits, 8x8 grey, embedded; no root
cifar10, cifar100: through torchvision; root is the folder they are in, or are downloaded to
npz: root is a file in the MedMNIST layout: train_images (N, H, W) or (N, H, W, 3), uint8 or floats
    from 0 to 1, train_labels (N,) or (N, 1), and optionally val_*, test_* and class_names; or one
    of `h2t pack`, a long tail that stands for its whole set
folder: root holds train/<class>/*, and optionally val/ and test/ alike (also Training, valid,
    Test_set, ...), or the class folders themselves
features: root is a file of features that others computed (embeddings.py), for encoder features:FILE
lists: root is the image root with a list or CSV file each that is named after train, val and test,
    or with one CSV file with the columns path, label and perhaps split and group; or that file;
    lists that lie elsewhere are named LISTS:IMAGES
imagenet_lt, places_lt, inaturalist2018: the large sets by their published list files; root as for
    lists; iNaturalist 2018 is tested on its validation list, as the field does
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import alone
from h2t.data import arrays, embeddings, folders, large, lists
from h2t.data.cache import Reading, decode
from h2t.data.images import deepest, fitting
from h2t.data.longtail import stratified
from h2t.data.split import Dataset, Files, Split
from h2t.data.twins import identical, near

LOADERS = ("auto", "resident", "streamed")
FILES = ("folder", "lists", *large.SETS)  # sources whose images are files
ROOTED = ("npz", "features", *FILES)  # whose root must be there
SOURCES = ("digits", "cifar10", "cifar100", *ROOTED)
STREAM_ABOVE = 4 << 30  # bytes of decoded images that loader auto no longer keeps decoded


def load(
    name: str,
    root: str | Path = "",
    *,
    image_size: int = 0,
    at_most: bool = False,
    channels: int = 0,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    image_fit: str = "stretch",
    loader: str = "auto",
    white_level: int = 0,
    follow_links: bool = False,
    skip_damaged: bool = False,
    drop_identical: bool = False,
    keep_together: bool = False,
    progress: bool = True,
) -> Dataset:
    """Load a set of images by the name of its source, as described above.

    Where there is no test part, one is held out (``longtail.stratified``); a validation part is
    never used as such.

    Arguments: those of a recipe (`h2t parameters`); ``at_most`` leaves arrays of smaller images as
    they are. Raises: ``h2t.Error`` naming the file, line or class at fault.
    """
    root, notes = str(root), []
    _check(name, root, image_size, channels, test_fraction, split_seed, image_fit, loader)
    if follow_links and name != "folder":
        raise Error(f"follow_links is for source folder; lists of source {name} stay in their root")
    found, classes = _find(name, root, keep_together, notes) if name in FILES else ({}, ())
    if found:
        how = {"image_size": image_size, "channels": channels, "fit": image_fit}
        how["white_level"] = white_level
        reading = Reading(how, loader == "streamed", follow_links, skip_damaged, progress)
        parts = _read(found, classes, loader, reading, notes)
    else:
        parts = _arrays(name, root, image_size, channels, at_most)
    drawn = "test" not in parts
    if drawn:
        parts = _with_test(name, root, parts, test_fraction, split_seed, notes)
    _same_shape(name, parts)
    parts["train"] = _twins(parts["train"], parts["test"], drop_identical, notes)
    sizes = " + ".join(f"{len(split):,} {part}" for part, split in parts.items())
    read = f"read {len(parts['train'].classes)} classes, {sizes} images"
    return Dataset(name, parts["train"], parts["test"], parts.get("val"), (read, *notes), drawn)


def _find(name: str, root: str, keep_together: bool, notes: list[str]) -> lists.Found:
    """Which image files there are, with groups where those are kept together."""
    if name == "folder":
        found, classes = folders.find(root, notes)
    else:
        found, classes = lists.find(root) if name == "lists" else large.find(name, root)
    for part, listed in found.items():
        if keep_together and listed.groups is None:
            # the folders below a class folder, or those of a list
            cut = slice(2) if name == "folder" else slice(-1)
            groups = lists.objects("/".join(p.split("/")[cut]) for p in listed.paths)
            found[part] = replace(listed, groups=groups)
    return found, classes


def _read(found: dict, classes, loader: str, reading: Reading, notes: list[str]):
    """The parts, decoded or left as files."""
    how = reading.image
    size = sum(map(len, found.values())) * how["image_size"] ** 2 * (how["channels"] or 3)
    if loader == "auto" and size > STREAM_ABOVE:
        reading = replace(reading, streamed=True)
    if reading.streamed and reading.skip_damaged:
        raise Error("skip_damaged needs the images decoded beforehand; set loader to resident")
    parts = {part: decode(listed, classes, reading, part) for part, listed in found.items()}
    if left := sum((listed.left_out for listed in found.values()), Counter()):
        notes.append("left out: " + ", ".join(f"{n:,} {what}" for what, n in left.items()))
    train = found["train"]
    some = train.paths[:: max(1, len(train) // 16)]
    brightest = 0 if how["white_level"] else max(deepest(train.root / path) for path in some)
    if 255 < brightest < 4096:
        notes.append(
            f"the images are of 16 bits, but none of {len(some)} goes above {brightest}, so that "
            "they are almost black; set white_level to 4095 if they are of 12 bits"
        )
    return parts


def _check(name, root, image_size, channels, test_fraction, split_seed, image_fit, loader) -> None:
    """What the fields of a recipe's parameters check too, for those who call ``load``."""
    for what, value, choices in (
        ("source", name, SOURCES),
        ("channels", channels, (0, 1, 3)),
        ("loader", loader, LOADERS),
    ):
        if value not in choices:
            raise Error(f"{what} is {value!r}; choose one of {', '.join(map(str, choices))}")
    for what, value in (("image_size", image_size), ("split_seed", split_seed)):
        if not isinstance(value, int | np.integer) or not 0 <= value < 2**32:
            raise Error(f"{what} is {value!r}; it must be a whole number from 0 to 4294967295")
    if not 0 < test_fraction < 1:
        raise Error(f"test_fraction is {test_fraction!r}; it must be between 0 and 1")
    if name != "digits" and not root:
        raise Error(f"source {name!r} needs root, the folder or file of its images")
    fit = fitting(image_fit)
    if name not in FILES and (loader == "streamed" or fit != (0, "bilinear")):
        has = f"are for image files, which source {name!r} has not"
        raise Error(f"loader streamed and image_fit {has}; use {', '.join(FILES)}")
    if fit[0] and not image_size:
        raise Error("image_fit crop needs image_size, the side of the square; set it to 224, say")
    if loader == "streamed" and image_size < 8:
        raise Error("loader streamed needs image_size, at least 8 (224 on the large sets)")


def _with_test(name, root, parts, test_fraction, split_seed, notes) -> dict[str, Split]:
    """The parts, with a test part held out of the training part."""
    train = parts["train"]
    how = len(train.classes), test_fraction, split_seed, train.groups
    kept, held = stratified(train.labels, *how)
    if not len(held):
        none = f"no class of {root} has two images (or groups) to hold one out"
        raise Error(f"{name} has no test part, and {none}; add a test part")
    said = "no test part: it is held out of the training part (test_fraction)"
    notes.append(said + ("; to measure on val, name that test" if "val" in parts else ""))
    return {**parts, "train": train.take(kept), "test": train.take(held)}


def _same_shape(name: str, parts: dict[str, Split]) -> None:
    shape = parts["train"].images.shape[1:]
    for part, split in parts.items():
        h, w, _ = here = split.images.shape[1:]
        if min(h, w) < 8:
            raise Error(f"{name} images are {h}x{w} pixels ({part}); set image_size to at least 8")
        if here != shape:
            differ = f"{part} images are {here}, training images {shape} (H, W, C)"
            raise Error(f"{differ}; set image_size and channels")


def _twins(train: Split, test: Split, drop: bool, notes: list[str]) -> Split:
    """The training part, with ``drop`` without what is also in the test part; twins are counted."""
    if isinstance(train.images, arrays.Packed):
        return train
    same = identical(train, test)
    if drop and same.any():
        notes.append(f"left out of training: {same.sum():,} images that are also in the test part")
        train = train.take(np.flatnonzero(~same))
    elif same.any():
        notes.append(
            f"{same.sum():,} training images are also in the test part, to the last byte; "
            "drop_identical leaves them out of training"
        )
    if isinstance(train.images, Files):
        notes.append("the set is streamed: near twins of its test images are not looked for")
        return train
    alike, seen = (0, 0) if train.paths is None else near(train, test)
    if alike:
        notes.append(
            f"{alike:,} of {seen:,} test images look much like a training image; if they "
            "show the same thing, put what belongs together into one folder and set "
            "keep_together, or list it with a column group"
        )
    return train


def _arrays(name: str, root: str, *how: int) -> dict[str, Split]:
    """The parts of a source without image files. Arguments: ``how`` as of ``arrays.resized``."""
    if name == "npz":
        return arrays.read(Path(root), *how)
    if name == "features":
        return embeddings.read(Path(root))
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        labels = digits.target.astype(np.int64)
        return {"train": Split(arrays.resized(images, *how), labels, tuple("0123456789"))}
    parts = {part: _cifar(name, root, part) for part in ("train", "test")}
    return {
        part: Split(
            arrays.resized(data.data, *how), np.array(data.targets, np.int64), tuple(data.classes)
        )
        for part, data in parts.items()
    }


def _cifar(name: str, root: str, part: str):
    """torchvision's data set of a part, downloaded where it is not there."""
    from torchvision import datasets

    kind, train = getattr(datasets, name.upper()), part == "train"
    try:
        try:
            return kind(root, train=train, download=False)
        except RuntimeError:  # not there, or another process is at it
            with alone(Path(root) / f".{name}.lock"):
                there = (Path(root) / kind.base_folder).is_dir()
                return kind(root, train=train, download=not there)
    except Exception as e:
        raise Error(
            f"{name} could not be had in {root}: {' '.join(str(e).split())}. Put the extracted "
            f"folder {kind.base_folder!r} there (archive {kind.filename}), or let it be downloaded "
            "with a network"
        ) from None
