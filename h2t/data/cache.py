"""Image files decoded once, in parallel, into a memory-mapped cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import alone
from h2t.data.images import read_image
from h2t.data.lazy import Files
from h2t.data.lists import Paths
from h2t.data.split import Split


def decode(
    root: Path,
    paths: Paths,
    labels: np.ndarray,
    classes: tuple[str, ...],
    *,
    image_size: int,
    channels: int,
    fit: str = "stretch",
    streamed: bool = False,
    cache: Path | None,
    progress: bool,
    where: str,
) -> Split:
    """Decode images once, in parallel, into a memory-mapped cache, and give them as a split; or leave them as files to be
    decoded whenever they are used.

    The cache is keyed by the paths, each file's size and time of change, the image size, the channels and the fit.

    Arguments: ``root`` of the relative ``paths`` (N,); ``image_size`` pixels a side, 0 for images that already agree;
    ``channels`` 1 or 3, 0 for 3 unless every image is grey (streamed: 3); ``fit`` as in ``read_image``; ``streamed`` leaves them;
    ``where`` names the part in messages.
    Raises: ``h2t.Error`` naming the image that is missing or outside the root and, where they are decoded, that is unreadable,
    truncated or of another size.
    """
    digest = hashlib.sha256(
        f"h2t-4 {image_size} {channels}{'' if fit == 'stretch' else ' ' + fit}\n".encode()
    )
    sizes, top, real_folder = (
        np.empty(len(paths), np.int64),
        os.path.join(os.path.realpath(root), ""),
        {},
    )
    for k, path in enumerate(paths):
        full = os.path.join(root, path)
        try:
            info = os.lstat(full)
            link = stat.S_ISLNK(info.st_mode)
            info = os.stat(full) if link else info
        except OSError:
            raise Error(
                f"image {full} ({where}) does not exist; check the image root and the list"
            ) from None
        folder, name = os.path.split(full)
        if (
            folder not in real_folder
        ):  # once a folder: resolving every path takes longer than reading a cached set
            real_folder[folder] = os.path.realpath(folder)
        real = os.path.realpath(full) if link else os.path.join(real_folder[folder], name)
        if not real.startswith(top):
            raise Error(
                f"image {full} ({where}) leads outside the image root {root}; copy it into the root"
            )
        sizes[k] = info.st_size
        if not streamed:
            digest.update(
                f"{path}\0{info.st_size}\0{info.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
    if streamed:
        return Split(
            Files(root, paths, image_size, channels or 3, fit), labels, classes, paths, sizes
        )
    file = (cache or cache_folder()) / f"{digest.hexdigest()[:32]}.npy"
    if (images := _cached(file, len(paths))) is None:
        with _alone(file):
            if (
                _cached(file, len(paths)) is None
            ):  # still: all runs of a sweep begin at once, and the first decodes for all
                _fill(file, root, paths, image_size, channels, fit, progress, where)
        images = np.load(file, mmap_mode="r")
    return Split(images, labels, classes, paths, sizes)


@contextlib.contextmanager
def _alone(file: Path):
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(alone(file.with_suffix(".lock")))
        except OSError as e:
            raise Error(_no_cache(file, e)) from None
        yield


def _no_cache(file: Path, e: OSError) -> str:
    return f"cannot write the image cache {file}: {e.strerror}; free some disk space or set H2T_CACHE to another folder"


def _cached(file: Path, number: int) -> np.ndarray | None:
    """The decoded images, or None where they are not there or the file is damaged."""
    try:
        images = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return (
        images if images.dtype == np.uint8 and images.ndim == 4 and len(images) == number else None
    )


def cache_folder() -> Path:
    """Where decoded images are kept: ``$H2T_CACHE``, else ``$XDG_CACHE_HOME/h2t``, else ``~/.cache/h2t``."""
    if given := os.environ.get("H2T_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "h2t"


class _ColourFound(Exception):
    """A colour image in a set that began with a grey one."""


def _fill(
    file: Path,
    root: Path,
    paths,
    image_size: int,
    channels: int,
    fit: str,
    progress: bool,
    where: str,
) -> None:
    first = read_image(root / paths[0], image_size, channels, fit)
    partial = file.with_name(f"{file.name}.{os.getpid()}.h2t-tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not _decode_all(
            partial, root, paths, first.shape, image_size, channels, fit, progress, where
        ):
            _decode_all(
                partial, root, paths, (*first.shape[:2], 3), image_size, 3, fit, progress, where
            )
        os.replace(partial, file)
    except OSError as e:
        raise Error(_no_cache(file, e)) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _decode_all(
    partial: Path,
    root: Path,
    paths,
    shape,
    image_size: int,
    channels: int,
    fit: str,
    progress: bool,
    where: str,
) -> bool:
    """Decode into a memory map that is closed on return; False where a colour image turns up after a grey first one."""
    from tqdm.auto import tqdm

    images = np.lib.format.open_memmap(
        partial, mode="w+", dtype=np.uint8, shape=(len(paths), *shape)
    )
    _reserve(partial)
    workers = os.cpu_count() or 1
    step = max(
        1, min(64, len(paths) // (4 * workers))
    )  # a task per image would hold a million futures

    def some(start: int) -> int:
        end = min(start + step, len(paths))
        for k in range(start, end):
            # a grey image among colour ones becomes colour, never the other way round unasked
            image = read_image(
                root / paths[k], image_size, channels or (0 if shape[2] == 1 else 3), fit
            )
            if image.shape[:2] != shape[:2]:
                size, other = ("x".join(map(str, s[1::-1])) for s in (image.shape, shape))
                raise Error(
                    f"image {root / paths[k]} is {size} pixels, {root / paths[0]} is {other}; set image_size to bring all to one size"
                )
            if image.shape != shape:
                raise _ColourFound
            images[k] = image
        return end - start

    with (
        tqdm(desc=f"decoding {where}", total=len(paths), unit="image", disable=not progress) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        try:
            for done in pool.map(some, range(0, len(paths), step)):
                bar.update(done)
        except _ColourFound:
            return False
    images.flush()
    return True


def _reserve(file: Path) -> None:
    """Claim a file's space now: a disk that fills up under a memory map kills the process instead of raising OSError."""
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
