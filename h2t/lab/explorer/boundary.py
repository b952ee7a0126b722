"""Decision boundaries between two classes, where they really are, and how far all of them moved.

Between classes ``head`` and ``tail`` a linear (or cosine) classifier decides by the sign of d . z +
b with d = w_tail - w_head. In the plane spanned by the d of two classifiers (``static/plane.js``
draws it too) both boundaries are straight lines, and every feature lies on its true side.

A classifier is (weight (C, D), bias (C,)). ``scale`` is None for a linear head; of a cosine head,
rows count at unit length and there is no bias.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from h2t.base.errors import Error

Line = tuple[np.ndarray, float]  # a and b of a . x + b = 0, positive on the tail's side


@dataclass(frozen=True)
class Plane:
    """The plane of two boundaries: ``basis`` (2, D) orthonormal, and the lines in it."""

    basis: np.ndarray
    before: Line
    after: Line
    scale: float | None
    num_experts: int

    def project(self, z: np.ndarray) -> np.ndarray:
        """Coordinates (n, 2) of features (n, D)."""
        return seen(z, self.scale, self.num_experts) @ self.basis.T


def seen(z: np.ndarray, scale: float | None, num_experts: int) -> np.ndarray:
    """What decisions are linear in: features (n, D) as they are, of several cosine experts each
    block at unit length. One cosine's decision does not depend on a feature's length."""
    z = np.asarray(z, np.float64)
    if scale is None or num_experts == 1:
        return z
    parts = z.reshape(len(z), num_experts, -1)
    return (parts / np.linalg.norm(parts, axis=2, keepdims=True).clip(1e-12)).reshape(z.shape)


def pair(
    classifier, head: int, tail: int, scale: float | None = None, num_experts: int = 1
) -> Line:
    """What decides between two classes: d (D,) and b, positive for the tail.

    Raises: ``h2t.Error`` for classes out of range or equal.
    """
    weight, bias = (np.asarray(part, np.float64) for part in classifier)
    for name, c in (("head", head), ("tail", tail)):
        if not 0 <= c < len(weight):
            raise Error(f"{name} class is {c}; the classifier has classes 0 to {len(weight) - 1}")
    if head == tail:
        raise Error(f"head and tail class are both {head}; choose two different classes")
    if scale is not None:
        weight, bias = seen(weight, scale, num_experts), np.zeros(len(weight))
        weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    return weight[tail] - weight[head], float(bias[tail] - bias[head])


def plane(
    before, after, head: int, tail: int, scale: float | None = None, num_experts: int = 1
) -> Plane:
    """The plane in which the boundaries of two classifiers are straight lines; where both have one
    direction the second axis is any other. Raises: as ``pair``."""
    (d1, b1), (d2, b2) = (pair(c, head, tail, scale, num_experts) for c in (before, after))
    e1 = d1 / np.linalg.norm(d1)
    rest = d2 - (d2 @ e1) * e1
    if np.linalg.norm(rest) < 1e-9 * np.linalg.norm(d2):
        rest = np.eye(len(d1))[np.abs(e1).argmin()]
        rest = rest - (rest @ e1) * e1
    e2 = rest / np.linalg.norm(rest)
    e2 -= (e2 @ e1) * e1  # once more, against rounding
    basis = np.stack([e1, e2 / np.linalg.norm(e2)])
    return Plane(basis, (basis @ d1, b1), (basis @ d2, b2), scale, num_experts)


def pair_table(
    before,
    after,
    z: np.ndarray,
    labels: np.ndarray,
    heads,
    tails,
    scale: float | None = None,
    num_experts: int = 1,
) -> pd.DataFrame:
    """How far each boundary between a head and a tail class moved: a row per pair, by that.

    ``moved`` is the shift of the boundary towards the head along the line between the two classes'
    mean features, as a share of it. ``tail_before`` and the like are the shares, in %, of a class's
    features on its own side.

    Arguments: ``z`` (n, D) features and ``labels`` (n,), usually the test set's; ``heads``,
    ``tails`` class indices. Raises: ``h2t.Error`` for a class without features.
    """
    z, labels, rows = seen(z, scale, num_experts), np.asarray(labels), []
    of_class = {int(c): z[labels == c] for c in {*heads, *tails}}
    for c, features in of_class.items():
        if not len(features):
            raise Error(f"class {c} has no features to judge its boundaries by")
    for h, t in itertools.product(map(int, heads), map(int, tails)):
        crossing, row = {}, {"head": h, "tail": t, "moved": 0.0}
        for name, classifier in (("before", before), ("after", after)):
            d, b = pair(classifier, h, t, scale, num_experts)
            at_h, at_t = (of_class[c].mean(0) @ d + b for c in (h, t))
            # where on the way from the head's mean (0) to the tail's (1) the score crosses zero
            crossing[name] = at_h / (at_h - at_t) if at_h != at_t else np.nan
            row[f"tail_{name}"] = 100 * (of_class[t] @ d + b > 0).mean()
            row[f"head_{name}"] = 100 * (of_class[h] @ d + b <= 0).mean()
        row["moved"] = crossing["before"] - crossing["after"]
        rows.append(row)
    return pd.DataFrame(rows).sort_values("moved", ascending=False, ignore_index=True)
