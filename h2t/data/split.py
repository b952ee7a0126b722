"""What every source of images gives: arrays of pixels and labels, and the names of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from h2t.data.lazy import Rows


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    ``images`` (N, H, W, C) uint8: an array, a memory map, rows of one (``lazy.Rows``), or files that are decoded when they are
    indexed (``lazy.Files``); ``labels`` (N,) int64; ``classes`` C names; ``paths`` (N,) relative to the image root for
    file-backed sets (``files.Paths``), else None, and ``sizes`` (N,) of these files in bytes.
    """

    images: Any
    labels: np.ndarray
    classes: tuple[str, ...]
    paths: Any = None
    sizes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> np.ndarray:
        """Images per class, (C,) int64."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def take(self, indices: np.ndarray) -> Split:
        """The part with these ``indices`` (M,), in that order; all of them: itself. Images that lie on disk stay there."""
        if len(indices) == len(self) and np.array_equal(indices, np.arange(len(self))):
            return self
        if isinstance(self.images, np.memmap):
            images = Rows(self.images, indices)
        elif isinstance(self.images, np.ndarray):
            images = np.ascontiguousarray(self.images[indices])
        else:
            images = self.images.take(indices)
        paths, sizes = (None if a is None else a[indices] for a in (self.paths, self.sizes))
        return Split(images, self.labels[indices], self.classes, paths, sizes)


@dataclass(frozen=True)
class Dataset:
    """A training part, a test part and, where the source has one, a validation part."""

    name: str
    train: Split
    test: Split
    val: Split | None = None
