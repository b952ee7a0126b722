"""Features that others computed, in place of images: of text, sound, or by a network of one's own.

An npz file holds train_features (N, D), train_labels (N,) and, where they are there, test_* and
val_* alike, class_names (C,), and train_paths (N,), test_paths, what each row is of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from h2t.base.errors import Error
from h2t.data import arrays
from h2t.data.split import Split, Unread

SIDE, GREY = 8, 128  # where an image would be shown there is a grey square


class Embedded(Unread):
    """What stands for the images of a part: ``features`` (N, D) float32, shown as grey squares, and
    ``names`` (N,) of what they are of, or None.
    """

    def __init__(self, features: np.ndarray, names: np.ndarray | None = None):
        self.features, self.names = features, names
        self.shape = (len(features), SIDE, SIDE, 3)

    def __getitem__(self, key) -> np.ndarray:
        return np.full((*np.empty(len(self), bool)[key].shape, *self.shape[1:]), GREY, np.uint8)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:]

    def take(self, rows: np.ndarray) -> Embedded:
        names = None if self.names is None else self.names[rows]
        return Embedded(self.features[rows], names)


def read(path: Path) -> dict[str, Split]:
    """The parts of a file of features. Raises ``h2t.Error`` naming the array at fault: one that is
    missing, of another length or width than the others, or not finite."""
    with arrays.opened(path) as archive:
        parts = arrays.parts_of(archive, path, "features")
        found = {part: _part(archive, path, part) for part in parts}
        classes = arrays.class_names(archive, path, {part: y for part, (_, y) in found.items()})
    width = found["train"][0].features.shape[1]
    for part, (images, _) in found.items():
        if (own := images.features.shape[1]) != width:
            raise Error(f"{path}: {part}_features are {own} wide, train_features {width}")
    return {part: Split(images, y, classes) for part, (images, y) in found.items()}


def _part(archive: NpzFile, path: Path, part: str) -> tuple[Embedded, np.ndarray]:
    """Features, and labels (N,) int64, of a part."""
    z, y = (arrays.array(archive, path, f"{part}_{kind}") for kind in ("features", "labels"))
    if z.ndim != 2 or not z.size or z.dtype.kind not in "fiu":
        kind = f"{part}_features is {z.dtype} of shape {z.shape}"
        raise Error(f"{path}: {kind}; it must be numbers (N, D)")
    y = arrays.labels(path, part, y, len(z), "features")
    if (rows := np.flatnonzero(~np.isfinite(z).all(1))).size:
        wrong = f"{part}_features has values that are not finite, the first in row {rows[0]}"
        raise Error(f"{path}: {wrong}")
    names = None
    if f"{part}_paths" in archive:
        names = arrays.array(archive, path, f"{part}_paths")
        if names.shape != y.shape:
            raise Error(f"{path}: {part}_paths has shape {names.shape}, labels {y.shape}")
    return Embedded(np.ascontiguousarray(z, np.float32), names), y
