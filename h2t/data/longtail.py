"""Long-tailed subsets: class counts, the seeded draw, and what is held out."""

from __future__ import annotations

import bisect
from dataclasses import replace
from fractions import Fraction

import numpy as np

from h2t.base.errors import Error
from h2t.data.manifest import Manifest

PROFILES = ("exponential", "step", "natural")


def class_counts(
    n_max: int, imbalance_factor: float, num_classes: int, profile: str = "exponential"
) -> np.ndarray:
    """Training images per class (C,) int64, class 0 the head.

    Source: Cao et al. 2019 (LDAM) and the H2T reference: exponential,
    int(n_max * (1 / IF)^(i / (C - 1))); step, half of the classes n_max, the others n_max / IF.
    Raises: ``h2t.Error`` for a factor IF that empties a class.
    """
    counts = _counts(n_max, imbalance_factor, num_classes, profile)
    if counts.min() < 1:
        what = f"imbalance_factor {imbalance_factor} with n_max {n_max} leaves class"
        mend = f"lower it to at most {n_max}, or raise n_max"
        raise Error(f"{what} {counts.argmin()} without an image; {mend}")
    return counts


def _counts(n_max: int, imbalance_factor: float, num_classes: int, profile: str) -> np.ndarray:
    if profile == "exponential":
        steps = max(num_classes - 1, 1)
        shares = np.array([(1 / imbalance_factor) ** (i / steps) for i in range(num_classes)])
    else:
        first = num_classes - num_classes // 2
        shares = np.where(np.arange(num_classes) < first, 1.0, 1 / imbalance_factor)
    counts = (n_max * shares).astype(np.int64)
    if num_classes > 1:  # 1 / IF is rounded, so that 300 / 3 would come out as 99
        counts[shares == shares[-1]] = int(Fraction(int(n_max)) / Fraction(imbalance_factor))
    return counts


def largest_n_max(available: np.ndarray, imbalance_factor: float, profile: str) -> int:
    """The largest n_max for which each class has the images, ``available`` (C,), that it needs."""

    def too_many(n_max: int) -> bool:
        counts = _counts(n_max, imbalance_factor, len(available), profile)
        return bool((counts > available).any())

    return bisect.bisect_left(range(2, int(available.max()) + 1), True, key=too_many) + 1


def draw(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """The field's subset: NumPy's legacy generator shuffles each class's indices, in label order,
    and the first n_c stay.

    Subsets of smaller counts are contained in those of larger ones with the same seed.
    Arguments: ``labels`` (N,) int64; ``counts`` (C,) n_c. Returns: (sum of counts,) int64, class
    after class.
    """
    generator, chosen = np.random.RandomState(seed), []
    for indices, n in zip(_by_class(labels, len(counts)), counts, strict=True):
        generator.shuffle(indices)
        chosen.append(indices[:n])
    return np.concatenate(chosen).astype(np.int64)


def _by_class(labels: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """The indices of each class, ascending."""
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    return np.split(np.argsort(labels, kind="stable"), ends[:-1])


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
    """Draw a long-tailed subset of a training part, with labels (N,), as a recipe says; record it.

    Raises: ``h2t.Error`` where a class ends empty or has too few images.
    """
    available = np.bincount(labels, minlength=len(classes))
    if (available == 0).any():
        raise Error(f"class {classes[available.argmin()]!r} has no training image")
    indices = np.arange(len(labels), dtype=np.int64)
    if profile != "natural":
        n_max = n_max or largest_n_max(available, imbalance_factor, profile)
        counts = class_counts(n_max, imbalance_factor, len(classes), profile)
        if (short := np.flatnonzero(available < counts)).size:
            c = int(short[0])
            has = f"class {classes[c]!r} has {available[c]} images, but {counts[c]} are asked for"
            raise Error(f"{has}; lower n_max, or set it to 0 for as many as fit")
        indices = draw(labels, counts, split_seed)
    how = {"imbalance_factor": imbalance_factor, "split_seed": split_seed}
    return from_indices(labels, indices, classes=classes, source=source, profile=profile, **how)


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
    """Record a subset, ``indices`` (M,) into ``labels`` (N,)."""
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or not len(indices):
        what = f"{indices.dtype} of shape {indices.shape}"
        raise Error(f"indices are {what}, no list of whole numbers")
    if (wrong := indices[(indices < 0) | (indices >= len(labels))]).size:
        raise Error(f"index {wrong[0]} is outside the {len(labels)} training images")
    if len(np.unique(indices)) != len(indices):
        raise Error("indices name an image twice")
    indices = indices.astype(np.int64)
    counts = np.bincount(labels[indices], minlength=len(classes))
    if (counts == 0).any():
        raise Error(f"the indices leave class {classes[counts.argmin()]!r} without an image")
    how = source, profile, float(imbalance_factor), int(counts.max()), int(split_seed)
    return Manifest(*how, indices, labels[indices], tuple(map(int, counts)))


def hold_out(
    manifest: Manifest, fraction: float, seed: int, groups: np.ndarray | None = None
) -> Manifest:
    """Take a validation part out of a long-tailed set, to choose by without the test set.

    It is as long-tailed as the set: measure it by the mean over classes, and over several seeds,
    since of a tail class it may hold a single image.

    Arguments: as of ``stratified``. Returns: the manifest of what is left to train on.
    Raises: ``h2t.Error`` where no class has two images.
    """
    kept, held = stratified(manifest.labels, len(manifest.counts), fraction, seed, groups)
    if not len(held):
        none = "no class has two training images (or groups) to hold one out"
        raise Error(f"val_fraction is above 0, but {none}; set val_fraction to 0")
    labels = manifest.labels[kept]
    return replace(
        manifest,
        indices=manifest.indices[kept],
        labels=labels,
        counts=tuple(np.bincount(labels, minlength=len(manifest.counts)).tolist()),
        val_indices=manifest.indices[held],
    )


def stratified(
    labels: np.ndarray,
    num_classes: int,
    fraction: float,
    seed: int,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a share of every class: at least one image where it has two, never its last one.

    Arguments: ``labels`` (N,); ``groups`` (N,) names of what stays on one side, so that shares are
    met as far as groups allow. Returns: kept and held-out indices, ascending.
    """
    generator = np.random.default_rng([seed, 0x5917])
    if groups is not None:
        test = _whole_groups(labels, num_classes, fraction, generator, groups)
        return np.setdiff1d(np.arange(len(labels)), test), test
    held = []
    for indices in _by_class(labels, num_classes):
        number = min(max(round(fraction * len(indices)), 1), max(len(indices) - 1, 0))
        held.append(generator.permutation(indices)[:number])
    test = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), test), test


def _whole_groups(labels, num_classes, fraction, generator, groups) -> np.ndarray:
    """Class by class from the smallest on, groups of which no side is chosen yet get one."""
    groups = np.unique(groups, return_inverse=True)[1]
    held, kept = (np.zeros(groups.max() + 1, bool) for _ in range(2))
    for c in np.argsort(np.bincount(labels, minlength=num_classes), kind="stable"):
        sizes = np.bincount(groups[labels == c], minlength=len(held))
        wanted, taken = round(fraction * sizes.sum()), sizes[held].sum()
        for group in generator.permutation(np.flatnonzero((sizes > 0) & ~held & ~kept)):
            others = ((sizes > 0) & ~held).sum() > 1  # a class keeps one at least
            if others and (not taken or taken + sizes[group] <= wanted):
                held[group], taken = True, taken + sizes[group]
            else:
                kept[group] = True
    return np.flatnonzero(held[groups])
