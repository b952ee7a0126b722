"""Long-tailed subsets: class counts, the seeded draw, and the manifest that records it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import write_atomic

PROFILES = ("exponential", "step", "natural")


def class_counts(
    n_max: int, imbalance_factor: float, num_classes: int, profile: str = "exponential"
) -> np.ndarray:
    """Training images per class, class 0 the head.

    Source: Cao et al. 2019 (LDAM) and the H2T reference: exponential, int(n_max * (1 / IF)^(i / (C - 1))), truncated;
    step, the first half of the classes n_max and the others int(n_max / IF).

    Arguments: ``n_max`` images of the largest class; ``imbalance_factor`` IF = n_max / n_min >= 1; ``num_classes`` C.
    Returns: (C,) int64. Raises: ``h2t.Error`` for a factor below 1 or one that leaves a class empty.
    """
    shares = _shares(imbalance_factor, num_classes, profile)
    if n_max < 1:
        raise Error(
            f"n_max is {n_max}; it is the number of images of the largest class and must be at least 1"
        )
    counts = _scaled(n_max, imbalance_factor, shares)
    if counts.min() < 1:
        raise Error(
            f"imbalance_factor {imbalance_factor} with n_max {n_max} leaves class {counts.argmin()} without an image; "
            f"lower the factor to at most {n_max} or raise n_max"
        )
    return counts


def _shares(imbalance_factor: float, num_classes: int, profile: str) -> np.ndarray:
    """Each class's share of n_max, (C,) float64, from 1 down to 1 / IF."""
    if not 1 <= imbalance_factor < np.inf:
        raise Error(
            f"imbalance_factor is {imbalance_factor}; it is the largest over the smallest class and must be at least 1"
        )
    if profile not in ("exponential", "step"):
        raise Error(f"profile is {profile!r}; choose one of {', '.join(PROFILES)}")
    steps = max(num_classes - 1, 1)
    if profile == "exponential":
        return np.array([(1 / imbalance_factor) ** (i / steps) for i in range(num_classes)])
    return np.where(
        np.arange(num_classes) < num_classes - num_classes // 2, 1.0, 1 / imbalance_factor
    )


def _scaled(n_max: int, imbalance_factor: float, shares: np.ndarray) -> np.ndarray:
    counts = (n_max * shares).astype(np.int64)
    if len(shares) > 1:  # 1 / IF is rounded, so that 300 / 3 would come out as 99
        counts[shares == shares[-1]] = int(Fraction(int(n_max)) / Fraction(imbalance_factor))
    return counts


def largest_n_max(available: np.ndarray, imbalance_factor: float, profile: str) -> int:
    """The largest n_max for which no class needs more images than it has. ``available`` (C,) images per class."""
    low, high = 1, int(available.max())
    shares = _shares(imbalance_factor, len(available), profile)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high)
            if (_scaled(middle, imbalance_factor, shares) <= available).all()
            else (low, middle - 1)
        )
    return low


