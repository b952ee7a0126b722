"""Image files decoded once, in parallel, into a memory-mapped cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from h2t.base.errors import Error
from h2t.base.files import TEMPORARY, alone, write_atomic
from h2t.base.progress import bar as progress_bar
from h2t.data.images import read_image
from h2t.data.lists import Listed
from h2t.data.split import Files, Rows, Split

NAMED = 10  # damaged images that a message names
SIDE = 16  # pixels of a thumbnail


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    ``image`` the arguments of ``read_image``, channels 0 being 3 unless every image is grey
    (streamed: 3); ``streamed`` leaves them to be decoded whenever they are used; ``follow_links``
    out of the root; ``skip_damaged`` leaves out what cannot be decoded; ``cache`` a folder.
    """

    image: dict[str, Any]
    streamed: bool = False
    follow_links: bool = False
    skip_damaged: bool = False
    cache: str | Path | None = None
    progress: bool = False


def decode(
    root: Path, listed: Listed, classes: tuple[str, ...], reading: Reading, where: str
) -> Split:
    """Decode images once into a memory-mapped cache, or leave them to be decoded when used.

    The cache is keyed by the root, the paths, each file's size and times of change, and how they
    are read. Arguments: ``root`` of the paths; ``where`` names the part in messages.
    Raises: ``h2t.Error`` naming the image that is missing or outside the root and, where they are
    decoded, those that are damaged, or one of another size.
    """
    sizes, key = _look(root, listed.paths, reading.follow_links, where)
    more, number = (listed.labels, classes, listed.paths, sizes, listed.groups), len(listed)
    if reading.streamed:
        how = {**reading.image, "channels": reading.image["channels"] or 3}
        return Split(Files(root, listed.paths, **how), *more)
    key.update(json.dumps(["h2t-6", reading.image], sort_keys=True).encode())
    file = Path(reading.cache or cache_folder()) / f"{key.hexdigest()[:32]}.npy"
    if _missing(file, number):
        try:
            with alone(file.with_suffix(".lock")):
                # all runs of a sweep begin at once, and the first decodes for all
                if _missing(file, number):
                    _fill(file, root, listed.paths, reading, where)
        except OSError as e:
            mend = "free some disk space or set H2T_CACHE to another folder"
            raise Error(f"cannot write the image cache {file}: {e.strerror}; {mend}") from None
    images, damaged = _cached(file, number)
    if not damaged:
        return Split(images, *more)
    if not reading.skip_damaged:
        _refuse(damaged, number, where)
    listed.left_out["damaged images"] += len(damaged)
    good = listed.take(np.delete(np.arange(number), [int(k) for k in damaged]))
    return decode(root, good, classes, reading, where)


def _refuse(damaged: dict, number: int, where: str) -> None:
    said = "; ".join(list(damaged.values())[:NAMED])
    more = f"; and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
    what = f"{len(damaged)} of {number} images ({where}) cannot be decoded: {said}{more}"
    raise Error(f"{what}. Replace or remove them, or leave them out by skip_damaged")


def _look(root: Path, paths, follow_links: bool, where: str):
    """The sizes of the files (N,), and a digest that has begun with what tells them from others."""
    sizes, folders = np.empty(len(paths), np.int64), {}
    top = os.path.join(os.path.realpath(root), "")
    key = hashlib.sha256(os.fsencode(top))
    for k, path in enumerate(paths):
        full = os.path.join(root, path)
        try:
            link = os.path.islink(full)
            info = os.stat(full)
        except (OSError, ValueError):
            what = "is a link to a file that is not there" if link else "does not exist"
            what = f"image {full:.500} ({where}) {what}"
            raise Error(f"{what}; check the image root and the list") from None
        if not stat.S_ISREG(info.st_mode):
            raise Error(f"image {full} ({where}) is no file; remove it")
        folder, name = os.path.split(full)
        if folder not in folders:  # resolving every path takes longer than reading a cached set
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(full) if link else os.path.join(folders[folder], name)
        if not follow_links and not real.startswith(top):
            what = f"image {full} ({where}) leads outside the image root {root}"
            mend = "copy it into the root, or with source folder set follow_links to true"
            raise Error(f"{what}; {mend}")
        sizes[k] = info.st_size
        told = f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_ctime_ns}\n"
        key.update(os.fsencode(told))
    return sizes, key


def _cached(file: Path, number: int) -> tuple[np.ndarray | None, dict]:
    """The decoded images, or what is wrong with which; neither where they are still to decode."""
    with contextlib.suppress(OSError, ValueError):
        damaged = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        if isinstance(damaged, dict) and damaged:
            return None, damaged
    with contextlib.suppress(OSError, ValueError, EOFError):
        images, small = (np.load(f, mmap_mode="r") for f in (file, _small(file)))
        if images.dtype == np.uint8 and images.ndim == 4 and len(images) == len(small) == number:
            return images, {}
    return None, {}


