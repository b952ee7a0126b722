"""List files: which images there are, one a line, with their labels."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from h2t.base.errors import Error
from h2t.base.readers import reading, regular

JPEG = {".jpg", ".jpeg", ".jfif"}
LOSSLESS = {".png", ".bmp", ".gif", ".tif", ".tiff"}
SUFFIXES = {*JPEG, *LOSSLESS, ".webp", ".ppm", ".pgm"}
PARTS = ("train", "val", "test")
LISTS = (".txt", ".csv", ".tsv")
COLUMNS = {  # what the columns of a CSV file may be called
    "path": "path file filename file_name filepath file_path image image_path image_name img",
    "label": "label labels class class_name category target y",
    "part": "split part subset set",
    "group": "group groups group_id",
}
NUMBER = re.compile(r"-?[0-9]{1,18}(\.0+)?")
_PART = re.compile(
    r"(train|training|val|valid|validation|test|testing)[-_ ]?(set|data|images|split|\d{4})?", re.I
)


def part_of(name: str) -> str:
    """The part that a name says in any case, such as test of Testing, or ""."""
    found = _PART.fullmatch(name.strip())
    return {"tr": "train", "va": "val", "te": "test"}[found[1][:2].lower()] if found else ""


@dataclass(frozen=True)
class Listed:
    """Image files: ``paths`` (N,) relative to ``root``; ``labels`` (N,) int64, or names; ``groups``
    (N,) names of what a split keeps together; ``left_out`` how many files or lines were passed
    over, by kind."""

    paths: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    parts: np.ndarray | None = None
    root: Path = Path()
    left_out: Counter = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> Listed:
        groups, parts = (None if a is None else a[rows] for a in (self.groups, self.parts))
        return Listed(self.paths[rows], self.labels[rows], groups, parts, self.root)


Found = tuple[dict[str, Listed], tuple[str, ...]]  # the parts and the names of the classes


def objects(values: Iterable[str]) -> np.ndarray:
    """Strings as an array of Python objects, each as long as it is."""
    values = list(values)
    out = np.empty(len(values), object)
    out[:] = values
    return out


def find(root: str) -> Found:
    """The images of list files named after their parts, or of one CSV file.

    Arguments: ``root`` a folder, LISTS:IMAGES, or a list file.
    """
    if Path(root).is_file():
        where, images, parts = Path(root), Path(root).parent, _by_column(Path(root))
    else:
        where, images = split_root(root)
        files = [p for p in sorted(where.iterdir()) if p.suffix.lower() in LISTS]
        parts = {part: read_list(file) for part, file in _by_name(where, files).items()}
        tables = [p for p in files if p.suffix.lower() != ".txt"]
        if not parts and len(tables) == 1:
            parts = _by_column(tables[0])
    if "train" not in parts:
        raise Error(f"{where} has no list file *train*.txt or .csv")
    parts, classes = numbered(where, parts)
    return {part: replace(listed, root=images) for part, listed in parts.items()}, classes


def split_root(root: str) -> tuple[Path, Path]:
    """The folders of the list files and of the images: one for both, or LISTS:IMAGES."""
    if Path(root).is_dir():
        return Path(root), Path(root)
    lists, _, images = root.partition(":")
    folders = Path(lists), Path(images or lists)
    for name, path in zip(("list folder", "image root"), folders, strict=True):
        if not path.is_dir():
            mend = "root is the folder of both, or LISTS:IMAGES"
            raise Error(f"{name} {path} does not exist; {mend}")
    return folders


def _by_name(where: Path, files: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        named = [part for part in PARTS if part in file.stem.lower()]
        if len(named) > 1:
            after = f"{file} is named after {' and '.join(named)}"
            raise Error(f"list file {after}; rename it to say which part it is")
        for part in named:
            if part in found:
                both = f"{found[part].name}, {file.name}"
                raise Error(f"{where} has several {part} lists ({both:.300}); keep one")
            found[part] = file
    return found


def _by_column(file: Path) -> dict[str, Listed]:
    """One file, all of it for training unless a column says the part."""
    listed = read_list(file)
    if listed.parts is None:
        return {"train": listed}
    said = np.array([part_of(name) for name in listed.parts])
    if not all(said):
        odd = listed.parts[said == ""][0]
        raise Error(f"{file} has a part {odd[:80]!r}; choose of {', '.join(PARTS)}")
    parts = {part: listed.take(np.flatnonzero(said == part)) for part in PARTS if part in said}
    next(iter(parts.values())).left_out.update(listed.left_out)  # of the file, so counted once
    return parts


def read_list(file: str | Path) -> Listed:
    """Read a list file: ``relative/path label`` a line, or a CSV file with a header.

    Between path and label stands a space, and then paths may contain spaces, a tab or a comma.
    Labels are whole numbers or names. A line that stands twice counts once.
    Raises: ``h2t.Error`` naming file and line for a malformed one, a path that leaves the image
    root, or a path with two labels.
    """
    with reading(Path(file), "a list file is UTF-8 text, a path and a label a line"):
        regular(Path(file))
        with open(file, encoding="utf-8-sig") as lines:
            values = _columns(file, lines)
    if not values["path"]:
        raise Error(f"list file {file} is empty")
    labels = objects(label.strip() for label in values["label"])
    if all(map(NUMBER.fullmatch, labels)):
        labels = np.array([int(label.partition(".")[0]) for label in labels], np.int64)
    groups, parts = (objects(values[k]) if k in values else None for k in ("group", "part"))
    return _once(file, Listed(objects(values["path"]), labels, groups, parts))


def _columns(file, lines: Iterator[str]) -> dict[str, list[str]]:
    """The values of each column of a list file."""
    form, values = None, defaultdict(list)
    for k, line in enumerate(lines, 1):
        line = line.rstrip("\n")
        if form is None:
            form = _form_of(line)
            if form.header:
                continue
        row = form.row(line)
        if row is None:
            if not line.strip() and not any(rest.strip() for rest in lines):
                break  # blank lines at the end
            wanted = "a path and a label, a whole number from 0 or a name, or lacks a column"
            raise Error(f"{file}, line {k}: {line[:80]!r} is not {wanted}")
        path = row["path"]
        outside = path[0] in "/\\" or path[1:2] == ":" or ".." in re.split(r"[/\\]", path)
        if outside or "\0" in path:
            raise Error(
                f"{file}, line {k}: the path {path[:80]!r} leaves the image root or holds a zero "
                "byte; write it relative to the root, without '..'"
            )
        for name, value in row.items():
            values[name].append(value)
    return values


@dataclass(frozen=True)
class _Form:
    """How lines are written: what separates fields, which is what, whether labels are numbers."""

    separator: str
    columns: dict[str, int]
    header: bool = False
    numbers: bool = False

    def row(self, line: str) -> dict[str, str] | None:
        """The fields of a line, or None where it is malformed."""
        fields = _fields(line, self.separator)
        if len(fields) <= max(self.columns.values()):
            return None
        row = {name: fields[k] for name, k in self.columns.items()}
        if not row["path"].strip() or not row["label"]:
            return None
        if NUMBER.fullmatch(row["label"]):
            return None if row["label"][0] == "-" else row
        image = PurePosixPath(row["path"]).suffix.lower() in SUFFIXES
        return row if self.header or (image and not self.numbers) else None


def _form_of(first: str) -> _Form:
    """How a list is written, by its first line."""
    for separator in ",\t;":
        header = [name.strip().lower() for name in _fields(first, separator)]
        columns = {}
        for kind, names in COLUMNS.items():
            if found := [k for k, name in enumerate(header) if name in names.split()]:
                columns[kind] = found[0]
        if {"path", "label"} <= columns.keys():
            return _Form(separator, columns, header=True)
    separator = "\t" if "\t" in first else " "
    if separator == " " and "," in first and not NUMBER.fullmatch(first.rpartition(" ")[2]):
        separator = ","
    form = _Form(separator, {"path": 0, "label": 1})
    row = form.row(first)
    return replace(form, numbers=row is None or bool(NUMBER.fullmatch(row["label"])))


def _fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return [*line.rpartition(" ")[::2]]
    return next(csv.reader([line], delimiter=separator), [])


def _once(file, listed: Listed) -> Listed:
    """A list without the lines that say what an earlier one says."""
    if len(set(listed.paths)) == len(listed):
        return listed
    first: dict[str, int] = {}
    for k, path in enumerate(listed.paths):
        before, label = listed.labels[first.setdefault(path, k)], listed.labels[k]
        if before != label:
            raise Error(f"{file}: {path[:200]!r} has two labels, {before} and {label}; keep one")
    once = listed.take(np.fromiter(first.values(), np.int64))
    once.left_out["repeated lines"] = len(listed) - len(first)
    return once


def numbered(where, lists: dict[str, Listed]) -> tuple[dict[str, Listed], tuple[str, ...]]:
    """The lists of a set with labels 0 to C - 1, and the names of its classes.

    Names are numbered in sorted order; numbers from 1 on are counted from 0.
    Raises: ``h2t.Error`` where labels have gaps, or one is not among the training list's.
    """
    if any(listed.labels.dtype == object for listed in lists.values()):
        classes = tuple(sorted(set(map(str, lists["train"].labels))))
        return {part: _by_class(where, listed, classes) for part, listed in lists.items()}, classes
    known = np.unique(lists["train"].labels)
    first = int(min(listed.labels.min() for listed in lists.values()) == known[0] == 1)
    if (gaps := np.flatnonzero(known != np.arange(len(known)) + first)).size:
        lacks = f"label {known[gaps[0]]} but no image of class {gaps[0] + first}"
        need = "labels must be 0 to C - 1, or 1 to C, each with an image"
        raise Error(f"the training list in {where} has {lacks}; {need}")
    highest = max(int(listed.labels.max()) for listed in lists.values())
    if highest > known[-1]:
        outside = f"label {highest} is outside the range of the training list in {where}"
        raise Error(f"{outside}: its labels are {known[0]} to {known[-1]}")
    lists = {part: replace(listed, labels=listed.labels - first) for part, listed in lists.items()}
    return lists, tuple(map(str, known))


def _by_class(where, listed: Listed, classes: tuple[str, ...]) -> Listed:
    """A list with numbers in place of its classes' names."""
    number = {name: k for k, name in enumerate(classes)}
    if odd := next((x for x in listed.labels if str(x) not in number), None):
        raise Error(f"{where} has a class {str(odd)[:80]!r} that the training part does not have")
    labels = np.array([number[str(label)] for label in listed.labels], np.int64)
    return replace(listed, labels=labels)
