"""Decision boundaries between two classes, drawn where they really are.

Between classes ``head`` and ``tail`` a linear (or cosine) classifier decides by the sign of d . z +
b with d = w_tail - w_head. In the plane spanned by the d of two classifiers both boundaries are
straight lines, and every feature, projected onto it, lies on the side on which each classifier puts
it. Nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2t.base.errors import Error


@dataclass(frozen=True)
class Plane:
    """The plane of two pairwise boundaries: ``basis`` (2, D) orthonormal; ``before`` and
    ``after``, each ``(a (2,), b)``, the lines a . x + b = 0, positive on the tail's side;
    ``blocks`` of a feature that count at unit length (else 0)."""

    basis: np.ndarray
    before: tuple[np.ndarray, float]
    after: tuple[np.ndarray, float]
    blocks: int = 0

    def project(self, z: np.ndarray) -> np.ndarray:
        """Coordinates (n, 2) of features (n, D)."""
        return seen(z, self.blocks) @ self.basis.T


def seen(z: np.ndarray, blocks: int) -> np.ndarray:
    """What a classifier's decisions are linear in: features (n, D) as they are, or, for several
    cosine experts, with each of their ``blocks`` at unit length."""
    z = np.asarray(z, np.float64)
    if not blocks:
        return z
    parts = z.reshape(len(z), blocks, -1)
    return (parts / np.linalg.norm(parts, axis=2, keepdims=True).clip(1e-12)).reshape(z.shape)


def _blocks(scale: float | None, num_experts: int) -> int:
    """A linear classifier takes features as they are; one cosine's decision does not depend on
    their length."""
    return num_experts if scale is not None and num_experts > 1 else 0


def pair(
    weight: np.ndarray,
    bias: np.ndarray,
    head: int,
    tail: int,
    scale: float | None = None,
    num_experts: int = 1,
) -> tuple[np.ndarray, float]:
    """What decides between two classes: d (D,) and b, positive for the tail.

    Arguments: ``weight`` (C, D) and ``bias`` (C,) of the classifier; ``scale`` None for a linear
    head; for a cosine head rows are taken at unit length and there is no bias (its decision does
    not depend on the feature's length). Raises: ``h2t.Error`` for classes out of range or equal.
    """
    weight, bias = np.asarray(weight, np.float64), np.asarray(bias, np.float64)
    for name, c in (("head", head), ("tail", tail)):
        if not 0 <= c < len(weight):
            raise Error(f"{name} class is {c}; the classifier has classes 0 to {len(weight) - 1}")
    if head == tail:
        raise Error(f"head and tail class are both {head}; choose two different classes")
    if scale is not None:
        weight, bias = seen(weight, _blocks(scale, num_experts)), np.zeros(len(weight))
        weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    return weight[tail] - weight[head], float(bias[tail] - bias[head])


def plane(
    before, after, head: int, tail: int, scale: float | None = None, num_experts: int = 1
) -> Plane:
    """The plane in which the boundaries of two classifiers between two classes are straight
    lines.

    Arguments: ``before`` and ``after`` each ``(weight (C, D), bias (C,))``; ``head`` and ``tail``
    class indices; ``scale`` of a cosine head, else None; ``num_experts`` of which it is the mean.
    Where both directions coincide the second axis is any other direction.
    """
    (d1, b1), (d2, b2) = (
        pair(*np_pair(c), head, tail, scale, num_experts) for c in (before, after)
    )
    e1 = d1 / np.linalg.norm(d1)
    rest = d2 - (d2 @ e1) * e1
    if np.linalg.norm(rest) < 1e-9 * np.linalg.norm(
        d2
    ):  # parallel: complete the basis with the smallest component's axis
        rest = np.eye(len(d1))[np.abs(e1).argmin()]
        rest = rest - (rest @ e1) * e1
    e2 = rest / np.linalg.norm(rest)
    e2 -= (e2 @ e1) * e1  # once more, against rounding
    basis = np.stack([e1, e2 / np.linalg.norm(e2)])
    return Plane(basis, (basis @ d1, b1), (basis @ d2, b2), _blocks(scale, num_experts))


def np_pair(classifier) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = classifier
    return np.asarray(weight), np.asarray(bias)


def pair_table(
    before,
    after,
    z: np.ndarray,
    labels: np.ndarray,
    heads,
    tails,
    scale: float | None = None,
    num_experts: int = 1,
):
    """How far each head-tail boundary moved, and what that won, for all pairs.

    ``moved`` is the shift of the boundary towards the head along the line between the two classes'
    mean features, in units of the margin (the distance between these means): 0.1 means that a tenth
    of the way from tail to head was won for the tail. ``tail_before`` and the like are the shares,
    in %, of a class's features on its own side.

    Arguments: ``before``, ``after`` as in ``plane``; ``z`` (n, D) features and ``labels`` (n,),
    usually the test set's; ``heads``, ``tails`` class indices. Returns: a DataFrame, a row per
    pair, largest shift first.
    """
    import pandas as pd

    z, labels, rows = seen(z, _blocks(scale, num_experts)), np.asarray(labels), []
    of_class = {c: z[labels == c] for c in {*map(int, heads), *map(int, tails)}}
    for c, features in of_class.items():
        if not len(features):
            raise Error(f"class {c} has no features to judge its boundaries by")
    for h in map(int, heads):
        for t in map(int, tails):
            mean_h, mean_t = of_class[h].mean(0), of_class[t].mean(0)
            crossing, shares = [], {}
            for name, classifier in (("before", before), ("after", after)):
                d, b = pair(*np_pair(classifier), h, t, scale, num_experts)
                at_h, at_t = mean_h @ d + b, mean_t @ d + b
                # where on the way from the head's mean (0) to the tail's (1) the score crosses zero
                crossing.append(at_h / (at_h - at_t) if at_h != at_t else np.nan)
                shares[f"tail_{name}"] = 100 * (of_class[t] @ d + b > 0).mean()
                shares[f"head_{name}"] = 100 * (of_class[h] @ d + b <= 0).mean()
            rows.append(
                {
                    "head": h,
                    "tail": t,
                    "moved": crossing[0] - crossing[1],
                    **shares,
                    "tail_gain": shares["tail_after"] - shares["tail_before"],
                    "head_gain": shares["head_after"] - shares["head_before"],
                }
            )
    return pd.DataFrame(rows).sort_values("moved", ascending=False, ignore_index=True)