def draw(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """The field's subset: NumPy's legacy generator shuffles each class's indices in label order, the first n_c stay.

    Subsets of smaller counts are contained in those of larger ones with the same seed. No global generator is touched.

    Arguments: ``labels`` (N,) int64; ``counts`` (C,); ``seed``. Returns: (sum of counts,) int64, class after class.
    Raises: ``h2t.Error`` for a class with fewer images than asked, a label without a count, or a seed out of range.
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise Error(f"split_seed is {seed!r}; it must be a whole number from 0 to 4294967295")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(counts):
        wrong = labels.max() if labels.max() >= len(counts) else labels.min()
        raise Error(f"label {wrong} is outside the {len(counts)} classes that counts are given for")
    have = np.bincount(labels, minlength=len(counts))
    if (have < counts).any():
        c = int(np.flatnonzero(have < counts)[0])
        raise Error(
            f"class {c} has {have[c]} images, but {counts[c]} are asked for; lower n_max or the imbalance factor"
        )
    generator, order = np.random.RandomState(seed), np.argsort(labels, kind="stable")
    starts, chosen = np.cumsum(have) - have, []
    for c, n in enumerate(counts):
        indices = order[starts[c] : starts[c] + have[c]].copy()
        generator.shuffle(indices)
        chosen.append(indices[:n])
    return np.concatenate(chosen).astype(np.int64)


@dataclass(frozen=True)
class Manifest:
    """Which images make up a long-tailed set: ``indices`` (M,) into the source's training part and their ``labels``.

    ``hash`` is SHA-256 over both; two runs with the same hash were trained on the same images of the same source.
    ``val_indices`` (V,) are images of the long tail that were held out of training to choose by, if any; then the hash is over
    them too, and ``counts`` are of the images that are trained on.
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
        digest = hashlib.sha256(np.ascontiguousarray(self.indices, dtype="<i8"))
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8"))
        if len(self.val_indices):
            digest.update(b"val")
            digest.update(np.ascontiguousarray(self.val_indices, dtype="<i8"))
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write ``indices.npy``, ``labels.npy``, ``val_indices.npy`` if there are any, and then ``split.json``, each atomically."""
        held = {"val_indices": self.val_indices} if len(self.val_indices) else {}
        for name, array in {"indices": self.indices, "labels": self.labels, **held}.items():
            write_atomic(
                Path(folder) / f"{name}.npy", lambda f, a=array: np.save(f, a.astype("<i8"))
            )
        record = {
            "source": self.source,
            "profile": self.profile,
            "imbalance_factor": self.imbalance_factor,
            "n_max": self.n_max,
            "split_seed": self.split_seed,
            "images": len(self.indices),
            "hash": self.hash,
            "counts": list(map(int, self.counts)),
            **({"val_images": len(self.val_indices)} if held else {}),
        }
        write_atomic(Path(folder) / "split.json", (json.dumps(record, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read a manifest back. Raises ``h2t.Error`` where a file is missing, damaged or does not fit its hash."""
        folder = Path(folder)
        try:
            record = json.loads((folder / "split.json").read_text())
            indices, labels = (
                np.load(folder / f"{name}.npy", allow_pickle=False)
                for name in ("indices", "labels")
            )
            keys = ("source", "profile", "imbalance_factor", "n_max", "split_seed")
            held = (
                {"val_indices": np.load(folder / "val_indices.npy", allow_pickle=False)}
                if record.get("val_images")
                else {}
            )
            manifest = cls(
                **{k: record[k] for k in keys},
                indices=indices,
                labels=labels,
                counts=tuple(record["counts"]),
                **held,
            )
            if manifest.counts != tuple(
                np.bincount(labels, minlength=len(manifest.counts)).tolist()
            ):
                raise ValueError("its counts are not those of its labels")
        except FileNotFoundError as e:
            raise Error(
                f"{e.filename} does not exist; prepare the data with notebook 01 first"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, EOFError) as e:
            raise Error(
                f"the manifest in {folder} is damaged ({' '.join(str(e).split())}); prepare the data again"
            ) from None
        if manifest.hash != record.get("hash"):
            raise Error(
                f"{folder / 'indices.npy'} does not fit the hash in split.json; prepare the data again"
            )
        return manifest


def build(
    labels: np.ndarray,
    *,
    classes: tuple[str, ...],
    source: str,
    profile: str = "exponential",
    imbalance_factor: float = 100.0,
    n_max: int = 0,
    split_seed: int = 0,
) -> Manifest:
    """Draw a long-tailed subset of a training part and record it.

    Arguments: ``labels`` (N,); ``classes`` C names; ``n_max`` 0 takes the largest the set allows; ``profile`` natural
    keeps every image. Raises: ``h2t.Error`` where a class ends empty or has too few images.
    """
    available = np.bincount(labels, minlength=len(classes))
    if (available == 0).any():
        raise Error(
            f"class {classes[int(np.flatnonzero(available == 0)[0])]!r} has no training image"
        )
    if profile == "natural":
        indices = np.arange(len(labels), dtype=np.int64)
    else:
        if n_max > available.max():
            raise Error(
                f"n_max is {n_max}, but the largest class has {available.max()} images; set it to 0 for as many as there are"
            )
        counts = class_counts(
            n_max or largest_n_max(available, imbalance_factor, profile),
            imbalance_factor,
            len(classes),
            profile,
        )
        if (short := np.flatnonzero(available < counts)).size:
            c = int(short[0])
            raise Error(
                f"class {classes[c]!r} has {available[c]} images, but {counts[c]} are asked for; lower n_max, or set it to 0 for as many as fit"
            )
        indices = draw(labels, counts, split_seed)
    return _manifest(labels, indices, len(classes), source, profile, imbalance_factor, split_seed)


def from_indices(
    labels: np.ndarray,
    indices: np.ndarray,
    *,
    classes: tuple[str, ...],
    source: str,
    profile: str = "exponential",
    imbalance_factor: float = 100.0,
    split_seed: int = 0,
) -> Manifest:
    """Record a subset drawn elsewhere. ``indices`` (M,) into ``labels`` (N,). Raises ``h2t.Error`` where they do not fit."""
    indices = np.asarray(indices)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer) or not len(indices):
        raise Error(
            f"indices must be a list of whole numbers, got {indices.dtype} of shape {indices.shape}"
        )
    if indices.min() < 0 or indices.max() >= len(labels):
        raise Error(
            f"index {int(indices.max() if indices.max() >= len(labels) else indices.min())} is outside the {len(labels)} training images"
        )
    if len(np.unique(indices)) != len(indices):
        raise Error("indices name an image twice")
    counts = np.bincount(labels[indices], minlength=len(classes))
    if (counts == 0).any():
        raise Error(
            f"the indices leave class {classes[int(np.flatnonzero(counts == 0)[0])]!r} without an image"
        )
    return _manifest(
        labels,
        indices.astype(np.int64),
        len(classes),
        source,
        profile,
        imbalance_factor,
        split_seed,
    )


