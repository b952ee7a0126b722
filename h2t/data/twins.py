"""Images that stand in two parts of a set: the same ones, and near twins."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from h2t.data.split import Files, Split

LOOKED_AT = 1 << 28  # bytes of pixels; of larger sets only the paths are compared
SIDE, ALIKE = 16, 0.97  # near twins: thumbnails of so many pixels a side correlate so much
PAIRS = 10**8  # of images that are held against one another: a second
ROWS = 256  # images looked at at a time


def identical(train: Split, test: Split) -> np.ndarray:
    """Which training images, (N,) bool, are also in the test part, to the last pixel."""
    if not _few(train, test):
        return np.zeros(len(train), bool)
    held = {hash(image.tobytes()) for images in _blocks(test) for image in images}
    rows = [hash(image.tobytes()) in held for images in _blocks(train) for image in images]
    return np.array(rows, bool)


def near(train: Split, test: Split) -> int:
    """How many test images look like a training image: another photograph of one thing, say."""
    if not _few(train, test) or len(train) * len(test) > PAIRS:
        return 0
    small = np.concatenate([_thumbnails(images) for images in _blocks(train)]).T
    alike = ((_thumbnails(images) @ small).max(1) > ALIKE for images in _blocks(test))
    return int(sum(map(np.sum, alike)))


def _few(*parts: Split) -> bool:
    size = sum(int(np.prod(part.images.shape)) for part in parts)
    return size <= LOOKED_AT and not any(isinstance(part.images, Files) for part in parts)


def _blocks(part: Split) -> Iterator[np.ndarray]:
    return (np.asarray(part.images[k : k + ROWS]) for k in range(0, len(part), ROWS))


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """Grey thumbnails (n, SIDE * SIDE) of mean 0 and length 1: brightness does not matter."""
    grey = images.mean(3, dtype=np.float32)
    _, h, w = grey.shape
    rows, columns = (np.unique(np.arange(SIDE) * n // SIDE) for n in (h, w))
    sums = np.add.reduceat(np.add.reduceat(grey, rows, 1), columns, 2)
    area = np.outer(np.diff(rows, append=h), np.diff(columns, append=w))
    small = (sums / area).reshape(len(grey), -1).astype(np.float32)
    small -= small.mean(1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1.0)
