"""Measures of a classifier on a test set, all in percent, from logits and labels."""

from __future__ import annotations

import numpy as np

from h2t.errors import Error

SCHEMES = ("field", "reference")


def groups(counts: np.ndarray, scheme: str = "field") -> dict[str, np.ndarray]:
    """The classes of the head, the middle and the tail.

    Sources: ``field``: many > 100, medium 20..100, few < 20 training images (Liu et al. 2019, OLTR); ``reference``: the
    fixed class ranges 0-35, 36-70, 71-99 of the H2T code, for 100 classes.

    Arguments: ``counts`` (C,) training images per class. Returns: many, medium and few to class indices, maybe none.
    Raises: ``h2t.Error`` for an unknown scheme, or the reference's with other than 100 classes.
    """
    counts = np.asarray(counts)
    if scheme == "field":
        named = (counts > 100, (counts >= 20) & (counts <= 100), counts < 20)
        return {g: np.flatnonzero(m) for g, m in zip(("many", "medium", "few"), named, strict=True)}
    if scheme == "reference":
        if len(counts) != 100:
            raise Error(f"groups = reference are ranges of 100 classes, but there are {len(counts)}; use groups = field")
        return {"many": np.arange(36), "medium": np.arange(36, 71), "few": np.arange(71, 100)}
    raise Error(f"groups is {scheme!r}; choose one of {', '.join(SCHEMES)}")


def _checked(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise Error(f"logits must be (N, C) and labels (N,), N > 0; got {logits.shape} and {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise Error(f"labels must lie in 0 to {logits.shape[1] - 1}, the classes of the logits; got {labels.min()} to {labels.max()}")
    if not np.isfinite(logits).all():
        raise Error(f"logits of test image {int(np.flatnonzero(~np.isfinite(logits).all(1))[0])} are not finite")
    return logits, labels


def per_class(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Accuracy of every class in percent, (C,); NaN for a class without test images."""
    logits, labels = _checked(logits, labels)
    total = np.bincount(labels, minlength=logits.shape[1])
    hits = np.bincount(labels[logits.argmax(1) == labels], minlength=logits.shape[1])
    with np.errstate(invalid="ignore"):
        return 100 * hits / total


def group_means(accuracy: np.ndarray, counts: np.ndarray, scheme: str = "field") -> dict[str, float | None]:
    """Mean of the classes' accuracies (C,) in each group; None for a group without tested classes."""
    means = {}
    for g, classes in groups(counts, scheme).items():
        tested = accuracy[classes][~np.isnan(accuracy[classes])]
        means[g] = float(tested.mean()) if len(tested) else None
    return means


def summary(logits: np.ndarray, labels: np.ndarray, counts: np.ndarray, scheme: str = "field") -> dict[str, float | None]:
    """Top-1, top-5, balanced and group accuracy, and expected calibration error, all in percent.

    ``top1`` and ``top5`` are shares of the test images (top5 None below six classes); ``balanced`` is the mean over
    classes, and many, medium and few the means over a group's classes, None where it has none.

    Arguments: ``logits`` (N, C); ``labels`` (N,); ``counts`` (C,) training images; ``scheme`` as in ``groups``.
    """
    logits, labels = _checked(logits, labels)
    accuracy = per_class(logits, labels)
    top5 = None
    if logits.shape[1] > 5:
        best = np.argpartition(-logits, 4, axis=1)[:, :5]
        top5 = float(100 * (best == labels[:, None]).any(1).mean())
    return {
        "top1": float(100 * (logits.argmax(1) == labels).mean()),
        "top5": top5,
        "balanced": float(np.nanmean(accuracy)),
        **group_means(accuracy, counts, scheme),
        "ece": ece(logits, labels),
    }


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confusion matrix (C, C) int64: rows are true classes, columns predicted ones."""
    logits, labels = _checked(logits, labels)
    c = logits.shape[1]
    return np.bincount(labels * c + logits.argmax(1), minlength=c * c).reshape(c, c)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) in float64, stable for any finite logits."""
    z = np.asarray(logits, np.float64)
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def calibration(logits: np.ndarray, labels: np.ndarray, bins: int = 15):
    """The reliability diagram as a table: per confidence bin (lower, upper], count, mean confidence and accuracy in percent.

    Source: Guo et al. 2017, equal-width bins. Empty bins have count 0 and NaN. Returns: a DataFrame of ``bins`` rows.
    """
    import pandas as pd

    logits, labels = _checked(logits, labels)
    confidence, hit = softmax(logits).max(1), logits.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean, accuracy = (100 * np.bincount(which, v, bins) / count for v in (confidence, hit))
    return pd.DataFrame({"lower": 100 * edges[:-1], "upper": 100 * edges[1:], "count": count, "confidence": mean, "accuracy": accuracy})


def ece(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error in percent: |accuracy - confidence| by bin, weighted by the bin's images (Guo et al. 2017)."""
    table = calibration(logits, labels, bins)
    full = table[table["count"] > 0]
    return float(((full["accuracy"] - full["confidence"]).abs() * full["count"]).sum() / len(labels))


def group_table(results: dict, counts: np.ndarray, scheme: str = "field"):
    """Methods side by side: a DataFrame with a row each and columns many, medium, few, all, balanced, top5, ECE in percent.

    Arguments: ``results`` name to ``(logits (N, C), labels (N,))``; empty groups are NaN.
    """
    import pandas as pd

    rows = {name: summary(*out, counts, scheme) for name, out in results.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").astype(float).rename(columns={"top1": "all", "ece": "ECE"})
    return table[["many", "medium", "few", "all", "balanced", "top5", "ECE"]]
