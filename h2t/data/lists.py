"""Which image files there are: class folders and list files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from h2t.base.errors import Error

BLOCK = (
    1 << 20
)  # bytes of a list file at a time: what fits the processor's cache keeps the time linear
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


class Paths:
    """A million relative paths as one buffer and their offsets: 16 bytes each beside the text, sliced like an array.

    Arguments: ``text`` UTF-8 bytes; ``start`` and ``end`` (N,) int64 offsets of each path.
    """

    def __init__(self, text: bytes, start: np.ndarray, end: np.ndarray):
        self.text, self.start, self.end = text, start, end

    @classmethod
    def of(cls, paths: list[str]) -> Paths:
        encoded = [p.encode("utf-8", "surrogateescape") for p in paths]
        end = np.cumsum([len(p) for p in encoded])
        return cls(b"".join(encoded), np.concatenate([[0], end[:-1]]).astype(np.int64), end)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, k):
        if isinstance(k, int | np.integer):
            return self.text[self.start[k] : self.end[k]].decode("utf-8", "surrogateescape")
        return Paths(self.text, self.start[k], self.end[k])

    def __iter__(self):
        return (self[k] for k in range(len(self)))


def read_list(file: str | Path) -> tuple[Paths, np.ndarray]:
    """Read a list file of the field, ``relative/path label`` a line, separated by one space; paths may contain spaces.

    Works on the bytes as one array, so that lists of millions cost no Python object a line.

    Returns: paths (N,) and labels (N,) int64. Raises: ``h2t.Error`` naming file and line for a malformed line or a path
    that leaves the image root.
    """
    try:
        text = Path(file).read_bytes()
    except FileNotFoundError:
        raise Error(f"list file {file} does not exist") from None
    except OSError as e:
        raise Error(f"list file {file} cannot be read: {e.strerror}") from None
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if not text.endswith(b"\n") or text[-2:-1].isspace():
        text = text.rstrip() + b"\n"
    if text == b"\n":
        raise Error(f"list file {file} is empty")
    raw, parts, begin, lines = np.frombuffer(text, np.uint8), [], 0, 0
    while begin < len(text):
        end = text.find(b"\n", min(begin + BLOCK, len(text)) - 1) + 1
        line_start, cut, line_end, labels, bad = _read_lines(raw[begin:end])
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            line = text[begin + line_start[k] : begin + line_end[k]].decode("utf-8", "replace")
            raise Error(
                f"{file}, line {lines + k + 1}: {line!r} is not `relative/path label` with a whole number from 0 as label"
            )
        parts.append((line_start + begin, cut + begin, labels))
        begin, lines = end, lines + len(labels)
    start, cut, labels = map(np.concatenate, zip(*parts, strict=True))
    paths = Paths(text, start, cut)
    if any(b in text for b in (b"..", b"\\", b":", b"\0", b"\n/")) or text.startswith(b"/"):
        _refuse_escapes(file, paths)
    return paths, labels


def _read_lines(raw: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where whole lines begin, where each path and each line ends, its label, and whether it is malformed."""
    line_end = np.flatnonzero(raw == 10)
    line_start = np.concatenate([[0], line_end[:-1] + 1])
    spaces = np.concatenate([[-1], np.flatnonzero(raw == 32)])
    cut = spaces[np.searchsorted(spaces, line_end) - 1]  # the last space before each line's end
    digits = line_end - cut - 1
    bad = (cut <= line_start) | (digits < 1) | (digits > 18)
    labels = np.zeros(len(line_end), np.int64)
    for k in range(int(np.where(bad, 0, digits).max(initial=0))):
        here = ~bad & (digits > k)
        value = raw[np.where(here, cut + 1 + k, 0)].astype(np.int64) - 48
        bad |= here & ((value < 0) | (value > 9))
        labels = np.where(here, labels * 10 + value, labels)
    return line_start, cut, line_end, labels, bad


def _refuse_escapes(file, paths: Paths) -> None:
    for k, path in enumerate(paths):
        if "\0" in path:
            raise Error(
                f"{file}, line {k + 1}: the path {path!r} holds a zero byte; save the list as plain text"
            )
        parts = PurePosixPath(path.replace("\\", "/")).parts
        if ".." in parts or path.startswith(("/", "\\")) or path[1:2] == ":":
            raise Error(
                f"{file}, line {k + 1}: the path {path!r} leaves the image root; write it relative to the root, without '..'"
            )


def list_folder(
    folder: Path, classes: tuple[str, ...] | None = None
) -> tuple[Paths, np.ndarray, tuple[str, ...]]:
    """Images of ``folder/<class>/**``, classes and images in sorted order; hidden files and folders are passed over.

    Arguments: ``classes`` the names that are expected, or None to take those that are there. Returns: paths (N,)
    relative to ``folder``, labels (N,), class names. Raises: ``h2t.Error`` for a missing or empty folder, a class without
    images, or class folders that differ from those expected.
    """
    if not folder.is_dir():
        raise Error(f"folder {folder} does not exist; it must hold one folder of images per class")
    found = tuple(
        sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    )
    if not found:
        raise Error(f"folder {folder} holds no class folders; put the images in {folder}/<class>/")
    if classes is not None and (odd := sorted(set(found) - set(classes))):
        raise Error(f"{folder} has a class {odd[0]!r} that the training part does not have")
    paths, labels = [], []
    for label, name in enumerate(classes or found):
        inside = (
            p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
        )
        relative = (p.relative_to(folder) for p in inside)
        images = sorted(
            p.as_posix() for p in relative if not any(part.startswith(".") for part in p.parts)
        )
        if not images and classes is None:
            raise Error(
                f"class folder {folder / name} holds no images (known endings: {', '.join(sorted(SUFFIXES))})"
            )
        paths += images
        labels += [label] * len(images)
    return Paths.of(paths), np.array(labels, dtype=np.int64), classes or found
