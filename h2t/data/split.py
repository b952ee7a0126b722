"""What every source of images gives: pixels, in memory or not, labels, and class names."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from h2t.data.images import read_image


class Unread:
    """What stands for images (N, H, W, C) uint8, and gives them when it is indexed."""

    dtype, ndim = np.dtype(np.uint8), 4
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]


class Rows(Unread):
    """Some ``rows`` (M,) of a memory-mapped array (N, H, W, C)."""

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.images, self.rows = images, np.asarray(rows)
        self.shape = (len(self.rows), *images.shape[1:])

    def __getitem__(self, k) -> np.ndarray:
        return np.asarray(self.images[self.rows[k]])

    def take(self, rows: np.ndarray) -> Rows:
        return Rows(self.images, self.rows[rows])


class Files(Unread):
    """Image files, ``paths`` (N,) below a ``root``, decoded unaugmented.

    Arguments: ``image_size`` pixels a side; ``how`` else as in ``read_image``.
    """

    def __init__(
        self, root: str | Path, paths: np.ndarray, image_size: int, channels: int = 3, **how
    ):
        self.root, self.paths = str(root), paths
        self.how = {"image_size": image_size, "channels": channels, **how}
        self.shape = (len(paths), image_size, image_size, channels)

    def path(self, k: int) -> str:
        return os.path.join(self.root, self.paths[k])

    def __getitem__(self, k) -> np.ndarray:
        """One image (H, W, C) for a number, several (n, H, W, C) for a slice or an array."""
        if isinstance(k, int | np.integer):
            return read_image(self.path(k), **self.how)
        rows = np.arange(len(self))[k]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with ThreadPoolExecutor() as pool:
            for place, image in zip(images, pool.map(self.__getitem__, rows), strict=True):
                place[:] = image
        return images

    def take(self, rows: np.ndarray) -> Files:
        return Files(self.root, self.paths[rows], **self.how)


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    ``images`` (N, H, W, C) uint8: an array, a memory map, or ``Unread``; ``labels`` (N,) int64.
    Where the images are files: ``paths`` (N,) below ``root`` and ``sizes`` (N,) in bytes, else
    None. ``groups`` (N,) names what a split keeps together, or is None.
    """

    images: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    paths: np.ndarray | None = None
    sizes: np.ndarray | None = None
    groups: np.ndarray | None = None
    root: Path | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> np.ndarray:
        """Images per class, (C,) int64."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def take(self, indices: np.ndarray) -> Split:
        """The part with these ``indices`` (M,), in that order; what lies on disk stays there."""
        if len(indices) == len(self) and np.array_equal(indices, np.arange(len(self))):
            return self
        if isinstance(self.images, np.memmap):
            images = Rows(self.images, indices)
        elif isinstance(self.images, np.ndarray):
            images = np.ascontiguousarray(self.images[indices])
        else:
            images = self.images.take(indices)
        more = (None if a is None else a[indices] for a in (self.paths, self.sizes, self.groups))
        return Split(images, self.labels[indices], self.classes, *more, self.root)


@dataclass(frozen=True)
class Dataset:
    """A training part, a test part and, where the source has one, a validation part.

    ``notes`` say in a sentence each what was read, left out, or is to be known of it;
    ``test_is_drawn`` where the source has no test part and one was held out of the training part.
    """

    name: str
    train: Split
    test: Split
    val: Split | None = None
    notes: tuple[str, ...] = ()
    test_is_drawn: bool = False
