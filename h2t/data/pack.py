"""A long-tailed set to take along: one small npz file that stands for a large set, as far as it holds its images.

The file is in the MedMNIST layout, with the images of one long tail alone, and also names their places in the training part they
are from and all of its labels. So whatever is drawn from it is drawn from the whole set: a tail of the same seed at a larger
imbalance factor has the same images, in the same order and with the same hash, as if the whole set were here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import write_atomic
from h2t.data.longtail import Manifest
from h2t.data.split import Dataset

EXTRA = ("source_indices", "source_labels", "packed_as")


class Packed:
    """The images (N, H, W, C) of a training part of which M are here; to ask for another is an error.

    Arguments: ``images`` (M, H, W, C); ``indices`` (M,) their places among ``total`` N; ``made`` says what was packed.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, images: np.ndarray, indices: np.ndarray, total: int, made: str):
        self.images, self.made, self.shape = images, made, (total, *images.shape[1:])
        self.place = np.full(total, -1)
        self.place[indices] = np.arange(len(indices))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        places = self.place[key]
        if (np.asarray(places) < 0).any():
            raise Error(
                f"the packed file holds {len(self.images):,} of {len(self):,} training images, those of {self.made}, and not all that are asked for; a larger imbalance_factor with the same profile, n_max and split_seed finds its own among them"
            )
        return self.images[places]

    take = __getitem__


def pack(data: Dataset, manifest: Manifest, file: str | Path) -> int:
    """Write the long tail of a manifest, with the test part, to a file that ``h2t.load("npz", file)`` reads.

    Arguments: ``data`` the whole set that the manifest's indices are of. Returns: the size of the file in bytes.
    Raises: ``h2t.Error`` for a manifest whose images are not of this set, or where the file cannot be written.
    """
    if len(manifest.val_indices):
        raise Error(
            "a validation part is held out when a run is prepared; pack without val_fraction"
        )
    train = data.train
    if not np.array_equal(train.labels[manifest.indices], manifest.labels):
        raise Error("the manifest is of another set of images")
    parts = {"test": data.test} | ({} if data.val is None else {"val": data.val})
    arrays = {
        f"{name}_{kind}": _plain(getattr(part, kind))
        for name, part in parts.items()
        for kind in ("images", "labels")
    }
    arrays |= {
        "train_images": _plain(np.ascontiguousarray(train.images[manifest.indices])),
        "train_labels": manifest.labels,
        "class_names": np.array(train.classes),
        "source_indices": manifest.indices,
        "source_labels": train.labels,
        "packed_as": np.array(
            f"profile {manifest.profile}, imbalance_factor {manifest.imbalance_factor:g}, n_max {manifest.n_max}, split_seed {manifest.split_seed}"
        ),
    }
    file = Path(file)
    write_atomic(file, lambda f: np.savez_compressed(f, **arrays))
    return file.stat().st_size


def _plain(values) -> np.ndarray:
    """An array, grey images without their last axis, as the layout has them."""
    values = np.asarray(values)
    return values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values


def unpack(
    images: np.ndarray, labels: np.ndarray, extra: dict[str, np.ndarray], path: Path
) -> tuple[Packed, np.ndarray]:
    """The training part that a file stands for: its images, as far as they are here, and all labels (N,).

    Arguments: ``images`` (M, H, W, C) and ``labels`` (M,) on file; ``extra`` the arrays of ``EXTRA``.
    Raises: ``h2t.Error`` naming the file where these do not fit one another.
    """
    indices, all_labels = (extra[k] for k in EXTRA[:2])
    fits = (
        indices.shape == labels.shape
        and all_labels.ndim == 1
        and all(np.issubdtype(a.dtype, np.integer) for a in (indices, all_labels))
    )
    fits = (
        fits
        and len(np.unique(indices)) == len(indices)
        and 0 <= indices.min() <= indices.max() < len(all_labels)
    )
    if not fits or not np.array_equal(all_labels[indices], labels):
        raise Error(
            f"{path}: source_indices and source_labels do not fit train_labels; pack it again with `h2t pack`"
        )
    return Packed(images, indices, len(all_labels), str(extra["packed_as"])), all_labels.astype(
        np.int64
    )
