"""Images that are not in memory, indexed like an array (N, H, W, C) of uint8."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.data.images import read_image
from h2t.data.lists import Paths


class Rows:
    """Some rows of a memory-mapped array, read when they are indexed.

    Arguments: ``images`` (N, H, W, C) uint8; ``rows`` (M,) int64.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.images, self.rows = images, np.asarray(rows)
        self.shape = (len(self.rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k) -> np.ndarray:
        """One image (H, W, C) for a number, several (n, H, W, C) for a slice or an array of numbers."""
        return np.asarray(self.images[self.rows[k]])

    def take(self, rows: np.ndarray) -> Rows:
        return Rows(self.images, self.rows[rows])


class Files:
    """Image files, decoded when they are indexed, unaugmented.

    Arguments: ``root`` of the relative ``paths`` (N,); ``image_size`` pixels a side; ``channels`` 1 or 3; ``fit`` as in ``read_image``.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(
        self,
        root: str | Path,
        paths: Paths,
        image_size: int,
        channels: int = 3,
        fit: str = "stretch",
    ):
        self.root, self.paths, self.image_size, self.channels, self.fit = (
            str(root),
            paths,
            image_size,
            channels,
            fit,
        )
        self.shape = (len(paths), image_size, image_size, channels)

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, k: int) -> str:
        return os.path.join(self.root, self.paths[k])

    def __getitem__(self, k) -> np.ndarray:
        """One image (H, W, C) for a number, several (n, H, W, C) for a slice or an array of numbers."""
        if isinstance(k, int | np.integer):
            return read_image(self.path(k), self.image_size, self.channels, self.fit)
        rows = np.arange(len(self))[k]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with ThreadPoolExecutor() as pool:
            for place, image in zip(images, pool.map(self.__getitem__, rows), strict=True):
                place[:] = image
        return images

    def take(self, rows: np.ndarray) -> Files:
        return Files(self.root, self.paths[rows], self.image_size, self.channels, self.fit)


def need_size(image_size: int) -> None:
    """Raise ``h2t.Error`` where images to be streamed have no size to come to."""
    if image_size < 8:
        raise Error(
            "loader streamed needs image_size, the side in pixels of the squares that images are cut to, at least 8 (224 on the large sets)"
        )
