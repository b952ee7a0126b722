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
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import TEMPORARY, alone, write_atomic
from h2t.base.progress import bar as progress_bar
from h2t.data.images import read_image
from h2t.data.lists import Listed
from h2t.data.split import Files, Split

NAMED = 10  # damaged images that a message names


def decode(
    root: Path,
    listed: Listed,
    classes: tuple[str, ...],
    *,
    how: dict,
    streamed: bool = False,
    follow_links: bool = False,
    skip_damaged: bool = False,
    cache: Path | None = None,
    progress: bool = False,
    where: str,
) -> Split:
    """Decode images once, in parallel, into a memory-mapped cache, and give them as a split; or
    leave them as files to be decoded whenever they are used.

    The cache is keyed by the root, the paths, each file's size and times of change, and ``how``.

    Arguments: ``root`` of the paths; ``how`` the arguments of ``read_image``, channels 0 being 3
    unless every image is grey (streamed: 3); ``streamed`` leaves them; ``follow_links`` out of the
    root; ``skip_damaged`` leaves out what cannot be decoded; ``where`` names the part in messages.
    Raises: ``h2t.Error`` naming the image that is missing or outside the root and, where they are
    decoded, those that are damaged, or one of another size.
    """
    sizes, key = _look(root, listed.paths, follow_links, where)
    if streamed:
        images = Files(root, listed.paths, **{**how, "channels": how["channels"] or 3})
        return Split(images, listed.labels, classes, listed.paths, sizes, listed.groups)
    key.update(json.dumps(["h2t-5", how], sort_keys=True).encode())
    file = (cache or cache_folder()) / f"{key.hexdigest()[:32]}.npy"
    if _missing(file, len(listed)):
        try:
            with alone(file.with_suffix(".lock")):
                # all runs of a sweep begin at once, and the first decodes for all
                if _missing(file, len(listed)):
                    _fill(file, root, listed.paths, how, skip_damaged, progress, where)
        except OSError as e:
            raise Error(
                f"cannot write the image cache {file}: {e.strerror}; "
                "free some disk space or set H2T_CACHE to another folder"
            ) from None
    images, damaged = _cached(file, len(listed))
    if damaged is None:
        return Split(images, listed.labels, classes, listed.paths, sizes, listed.groups)
    if not skip_damaged:
        _refuse(damaged, len(listed), where)
    listed.left_out["damaged images"] += len(damaged)
    good = np.delete(np.arange(len(listed)), [int(k) for k in damaged])
    again = dict(how=how, follow_links=follow_links, cache=cache, progress=progress, where=where)
    return decode(root, listed.take(good), classes, **again)


def _refuse(damaged: dict, number: int, where: str) -> None:
    said = "; ".join(list(damaged.values())[:NAMED])
    more = f"; and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
    raise Error(
        f"{len(damaged)} of {number} images ({where}) cannot be decoded: {said}{more}. Replace or "
        "remove them, or leave them out by skip_damaged"
    )


def _look(root: Path, paths, follow_links: bool, where: str):
    """The sizes of the files (N,), and a digest that has begun with what tells them from others."""
    sizes, folders = np.empty(len(paths), np.int64), {}
    top = os.path.join(os.path.realpath(root), "")
    key = hashlib.sha256(top.encode("utf-8", "surrogateescape"))
    for k, path in enumerate(paths):
        full = os.path.join(root, path)
        try:
            info = os.lstat(full)
            link = stat.S_ISLNK(info.st_mode)
            info = os.stat(full) if link else info
        except (OSError, ValueError):
            what = "is a link to a file that is not there"
            what = what if os.path.islink(full) else "does not exist"
            raise Error(
                f"image {full:.500} ({where}) {what}; check the image root and the list"
            ) from None
        if not stat.S_ISREG(info.st_mode):
            raise Error(f"image {full} ({where}) is no file; remove it")
        folder, name = os.path.split(full)
        if folder not in folders:  # resolving every path takes longer than reading a cached set
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(full) if link else os.path.join(folders[folder], name)
        if not follow_links and not real.startswith(top):
            raise Error(
                f"image {full} ({where}) leads outside the image root {root}; copy it into the "
                "root, or with source folder set follow_links to true"
            )
        sizes[k] = info.st_size
        told = f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_ctime_ns}\n"
        key.update(told.encode("utf-8", "surrogateescape"))
    return sizes, key


