"""Which image files there are: class folders and list files."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from h2t.base.errors import Error

JPEG = {".jpg", ".jpeg", ".jfif"}
LOSSLESS = {".png", ".bmp", ".gif", ".tif", ".tiff"}
SUFFIXES = {*JPEG, *LOSSLESS, ".webp", ".ppm", ".pgm"}
LIST_SUFFIXES, PARTS = (".txt", ".csv", ".tsv"), ("train", "val", "test")
COLUMNS = {  # what the columns of a CSV file may be called
    "path": "path file filename file_name filepath file_path image image_path image_name img",
    "label": "label labels class class_name category target y",
    "part": "split part subset set",
    "group": "group groups group_id",
}
NUMBER = re.compile(r"-?[0-9]{1,18}(\.0+)?")
MASK = re.compile(r"(.+)[-_ ](mask|masks|seg|segmentation|gt|annotation)", re.I)
PART = re.compile(
    r"(train|training|val|valid|validation|test|testing)[-_ ]?(set|data|images|split|\d{4})?", re.I
)


def part_of(name: str) -> str:
    """The part that a name says, in any case: train, val or test, such as of Testing; or ""."""
    found = PART.fullmatch(name.strip())
    return {"tr": "train", "va": "val", "te": "test"}[found[1][:2].lower()] if found else ""


@dataclass(frozen=True)
class Listed:
    """Image files by name.

    ``paths`` (N,) str, relative to a root; ``labels`` (N,) int64, or names; ``groups`` (N,) names
    of what a split keeps together, and ``parts`` (N,), if they are given; ``left_out`` how many
    files or lines were passed over, by kind.
    """

    paths: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    parts: np.ndarray | None = None
    left_out: Counter = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> Listed:
        groups, parts = (None if a is None else a[rows] for a in (self.groups, self.parts))
        return Listed(self.paths[rows], self.labels[rows], groups, parts, self.left_out)


def objects(values: Iterable[str]) -> np.ndarray:
    """Strings as an array of Python objects, each as long as it is."""
    values = list(values)
    out = np.empty(len(values), object)
    out[:] = values
    return out


def read_list(file: str | Path) -> Listed:
    """Read a list file: ``relative/path label`` a line, or a CSV file with a header.

    Between path and label stands a space, and then paths may contain spaces, a tab or a comma.
    Labels are whole numbers or names. A line that stands twice counts once.
    Raises: ``h2t.Error`` naming file and line for a malformed one, a path that leaves the image
    root, or a path with two labels.
    """
    try:
        with open(file, encoding="utf-8-sig") as lines:
            return _listed(file, (line.rstrip("\r\n") for line in lines))
    except FileNotFoundError:
        raise Error(f"list file {file} does not exist") from None
    except UnicodeDecodeError:
        raise Error(f"list file {file} is not UTF-8 text; save it as that") from None
    except (OSError, csv.Error) as e:
        why = getattr(e, "strerror", None) or e
        raise Error(f"list file {file} cannot be read: {why}") from None


def _listed(file, lines: Iterable[str]) -> Listed:
    values: dict[str, list[str]] = {}
    separator, columns, header, numbered, blank = " ", {}, False, False, ""
    for k, line in enumerate(lines, 1):
        if not line.strip():
            blank = blank or f"{file}, line {k}: {line[:80]!r} is not `relative/path label`"
            continue
        if blank:  # only at the end
            break
        if not values:
            separator, columns, header = _form(line)
            values = {name: [] for name in columns}
            if header:
                continue
            numbered = bool(NUMBER.fullmatch(_fields(line, separator)[-1]))
        fields = _fields(line, separator)
        row = {name: fields[c] for name, c in columns.items() if c < len(fields)}
        path, label = row.get("path", ""), row.get("label", "")
        number = NUMBER.fullmatch(label)
        good = path.strip() and label and len(row) == len(columns)
        if not header:
            known = numbered or PurePosixPath(path).suffix.lower() in SUFFIXES
            good = good and known and (number or not numbered)
        if not good or (number and label[0] == "-"):
            what = f"`{separator.join(columns)}` as the header has it"
            what = what if header else "`relative/path label` with a whole number from 0 as label"
            raise Error(f"{file}, line {k}: {line[:80]!r} is not {what}")
        if ".." in path or path[0] in "/\\" or path[1:2] == ":" or "\0" in path:
            _refuse_escape(file, k, path)
        for name, value in row.items():
            values[name].append(value)
    else:
        blank = ""
    if blank:
        raise Error(blank)
    if not values or not values["path"]:
        raise Error(f"list file {file} is empty")
    more = {f"{name}s": objects(values[name]) for name in ("group", "part") if name in values}
    listed = Listed(objects(values["path"]), _labels(values["label"]), **more)
    return listed if len(set(listed.paths)) == len(listed) else _once(file, listed)


def _form(first: str) -> tuple[str, dict[str, int], bool]:
    """How the lines after the first are to be read: separator, columns, and whether it is a header."""
    for separator in ",\t;":
        header = [name.strip().lower() for name in _fields(first, separator)]
        columns = {}
        for kind, names in COLUMNS.items():
            if known := set(names.split()) & set(header):
                columns[kind] = min(map(header.index, known))
        if {"path", "label"} <= set(columns):
            return separator, columns, True
    separator = " "
    if "\t" in first:
        separator = "\t"
    elif "," in first and not NUMBER.fullmatch(first.rpartition(" ")[2]):
        separator = ","
    return separator, {"path": 0, "label": 1}, False


def _fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return [*line.rpartition(" ")[::2]]
    return next(csv.reader([line], delimiter=separator), [])


def _labels(labels: list[str]) -> np.ndarray:
    if all(map(NUMBER.fullmatch, labels)):
        return np.array([int(label.partition(".")[0]) for label in labels], np.int64)
    return objects(label.strip() for label in labels)


def _refuse_escape(file, line: int, path: str) -> None:
    if "\0" in path:
        raise Error(
            f"{file}, line {line}: the path {path[:80]!r} holds a zero byte; save it as plain text"
        )
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if ".." in parts or path[0] in "/\\" or path[1:2] == ":":
        raise Error(
            f"{file}, line {line}: the path {path[:80]!r} leaves the image root; "
            "write it relative to the root, without '..'"
        )


def _once(file, listed: Listed) -> Listed:
    """A list without the lines that say what an earlier one says."""
    first: dict[str, int] = {}
    for k, path in enumerate(listed.paths):
        before = first.setdefault(path, k)
        if listed.labels[before] != listed.labels[k]:
            raise Error(
                f"{file}: {path[:200]!r} is listed with two labels, {listed.labels[before]} and "
                f"{listed.labels[k]}; keep one"
            )
    listed.left_out["repeated lines"] += len(listed) - len(first)
    return listed.take(np.fromiter(first.values(), np.int64))


def numbered(where, lists: dict[str, Listed]) -> tuple[dict[str, Listed], tuple[str, ...]]:
    """The lists of a set with labels 0 to C - 1, and the names of its classes.

    Names are numbered in sorted order; numbers from 1 on are counted from 0.
    Raises: ``h2t.Error`` where labels have gaps, or one is not among the training list's.
    """
    if any(part.labels.dtype == object for part in lists.values()):
        classes = tuple(sorted(set(map(str, lists["train"].labels))))
        number = {name: k for k, name in enumerate(classes)}
        for kind, part in lists.items():
            if odd := next((x for x in part.labels if str(x) not in number), None):
                raise Error(f"class {odd!r} of the {kind} list in {where} has no training image")
        labels = {p: [number[str(x)] for x in part.labels] for p, part in lists.items()}
    else:
        listed = np.unique(lists["train"].labels)
        first = int(min(part.labels.min() for part in lists.values()) == listed[0] == 1)
        if (gaps := np.flatnonzero(listed != np.arange(len(listed)) + first)).size:
            c = int(gaps[0])
            raise Error(
                f"the training list in {where} has label {listed[c]} but no image of class "
                f"{c + first}; labels must be 0 to C - 1, or 1 to C, each with an image"
            )
        highest = max(int(part.labels.max()) for part in lists.values())
        if highest > listed[-1]:
            raise Error(
                f"label {highest} is outside the range of the training list in {where}: "
                f"its labels are {listed[0]} to {listed[-1]}"
            )
        classes = tuple(map(str, listed))
        labels = {p: part.labels - first for p, part in lists.items()}
    return {
        p: Listed(part.paths, np.asarray(labels[p], np.int64), part.groups, None, part.left_out)
        for p, part in lists.items()
    }, classes


def list_folder(
    folder: Path, classes: tuple[str, ...] | None = None
) -> tuple[Listed, tuple[str, ...]]:
    """Images of ``folder/<class>/**``, classes and images in sorted order, and the classes' names.

    Hidden files are passed over, and so are masks: files that say so by their name, or a lossless
    file beside a JPEG of the same name.

    Arguments: ``classes`` the names that are expected, or None to take those that are there.
    Raises: ``h2t.Error`` for a missing, empty or unreadable folder, a class without images, or
    class folders that differ from those expected.
    """
    found, left_out = class_folders(folder), Counter()
    if not found:
        raise Error(f"folder {folder} holds no class folders; put the images in {folder}/<class>/")
    if classes is not None and (odd := sorted(set(found) - set(classes))):
        raise Error(f"{folder} has a class {odd[0]!r} that the training part does not have")
    paths, labels = [], []
    for label, name in enumerate(classes or found):
        images = sorted(_images(folder, name, left_out)) if name in found else []
        if not images and classes is None:
            raise Error(
                f"class folder {folder / name} holds no images "
                f"(known endings: {', '.join(sorted(SUFFIXES))})"
            )
        paths += images
        labels += [label] * len(images)
    if loose := sum(p.suffix.lower() in SUFFIXES for p in folder.iterdir() if p.name[0] != "."):
        left_out["images outside of the class folders"] += loose
    return Listed(objects(paths), np.array(labels, np.int64), left_out=left_out), classes or found


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted. Raises ``h2t.Error`` where it cannot be read."""
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

    images = []
    for top, folders, files in os.walk(folder / name, onerror=refuse, followlinks=True):
        real = os.path.join(os.path.realpath(top), "")
        # a link to a folder that it is in would be walked for ever
        folders[:] = [
            f
            for f in folders
            if f[0] != "." and not real.startswith(os.path.realpath(os.path.join(top, f)) + "/")
        ]
        endings: dict[str, set[str]] = {}
        for file in files:
            if file[0] != ".":
                stem, suffix = os.path.splitext(file)
                endings.setdefault(stem, set()).add(suffix)
        for stem, suffixes in endings.items():
            jpeg = any(s.lower() in JPEG for s in suffixes)
            of = MASK.fullmatch(stem)
            for suffix in suffixes:
                known = suffix.lower() in SUFFIXES
                if not known:
                    left_out[f"{suffix or 'other'} files"] += 1
                elif (jpeg and suffix.lower() in LOSSLESS) or (of and of[1] in endings):
                    left_out["masks or copies beside images"] += 1
                else:
                    path = os.path.join(top, stem + suffix)
                    images.append(Path(os.path.relpath(path, folder)).as_posix())
    return images
