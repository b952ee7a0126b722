"""Image files decoded once, in parallel, into a memory-mapped cache."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from h2t.base.errors import Error
from h2t.base.files import alone, clean, write_atomic
from h2t.base.progress import bar as progress_bar
from h2t.data.images import is_grey, read_image
from h2t.data.lists import Listed
from h2t.data.split import Files, Rows, Split

NAMED = 10  # damaged images that a message names
SIDE = 16  # pixels of a thumbnail
BLOCK = 1024  # decoded images that wait in memory for their turn to be written, at most


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    ``image`` the arguments of ``read_image``, channels 0 being 3 unless every image is grey
    (streamed: 3); ``streamed`` leaves them to be decoded when used; ``follow_links``
    out of the root; ``skip_damaged`` leaves out what cannot be decoded.
    """

    image: dict[str, Any]
    streamed: bool = False
    follow_links: bool = False
    skip_damaged: bool = False
    progress: bool = False


def decode(listed: Listed, classes: tuple[str, ...], reading: Reading, where: str) -> Split:
    """Decode images once into a memory-mapped cache, or leave them to be decoded when used.

    The cache is keyed by the root, the paths, each file's size and times of change, and how they
    are read. Arguments: ``where`` names the part in messages.
    Raises: ``h2t.Error`` naming images that are missing, outside the root, damaged, or of another
    size.
    """
    root = listed.root
    sizes, key = _look(root, listed.paths, reading.follow_links, where)
    about = listed.labels, classes, listed.paths, sizes, listed.groups, root
    if reading.streamed:
        how = {**reading.image, "channels": reading.image["channels"] or 3}
        return Split(Files(root, listed.paths, **how), *about)
    key.update(json.dumps(["h2t-6", reading.image], sort_keys=True).encode())
    file = cache_folder() / f"{key.hexdigest()[:32]}.npy"
    wanted = file, len(listed), reading.skip_damaged
    if _cached(*wanted) is None:
        try:
            with alone(file.with_suffix(".lock")):
                # all runs of a sweep begin at once, and the first decodes for all
                if _cached(*wanted) is None:
                    _fill(file, root, listed.paths, reading, where)
        except OSError as e:
            mend = "set H2T_CACHE to another folder"
            raise Error(f"cannot write the image cache {file}: {e.strerror}; {mend}") from None
    images, damaged = _cached(*wanted)
    if damaged.any():
        listed.left_out["damaged images"] += int(damaged.sum())
    return Split(images, *about).take(np.flatnonzero(~damaged))


def _look(root: Path, paths, follow_links: bool, where: str):
    """The sizes of the files (N,), and a digest that has begun with what tells them from others."""
    sizes, top = np.empty(len(paths), np.int64), os.path.join(os.path.realpath(root), "")
    key = hashlib.sha256(os.fsencode(top))
    # resolving every path, not only every folder, takes longer than reading a cached set
    resolved = functools.cache(os.path.realpath)
    for k, path in enumerate(paths):
        full = os.path.join(root, path)
        try:
            info = os.stat(full)
        except (OSError, ValueError):
            what = "does not exist, or links to nothing; check the image root and the list"
            raise Error(f"image {full:.500} ({where}) {what}") from None
        if not stat.S_ISREG(info.st_mode):
            raise Error(f"image {full} ({where}) is no file; remove it")
        real = os.path.realpath(full) if os.path.islink(full) else resolved(os.path.dirname(full))
        if not follow_links and not os.path.join(real, "").startswith(top):
            raise Error(
                f"image {full} ({where}) leads outside the image root {root}; "
                "copy it into the root, or with source folder set follow_links to true"
            )
        sizes[k] = info.st_size
        told = f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_ctime_ns}\n"
        key.update(os.fsencode(told))
    return sizes, key


def _cached(file: Path, number: int, skip_damaged: bool) -> tuple[np.memmap, np.ndarray] | None:
    """The decoded images and which are damaged, (N,) bool; None where they are to be decoded."""
    with contextlib.suppress(OSError, ValueError, EOFError, IndexError):
        images, small = (np.load(f, mmap_mode="r") for f in (file, _small(file)))
        damaged = np.isnan(small[:, 0])
        if len(images) == len(small) == number and (skip_damaged or not damaged.any()):
            return images, damaged
    return None


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


def _fill(file: Path, root: Path, paths, reading: Reading, where: str) -> None:
    """Decode all images into the file, and write their thumbnails beside it, NaN where damaged."""
    clean(file.parent)
    small = np.full((len(paths), SIDE * SIDE), np.nan, np.float16)
    damaged: dict[int, str] = {}
    write_atomic(file, lambda f: _decode_all(f, small, damaged, root, paths, reading, where))
    write_atomic(_small(file), lambda f: np.save(f, small))
    if damaged and not reading.skip_damaged:  # who asks for that now finds the others decoded
        raise _refusal(damaged, len(paths), where)


def _decode_all(
    file: BinaryIO, small: np.ndarray, damaged: dict, root: Path, paths, reading: Reading, where
) -> None:
    """Write the images (N, H, W, C) as an .npy file, zeros for ``damaged`` ones; fill ``small``."""
    channels = reading.image["channels"]
    if not channels:
        channels = 1 if all(is_grey(root / path) for path in paths) else 3

    def read(k: int) -> np.ndarray | None:
        try:
            image = read_image(root / paths[k], **{**reading.image, "channels": channels})
        except Error as e:
            damaged[k] = str(e).removesuffix("; replace or remove it")
            return None
        small[k] = _thumbnail(image)
        return image

    number = len(paths)
    first = next((image for image in map(read, range(number)) if image is not None), None)
    if first is None:
        raise _refusal(damaged, number, where)
    header = {"descr": "|u1", "fortran_order": False, "shape": (number, *first.shape)}
    npy.write_array_header_1_0(file, header)
    about = dict(desc=f"decoding {where}", total=number, unit="image", progress=reading.progress)
    with progress_bar(**about) as bar, ThreadPoolExecutor() as pool:
        for start in range(0, number, BLOCK):
            block = range(start, min(start + BLOCK, number))
            for k, image in zip(block, pool.map(read, block), strict=True):
                image = np.zeros_like(first) if image is None else image
                if image.shape != first.shape:
                    size, other = (f"{i.shape[1]}x{i.shape[0]}" for i in (image, first))
                    what = f"image {root / paths[k]} is {size} pixels, the first is {other}"
                    raise Error(f"{what}; set image_size to bring all to one size")
                file.write(image.tobytes())
                bar.update()


def _refusal(damaged: dict[int, str], number: int, where: str) -> Error:
    said = "; ".join(damaged[k] for k in sorted(damaged)[:NAMED])
    what = f"{len(damaged)} of {number} images ({where}) cannot be decoded"
    return Error(f"{what}: {said}. Replace or remove them, or leave them out by skip_damaged")


def _thumbnail(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    grey = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L")
    return np.asarray(grey.convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()
