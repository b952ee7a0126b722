"""Which images make up a long-tailed set: what a run keeps, and what other projects read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import write_atomic, write_json
from h2t.base.readers import read_array, read_json, reading

WAY_OUT = "prepare the data again with notebook 01 or `h2t run`"
KEYS = ("source", "profile", "imbalance_factor", "n_max", "split_seed")


@dataclass(frozen=True)
class Manifest:
    """``indices`` (M,) into the source's training part, their ``labels``, and ``counts`` (C,).

    ``val_indices`` (V,) were held out of the long tail to choose by. ``hash`` is SHA-256 over all
    three: runs with the same hash were trained on the same images.
    """

    source: str
    profile: str
    imbalance_factor: float
    n_max: int
    split_seed: int
    indices: np.ndarray
    labels: np.ndarray
    counts: tuple[int, ...]
    val_indices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def hash(self) -> str:
        indices, labels, held = (
            np.ascontiguousarray(a, dtype="<i8").tobytes()
            for a in (self.indices, self.labels, self.val_indices)
        )
        return hashlib.sha256(indices + labels + (b"val" + held if held else b"")).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write indices.npy, labels.npy, val_indices.npy if any, then split.json."""
        held = {"val_indices": self.val_indices} if len(self.val_indices) else {}
        for name, array in {"indices": self.indices, "labels": self.labels, **held}.items():
            file = Path(folder) / f"{name}.npy"
            write_atomic(file, lambda f, a=array: np.save(f, a.astype("<i8")))
        record = {
            **{key: getattr(self, key) for key in KEYS},
            "images": len(self.indices),
            "hash": self.hash,
            "counts": list(map(int, self.counts)),
            **({"val_images": len(self.val_indices)} if held else {}),
        }
        write_json(Path(folder) / "split.json", record)

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read it back. Raises ``h2t.Error`` where a file is missing, damaged or changed."""
        folder = Path(folder)
        record = read_json(folder / "split.json", WAY_OUT)
        names = ("indices", "labels", *(["val_indices"] if record.get("val_images") else []))
        arrays = {name: read_array(folder / f"{name}.npy", WAY_OUT) for name in names}
        with reading(folder / "split.json", WAY_OUT):
            how = {key: record[key] for key in KEYS}
            manifest = cls(**how, counts=tuple(record["counts"]), **arrays)
            if any(array.dtype != np.int64 for array in arrays.values()):
                raise ValueError("indices.npy or labels.npy holds something else")
            # first of all: to count labels near 10^9, which nothing wrote, would take gigabytes
            if manifest.hash != record["hash"]:
                raise ValueError("indices.npy does not fit the hash in it")
            counts = np.bincount(manifest.labels, minlength=len(manifest.counts))
            if manifest.counts != tuple(counts.tolist()):
                raise ValueError("its counts are not those of its labels")
        return manifest


def export_list(manifest: Manifest, file: str | Path, paths=None) -> None:
    """Write the subset as a list file, ``path label`` a line, which other projects read.

    Arguments: ``paths`` (M,) relative to the image root; images without are named
    ``train/<label>/<index>.png`` by their index in the source.
    Raises: ``h2t.Error`` for a path that holds a line break, which the format cannot say.
    """
    if paths is None:
        named = zip(manifest.indices, manifest.labels, strict=True)
        paths = [f"train/{label}/{index}.png" for index, label in named]
    if broken := next((path for path in paths if "\n" in path), None):
        raise Error(f"the path {broken!r} holds a line break; rename the image")
    lines = [f"{path} {label}\n" for path, label in zip(paths, manifest.labels, strict=True)]
    write_atomic(file, "".join(lines).encode("utf-8", "surrogateescape"))
