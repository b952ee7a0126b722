"""Images that stand in two parts of a set: the same ones, and near twins."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from h2t.data.cache import thumbnails
from h2t.data.split import Split

ALIKE = 0.97  # near twins: thumbnails correlate so much
PAIRS = 10**8  # of images that are held against one another: a second
ROWS, END = 1024, 4096  # images looked at at a time; bytes at the end of a file


def identical(train: Split, test: Split) -> np.ndarray:
    """Which training images, (N,) bool, are also in the test part, to the last byte of their files,
    or by their pixels or features."""
    parts = train, test
    if train.paths is None:
        given = (getattr(part.images, "features", part.images) for part in parts)
        return np.isin(*([hash(image.tobytes()) for image in images] for images in given))
    rows = [np.flatnonzero(np.isin(a.sizes, b.sizes)) for a, b in (parts, parts[::-1])]
    with ThreadPoolExecutor() as pool:
        for end in (END, 0):  # of files of one size few end alike: only those are read as a whole
            told = zip(parts, rows, strict=True)
            a, b = (list(pool.map(partial(_hash, part, end), own)) for part, own in told)
            rows = [rows[0][np.isin(a, b)], rows[1][np.isin(b, a)]]
    return np.isin(np.arange(len(train)), rows[0])


def _hash(part: Split, end: int, k: int) -> str:
    """Of a file, or of so many bytes at its end; of one that cannot be read, that of its name."""
    path = os.path.join(part.root, part.paths[k])
    try:
        with open(path, "rb") as file:
            if end:
                file.seek(max(0, int(part.sizes[k]) - end))
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:  # it is named when it is decoded
        return path


def near(train: Split, test: Split) -> tuple[int, int]:
    """How many test images, of how many, look like a training image: photographs of one thing, say.

    All are looked at, or evenly spread ones where all would make more than ``PAIRS``.
    """
    looked_at = min(len(test), max(1, PAIRS // len(train)))
    rows = np.linspace(0, len(test) - 1, looked_at).astype(np.int64)
    own, best = _unit(thumbnails(test.images, rows)).T, np.zeros(looked_at)
    for rows in np.split(np.arange(len(train)), range(ROWS, len(train), ROWS)):
        best = np.maximum(best, (_unit(thumbnails(train.images, rows)) @ own).max(0))
    return int((best > ALIKE).sum()), looked_at


def _unit(small: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1: brightness and contrast do not matter."""
    small = small - small.mean(1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1.0)
