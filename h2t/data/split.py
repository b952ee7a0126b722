"""What every source of images gives: arrays of pixels and labels, and the names of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    ``images`` (N, H, W, C) uint8, an array or a memory map; ``labels`` (N,) int64; ``classes`` C names; ``paths`` (N,)
    relative to the image root for file-backed sets (``files.Paths``), else None.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    paths: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> np.ndarray:
        """Images per class, (C,) int64."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def take(self, indices: np.ndarray) -> Split:
        """The part with these ``indices`` (M,), in that order, its images copied into memory; all of them: itself."""
        if len(indices) == len(self) and np.array_equal(indices, np.arange(len(self))):
            return self
        paths = None if self.paths is None else self.paths[indices]
        return Split(np.ascontiguousarray(self.images[indices]), self.labels[indices], self.classes, paths)


@dataclass(frozen=True)
class Dataset:
    """A training part, a test part and, where the source has one, a validation part."""

    name: str
    train: Split
    test: Split
    val: Split | None = None
