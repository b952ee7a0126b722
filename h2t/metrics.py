"""Measures of a classifier on a test set, all in percent, from logits and labels."""

from collections.abc import Sequence

import numpy as np

from h2t.base.errors import Error

SCHEMES = ("field", "reference")
GROUPS = ("many", "medium", "few")
# every measure of a step, by the name that files, tables, figures and parameters use
MEASURES = (*GROUPS, "all", "balanced", "top5", "ece")
LABELS = {"ece": "ECE", "top5": "top-5", "val_balanced": "validation"}  # what people read
# logits looked at together: keeps 24,000 images of 8,142 classes from needing gigabytes
BLOCK = 1 << 22


def label(measure: str) -> str:
    """A measure as figures and tables print it."""
    return LABELS.get(measure, measure)


def groups(counts: np.ndarray, scheme: str = "field") -> dict[str, np.ndarray]:
    """The classes of the head, the middle and the tail.

    Sources: ``field``: many > 100, medium 20..100, few < 20 training images (Liu et al. 2019,
    OLTR); ``reference``: the fixed class ranges 0-35, 36-70, 71-99 of the H2T code, for 100
    classes.

    Arguments: ``counts`` (C,) training images per class. Returns: many, medium and few to class
    indices, maybe none. Raises: ``h2t.Error`` for counts that are none, an unknown scheme, or the
    reference's with other than 100 classes.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.number):
        got = f"{counts.shape}, {counts.dtype}"
        raise Error(f"counts must be (C,) numbers of training images; got shape {got}")
    if not (counts >= 0).all():  # also catches NaN
        c = int(np.flatnonzero(~(counts >= 0))[0])
        raise Error(f"counts must be 0 or more; class {c} has {counts[c]}")
    if scheme == "field":
        named = (counts > 100, (counts >= 20) & (counts <= 100), counts < 20)
        return {g: np.flatnonzero(m) for g, m in zip(GROUPS, named, strict=True)}
    if scheme != "reference":
        raise Error(f"groups is {scheme!r}; choose one of {', '.join(SCHEMES)}")
    if len(counts) != 100:
        what = f"groups = reference are ranges of 100 classes, but there are {len(counts)}"
        raise Error(f"{what}; use groups = field")
    return dict(zip(GROUPS, np.split(np.arange(100), (36, 71)), strict=True))


def ends(
    counts: np.ndarray, scheme: str = "field", labels: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The head and the tail of any set: its outermost groups that have classes, or where only one
    has, the larger and the smaller half of its classes.

    Arguments: ``counts``, ``scheme`` as in ``groups``; ``labels`` of the test set, to leave out
    classes it does not have. Returns: two names to class indices, the head first. Raises:
    ``h2t.Error`` for fewer than two classes.
    """
    counts = np.asarray(counts)  # a list, as a file has them
    here = np.arange(len(counts)) if labels is None else np.unique(labels)
    if len(here) < 2:
        raise Error(f"head and tail need at least two classes; this set has {len(here)}")
    filled = {g: np.intersect1d(c, here) for g, c in groups(counts, scheme).items()}
    filled = {g: c for g, c in filled.items() if len(c)}
    if len(filled) > 1:
        return {g: filled[g] for g in (list(filled)[0], list(filled)[-1])}
    order = here[np.argsort(-counts[here], kind="stable")]
    half = len(order) // 2
    return {"larger": np.sort(order[:half]), "smaller": np.sort(order[half:])}