def hold_out(manifest: Manifest, fraction: float, seed: int) -> Manifest:
    """Take a validation part out of a long-tailed set, to choose by without looking at the test set.

    It is as long-tailed as the set: of every class the ``fraction``, rounded, but at least one image where the class has two,
    and never its last one. With 0.2 a class of 500 gives 100 and one of 5 gives 1; measure it by the mean over classes
    (``balanced``), and over several ``seed``s, since a tail class is then judged by a single image.
    Returns: the manifest of what is left to train on. Raises: ``h2t.Error`` where no class has two images.
    """
    kept, held = stratified(manifest.labels, len(manifest.counts), fraction, seed)
    if not len(held):
        raise Error(
            "val_fraction is above 0, but no class has two training images to hold one out; set val_fraction to 0"
        )
    labels = manifest.labels[kept]
    counts = np.bincount(labels, minlength=len(manifest.counts))
    return replace(
        manifest,
        indices=manifest.indices[kept],
        labels=labels,
        counts=tuple(map(int, counts)),
        val_indices=manifest.indices[held],
    )


def stratified(
    labels: np.ndarray, num_classes: int, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a share of every class: at least one image where it has two, never its last one.

    Returns: kept and held-out indices, ascending. No global generator is touched.
    """
    generator, held = np.random.default_rng([seed, 0x5917]), []
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    for indices in np.split(np.argsort(labels, kind="stable"), ends[:-1]):
        number = min(max(round(fraction * len(indices)), 1), len(indices) - 1)
        held.append(generator.permutation(indices)[: max(number, 0)])
    test = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), test), test


def _manifest(
    labels, indices, num_classes, source, profile, imbalance_factor, split_seed
) -> Manifest:
    counts = np.bincount(labels[indices], minlength=num_classes)
    return Manifest(
        source,
        profile,
        float(imbalance_factor),
        int(counts.max()),
        int(split_seed),
        indices,
        labels[indices],
        tuple(map(int, counts)),
    )


def read_indices(file: str | Path) -> np.ndarray:
    """Read a subset from a ``.npy`` file. Raises ``h2t.Error`` where it is missing, damaged or holds pickled objects."""
    try:
        return np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise Error(f"{file} does not exist") from None
    except (OSError, ValueError, EOFError) as e:
        raise Error(
            f"{file} is not a readable .npy file of indices: {' '.join(str(e).split())}"
        ) from None


def export_list(manifest: Manifest, file: str | Path, paths=None) -> None:
    """Write the subset as a list file, ``path label`` a line, which other projects read.

    Arguments: ``paths`` (M,) relative to the image root; array-backed sources have none, and their images are named
    ``train/<label>/<index>.png`` by their index in the source.
    Raises: ``h2t.Error`` for a path that holds a line break, which the format cannot say.
    """
    if paths is None:
        paths = [
            f"train/{label}/{index}.png"
            for index, label in zip(manifest.indices, manifest.labels, strict=True)
        ]
    lines = [f"{path} {label}\n" for path, label in zip(paths, manifest.labels, strict=True)]
    if broken := next((line for line in lines if "\n" in line[:-1]), None):
        raise Error(
            f"the path in {broken!r} holds a line break, which a list file cannot; rename the image"
        )
    write_atomic(file, "".join(lines).encode("utf-8", "surrogateescape"))


def import_list(file: str | Path, labels: np.ndarray, paths=None) -> np.ndarray:
    """Read a list file back into indices (M,) of a source's training part with ``labels`` (N,) and ``paths`` (N,).

    Raises: ``h2t.Error`` with the line's number for a path the source does not have or a label that differs.
    """
    from h2t.data.lists import read_list

    listed, given = read_list(file)
    if paths is None:
        known = {f"train/{label}/{i}.png": i for i, label in enumerate(labels)}
    else:
        known = {path: i for i, path in enumerate(paths)}
    indices = np.array([known.get(path, -1) for path in listed], dtype=np.int64)
    wrong = np.flatnonzero((indices < 0) | (labels[indices] != given))
    if wrong.size:
        k = int(wrong[0])
        why = "is not in the source" if indices[k] < 0 else f"has label {labels[indices[k]]} there"
        raise Error(f"{file}, line {k + 1}: {listed[k]} with label {given[k]} {why}")
    return indices