def _cached(file: Path, number: int) -> tuple[np.ndarray | None, dict | None]:
    """The decoded images, or what is wrong with which; neither where they are still to decode."""
    with contextlib.suppress(OSError, ValueError):
        damaged = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        if isinstance(damaged, dict) and damaged:
            return None, damaged
    try:
        images = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None, None
    fits = images.dtype == np.uint8 and images.ndim == 4 and len(images) == number
    return (images if fits else None), None


def _missing(file: Path, number: int) -> bool:
    return all(found is None for found in _cached(file, number))


def cache_folder() -> Path:
    """Where decoded images are: ``$H2T_CACHE``, ``$XDG_CACHE_HOME/h2t`` or ``~/.cache/h2t``."""
    if given := os.environ.get("H2T_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "h2t"


class _ColourFound(Exception):
    """A colour image in a set that began with a grey one."""


def _fill(
    file: Path, root: Path, paths, how: dict, skip_damaged: bool, progress: bool, where: str
) -> None:
    """Decode all into the file; with ``skip_damaged``, write down beside it which cannot be."""
    partial = file.with_name(f"{file.name}.{os.getpid()}{TEMPORARY}")
    for left in file.parent.glob(f"{file.name}.*{TEMPORARY}"):  # by a process that was killed
        left.unlink()
    try:
        try:
            damaged = _decode_all(partial, root, paths, how, progress, where)
        except _ColourFound:
            damaged = _decode_all(partial, root, paths, {**how, "channels": 3}, progress, where)
        if damaged and (not skip_damaged or len(damaged) == len(paths)):
            _refuse(damaged, len(paths), where)
        elif damaged:
            record = json.dumps({str(k): damaged[k] for k in sorted(damaged)})
            write_atomic(file.with_suffix(".json"), record.encode())
        else:
            os.replace(partial, file)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _decode_all(
    partial: Path, root: Path, paths, how: dict, progress: bool, where: str
) -> dict[int, str]:
    """Decode into a memory map that is closed on return. Returns: messages about damaged images."""
    damaged: dict[int, str] = {}

    def read(k: int, channels: int) -> np.ndarray | None:
        try:
            return read_image(root / paths[k], **{**how, "channels": channels})
        except Error as e:
            damaged[k] = str(e)

    for first in range(len(paths)):
        if (image := read(first, how["channels"])) is not None:
            break
    else:
        return damaged
    shape = image.shape
    images = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(paths), *shape))
    _reserve(partial)
    workers = os.cpu_count() or 1
    step = max(1, min(64, len(paths) // (4 * workers)))  # one task each would be a million futures

    def some(start: int) -> int:
        end = min(start + step, len(paths))
        for k in range(start, end):
            # a grey image among colour ones becomes colour, never the other way round unasked
            image = read(k, how["channels"] or (0 if shape[2] == 1 else 3))
            if image is None:
                continue
            if image.shape[:2] != shape[:2]:
                size, other = ("x".join(map(str, s[1::-1])) for s in (image.shape, shape))
                raise Error(
                    f"image {root / paths[k]} is {size} pixels, {root / paths[first]} is {other}; "
                    "set image_size to bring all to one size"
                )
            if image.shape != shape:
                raise _ColourFound
            images[k] = image
        return end - start

    with (
        progress_bar(
            desc=f"decoding {where}", total=len(paths), unit="image", progress=progress
        ) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        for done in pool.map(some, range(0, len(paths), step)):
            bar.update(done)
    images.flush()
    return damaged


def _reserve(file: Path) -> None:
    """Claim a file's space now: a disk that fills up under a memory map kills the process."""
    size = file.stat().st_size
    if hasattr(os, "posix_fallocate"):
        try:
            with open(file, "r+b") as f:
                os.posix_fallocate(f.fileno(), 0, size)
            return
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some file systems cannot reserve
                raise
    if shutil.disk_usage(file.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