def _checked(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        got = f"{logits.shape} and {labels.shape}"
        raise Error(f"logits must be (N, C) and labels (N,), N > 0; got {got}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise Error(f"labels must be whole numbers; got {labels.dtype}")
    if not np.issubdtype(logits.dtype, np.floating):
        raise Error(f"logits must be floating point; got {logits.dtype}")
    labels = labels.astype(np.int64)  # a file's uint8 would overflow where they are multiplied
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        within = f"0 to {logits.shape[1] - 1}, the classes of the logits"
        raise Error(f"labels must lie in {within}; got {labels.min()} to {labels.max()}")
    finite = _by_block(lambda z: np.isfinite(z).all(1), logits)
    if not finite.all():
        raise Error(f"logits of test image {int(np.flatnonzero(~finite)[0])} are not finite")
    return logits, labels


def _by_block(measure, *arrays: np.ndarray) -> np.ndarray:
    """``measure`` of the rows of the arrays, (N,), some rows at a time."""
    rows = max(1, BLOCK // arrays[0].shape[1])
    parts = range(0, len(arrays[0]), rows)
    return np.concatenate([measure(*(a[i : i + rows] for a in arrays)) for i in parts])


def rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the true one (N,); of equals the lower, as argmax has it."""
    true = np.take_along_axis(logits, labels[:, None], 1)
    lower = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > true) | ((logits == true) & lower)).sum(1)


def per_class(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Accuracy of every class in percent, (C,); NaN for a class without test images."""
    logits, labels = _checked(logits, labels)
    total = np.bincount(labels, minlength=logits.shape[1])
    hits = np.bincount(labels[logits.argmax(1) == labels], minlength=logits.shape[1])
    with np.errstate(invalid="ignore"):
        return 100 * hits / total


def group_means(
    accuracy: np.ndarray, counts: np.ndarray, scheme: str = "field"
) -> dict[str, float | None]:
    """Mean of the classes' accuracies (C,) in each group; None where none is tested."""
    means, accuracy, parts = {}, np.asarray(accuracy, np.float64), groups(counts, scheme)
    if len(counts) != len(accuracy):
        what = f"counts name {len(counts)} classes, but the classifier has {len(accuracy)}"
        raise Error(f"{what}; give one count per class")
    for g, classes in parts.items():
        tested = accuracy[classes][~np.isnan(accuracy[classes])]
        means[g] = float(tested.mean()) if len(tested) else None
    return means


def summary(
    logits: np.ndarray, labels: np.ndarray, counts: np.ndarray, scheme: str = "field"
) -> dict[str, float | None]:
    """Top-1, top-5, balanced and group accuracy, and expected calibration error, all in percent.

    ``all`` and ``top5`` are shares of the test images (top5 None below six classes); ``balanced``
    is the mean over classes, and many, medium and few the means over a group's classes, None where
    it has none.

    Arguments: ``logits`` (N, C) of float16 to float64; ``labels`` (N,) integers; ``counts``,
    ``scheme`` as in ``groups``. Raises: ``h2t.Error`` for shapes that do not agree, labels out of
    range, logits that are not finite.
    """
    logits, labels = _checked(logits, labels)
    accuracy = per_class(logits, labels)
    before = _by_block(rank, logits, labels)
    return {
        "all": float(100 * (before < 1).mean()),
        "top5": float(100 * (before < 5).mean()) if logits.shape[1] > 5 else None,
        "balanced": float(np.nanmean(accuracy)),
        **group_means(accuracy, counts, scheme),
        "ece": ece(logits, labels),
    }


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confusion matrix (C, C) int64: rows are true classes, columns predicted ones."""
    logits, labels = _checked(logits, labels)
    c = logits.shape[1]
    return np.bincount(labels * c + logits.argmax(1), minlength=c * c).reshape(c, c)


def class_table(logits: np.ndarray, labels: np.ndarray, names: Sequence[str], counts: np.ndarray):
    """What becomes of each class, in percent: a DataFrame, a row a class.

    Its last column is the class that its images are most often taken for. A number that does not
    exist, such as the recall of a class without test images, is NaN.
    """
    import pandas as pd

    table = confusion(logits, labels)  # rows are true classes
    hits, given, images = np.diag(table), table.sum(0), table.sum(1)
    wrong = table - np.diag(hits)
    taken = [names[k] if wrong[c, k] else "" for c, k in enumerate(wrong.argmax(1))]
    with np.errstate(invalid="ignore"):
        columns = {
            "class": list(names),
            "training images": counts,
            "test images": images,
            "precision": 100 * hits / given,
            "recall": 100 * hits / images,
            "f1": 200 * hits / (given + images),
            "taken for": taken,
        }
    return pd.DataFrame(columns)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) in float64, stable for any finite logits."""
    z = np.asarray(logits, np.float64)
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def calibration(logits: np.ndarray, labels: np.ndarray, bins: int = 15):
    """The reliability diagram: per bin (lower, upper], count, mean confidence and accuracy in %.

    Source: Guo et al. 2017, equal-width bins. Empty bins have count 0 and NaN. Returns: a DataFrame
    of ``bins`` rows.
    """
    import pandas as pd

    logits, labels = _checked(logits, labels)
    confidence, hit = _by_block(lambda z: softmax(z).max(1), logits), logits.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean, accuracy = (100 * np.bincount(which, v, bins) / count for v in (confidence, hit))
    columns = {"lower": 100 * edges[:-1], "upper": 100 * edges[1:], "count": count}
    return pd.DataFrame({**columns, "confidence": mean, "accuracy": accuracy})


def ece(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in percent: |accuracy - confidence|, weighted by bins' images."""
    table = calibration(logits, labels, bins)
    full = table[table["count"] > 0]
    gap = (full["accuracy"] - full["confidence"]).abs() * full["count"]
    return float(gap.sum() / len(labels))