def _missing(file: Path, number: int) -> bool:
    images, damaged = _cached(file, number)
    return images is None and not damaged


def _small(file: Path) -> Path:
    return file.with_suffix(".small.npy")


def thumbnails(images: np.memmap | Rows, rows: np.ndarray) -> np.ndarray:
    """Grey thumbnails (n, SIDE * SIDE) float32, 0 to 255, of some decoded images."""
    if isinstance(images, Rows):
        return thumbnails(images.images, images.rows[rows])
    return np.load(_small(Path(images.filename)), mmap_mode="r")[rows].astype(np.float32)


def cache_folder() -> Path:
    """Where decoded images are: ``$H2T_CACHE``, ``$XDG_CACHE_HOME/h2t`` or ``~/.cache/h2t``."""
    if given := os.environ.get("H2T_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "h2t"


class _ColourFound(Exception):
    """A colour image in a set that began with a grey one."""


def _fill(file: Path, root: Path, paths, reading: Reading, where: str) -> None:
    """Decode all into the file; with ``skip_damaged``, write down beside it which cannot be."""
    for left in file.parent.glob(f"{file.stem}.*{TEMPORARY}"):  # by a process that was killed
        left.unlink()
    files = _small(file), file
    partial = [f.with_name(f"{f.name}.{os.getpid()}{TEMPORARY}") for f in files]
    try:
        try:
            damaged = _decode_all(*partial, root, paths, reading, where)
        except _ColourFound:
            coloured = replace(reading, image={**reading.image, "channels": 3})
            damaged = _decode_all(*partial, root, paths, coloured, where)
        if damaged and (not reading.skip_damaged or len(damaged) == len(paths)):
            _refuse(damaged, len(paths), where)
        elif damaged:
            record = json.dumps({str(k): damaged[k] for k in sorted(damaged)})
            write_atomic(file.with_suffix(".json"), record.encode())
        else:
            for before, after in zip(partial, files, strict=True):
                os.replace(before, after)
    finally:
        for left in partial:
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def _decode_all(
    thumbs: Path, partial: Path, root: Path, paths, reading: Reading, where: str
) -> dict[int, str]:
    """Decode into memory maps that are closed on return. Returns: messages on damaged images."""
    damaged: dict[int, str] = {}

    def read(k: int, channels: int) -> np.ndarray | None:
        try:
            return read_image(root / paths[k], **{**reading.image, "channels": channels})
        except Error as e:
            damaged[k] = str(e).removesuffix("; replace or remove it")

    number, channels = len(paths), reading.image["channels"]
    first = next((k for k in range(number) if read(k, channels) is not None), None)
    if first is None:
        return damaged
    shape = read(first, channels).shape
    images = open_memmap(partial, "w+", np.uint8, (number, *shape))
    small = open_memmap(thumbs, "w+", np.float16, (number, SIDE * SIDE))
    for file in (partial, thumbs):
        _reserve(file)
    # a grey image among colour ones becomes colour, never the other way round unasked
    channels = channels or (0 if shape[2] == 1 else 3)
    step = max(1, min(64, number // 64))  # one task each would be a million futures

    def some(start: int) -> int:
        these = range(start, min(start + step, number))
        for k in these:
            if (image := read(k, channels)) is None:
                continue
            if image.shape[:2] != shape[:2]:
                size, other = ("x".join(map(str, s[1::-1])) for s in (image.shape, shape))
                what = f"image {root / paths[k]} is {size} pixels, {root / paths[first]} is {other}"
                raise Error(f"{what}; set image_size to bring all to one size")
            if image.shape != shape:
                raise _ColourFound
            images[k], small[k] = image, _thumbnail(image)
        return len(these)

    about = dict(desc=f"decoding {where}", total=number, unit="image", progress=reading.progress)
    with progress_bar(**about) as bar, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done in pool.map(some, range(0, number, step)):
            bar.update(done)
    images.flush()
    return damaged


def _thumbnail(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    grey = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L")
    return np.asarray(grey.convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()


def _reserve(file: Path) -> None:
    """Claim a file's space now: a disk that fills up under a memory map kills the process."""
    size = file.stat().st_size
    if hasattr(os, "posix_fallocate"):
        try:
            with open(file, "r+b") as f:
                return os.posix_fallocate(f.fileno(), 0, size)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some file systems cannot reserve
                raise
    if shutil.disk_usage(file.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
