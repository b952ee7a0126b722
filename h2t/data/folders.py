"""Class folders: which images there are, by the folders that they lie in."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.data.lists import JPEG, LOSSLESS, SUFFIXES, Found, Listed, objects, part_of

MASK = re.compile(r"(.+)[-_ ](mask|masks|seg|segmentation|gt|annotation)", re.I)


def find(root: str, notes: list[str]) -> Found:
    """The images of train/<class>/*, perhaps val/ and test/ beside it, or of class folders alone.

    Arguments: ``notes`` take what there is to say.
    """
    top, parts = Path(root), {}
    names = _folders(top)
    for name in filter(part_of, names):
        part = part_of(name)
        if part in parts:
            both = f"{parts[part].name}/ and {name}/, both of the {part} part"
            raise Error(f"folder {top} has {both}; keep one, or put the images of both into one")
        parts[part] = top / name
    if not parts:
        listed, classes = list_folder(top)
        return {"train": listed}, classes
    if "train" not in parts:
        there = ", ".join(f"{folder.name}/" for folder in parts.values())
        put = f"put the training images in {top}/train/<class>/"
        raise Error(f"folder {top} has {there} but no train/; {put}")
    if others := [f"{name}/" for name in names if not part_of(name)]:
        notes.append(f"left out beside {parts['train'].name}/: {', '.join(others):.200}")
    listed, classes = list_folder(parts["train"])
    found = {"train": listed}
    for part in [part for part in ("val", "test") if part in parts]:
        folder = parts[part]
        inside = _folders(folder)
        if any(folder.iterdir()) and len(inside) < 2 and not set(inside) & set(classes):
            what = "whose images are in no class folders; source lists reads list files"
            notes.append(f"left out: {folder.name}/, {what}")
        else:
            found[part], _ = list_folder(folder, classes)
    return found, classes


def list_folder(
    folder: Path, classes: tuple[str, ...] | None = None
) -> tuple[Listed, tuple[str, ...]]:
    """Images of ``folder/<class>/**``, classes and images in sorted order, and the classes' names.

    Hidden files are passed over, and so are masks: files that say so by their name, or a lossless
    file beside a JPEG of the same name. Arguments: ``classes`` that are expected, or None.
    Raises: ``h2t.Error`` for a missing, empty or unreadable folder, a class without images, or
    class folders that differ from those expected.
    """
    found, left_out = _folders(folder), Counter()
    if not found:
        raise Error(f"folder {folder} holds no class folders; put the images in {folder}/<class>/")
    if classes is not None and (odd := sorted(set(found) - set(classes))):
        raise Error(f"{folder} has a class {odd[0]!r} that the training part does not have")
    paths, labels = [], []
    for label, name in enumerate(classes or found):
        images = sorted(_images(folder, name, left_out)) if name in found else []
        if not images and classes is None:
            known = f"known endings: {', '.join(sorted(SUFFIXES))}"
            raise Error(f"class folder {folder / name} holds no images ({known})")
        paths += images
        labels += [label] * len(images)
    if not paths:
        raise Error(f"folder {folder} holds no images")
    if loose := sum(p.suffix.lower() in SUFFIXES for p in folder.iterdir() if p.name[0] != "."):
        left_out["images outside of the class folders"] += loose
    labels = np.array(labels, np.int64)
    return Listed(objects(paths), labels, root=folder, left_out=left_out), classes or found


def _folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted."""
    if not folder.is_dir():
        raise Error(f"folder {folder} does not exist; it must hold one folder of images per class")
    try:
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as e:
        raise Error(f"folder {folder} cannot be read: {e.strerror}") from None
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # of bytes that are no text
            raise Error(f"class folder {name!r} in {folder} has no name in UTF-8; rename it")
    return tuple(names)


def _images(folder: Path, name: str, left_out: Counter) -> list[str]:
    """The images of one class, relative to ``folder``; what is left out is counted."""

    def refuse(e: OSError):
        raise Error(f"folder {e.filename} cannot be read: {e.strerror}")

    def deeper(top: str, name: str) -> bool:  # a link to where it is would be walked for ever
        real = os.path.realpath(os.path.join(top, name))
        return name[0] != "." and not os.path.join(os.path.realpath(top), "").startswith(real + "/")

    images = []
    for top, folders, files in os.walk(folder / name, onerror=refuse, followlinks=True):
        folders[:] = [f for f in folders if deeper(top, f)]
        endings: dict[str, set[str]] = defaultdict(set)
        for stem, suffix in (os.path.splitext(file) for file in files if file[0] != "."):
            endings[stem].add(suffix)
        for stem, suffixes in endings.items():
            of = MASK.fullmatch(stem)
            mask = of and of[1] in endings
            jpeg = any(suffix.lower() in JPEG for suffix in suffixes)
            for suffix in suffixes:
                if suffix.lower() not in SUFFIXES:
                    left_out[f"{suffix or 'other'} files"] += 1
                elif mask or (jpeg and suffix.lower() in LOSSLESS):
                    left_out["masks or copies beside images"] += 1
                else:
                    path = os.path.relpath(os.path.join(top, stem + suffix), folder)
                    images.append(Path(path).as_posix())
    return images
