"""Sets of image files in the layouts that people have: folders of classes, and list files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.data.large import split_root
from h2t.data.lists import (
    LIST_SUFFIXES,
    PARTS,
    Listed,
    class_folders,
    list_folder,
    numbered,
    part_of,
    read_list,
)

Found = tuple[dict[str, tuple[Path, Listed]], tuple[str, ...]]  # part to root and images; classes


def folder(root: str, notes: list[str]) -> Found:
    """A folder of train/<class>/*, perhaps val/ and test/ beside it, or of class folders alone.

    Arguments: ``notes`` take what there is to say. Raises: ``h2t.Error``.
    """
    top, parts = Path(root), {}
    if not top.is_dir():
        raise Error(
            f"folder {top} does not exist; "
            "it must hold train/<class>/ or one folder of images per class"
        )
    names = class_folders(top)
    for name in names:
        if (part := part_of(name)) in parts:
            raise Error(
                f"folder {top} has {parts[part].name}/ and {name}/, both of the {part} part; "
                "keep one, or put the images of both into one"
            )
        if part:
            parts[part] = top / name
    if parts and "train" not in parts:
        there = parts[min(parts, key=PARTS.index)].name
        raise Error(
            f"folder {top} has {there}/ but no train/; "
            f"put the training images in {top}/train/<class>/"
        )
    if parts and (others := [f"{name}/" for name in names if not part_of(name)]):
        notes.append(f"left out beside {parts['train'].name}/: {', '.join(others):.200}")
    listed, classes = list_folder(parts.get("train", top))
    found = {"train": (parts.get("train", top), listed)}
    for part in ("val", "test"):
        if part in parts and (more := _further(parts[part], classes, notes)):
            found[part] = more
    return found, classes


def _further(top: Path, classes: tuple[str, ...], notes: list[str]) -> tuple[Path, Listed] | None:
    """The val or test part: class folders, or images with one list of their classes, if any."""
    names = class_folders(top)
    files = [p for p in sorted(top.iterdir()) if p.suffix.lower() in LIST_SUFFIXES]
    if set(names) & set(classes) or len(names) > 1:
        listed, _ = list_folder(top, classes)
        if not len(listed):
            raise Error(f"folder {top} holds no images")
        return top, listed
    if len(files) != 1:
        if not names and not any(top.iterdir()):
            raise Error(f"folder {top} holds no images")
        notes.append(f"left out: {top.name}/, whose images are in no class folders and no list")
        return None
    listed = read_list(files[0])
    number = {name: k for k, name in enumerate(classes)}
    if odd := next((label for label in listed.labels if str(label) not in number), None):
        raise Error(f"{files[0]} has a class {str(odd)!r} that the training part does not have")
    labels = np.array([number[str(label)] for label in listed.labels], np.int64)
    inside = top / names[0] if names else top
    return inside, Listed(listed.paths, labels, listed.groups, None, listed.left_out)


def lists(root: str, notes: list[str]) -> Found:
    """List files named after their parts, or one CSV file, and where its images are.

    Arguments: ``root`` a folder, LISTS:IMAGES, or a list file. Raises: ``h2t.Error``.
    """
    if Path(root).is_file():
        where = Path(root)
        parts, images = _by_column(where), where.parent
    else:
        where, images = split_root(root)
        files = [p for p in sorted(where.iterdir()) if p.suffix.lower() in LIST_SUFFIXES]
        parts = {part: read_list(file) for part, file in _by_name(where, files).items()}
        tables = [p for p in files if p.suffix.lower() != ".txt"]
        if not parts and len(tables) == 1:
            parts = _by_column(tables[0])
    if "train" not in parts:
        raise Error(f"{where} has no list file *train*.txt or .csv")
    parts, classes = numbered(where, parts)
    return {part: (images, listed) for part, listed in parts.items()}, classes


def _by_name(where: Path, files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        named = [part for part in PARTS if part in file.stem.lower()]
        if len(named) > 1:
            raise Error(
                f"list file {file} is named after {' and '.join(named)}; "
                "rename it to say which part it is"
            )
        if named and named[0] in found:
            both = f"{found[named[0]].name}, {file.name}"
            raise Error(f"{where} has several {named[0]} lists ({both}); keep one")
        if named:
            found[named[0]] = file
    return {part: found[part] for part in PARTS if part in found}


def _by_column(file: Path) -> dict[str, Listed]:
    """One file, all of it for training unless it has a column that says the part."""
    listed = read_list(file)
    if listed.parts is None:
        return {"train": listed}
    said = np.array([part_of(name) for name in listed.parts])
    if not all(said):
        raise Error(
            f"{file} has a part {listed.parts[said == ''][0]!r}; choose of train, val and test"
        )
    return {part: listed.take(np.flatnonzero(said == part)) for part in PARTS if part in said}
