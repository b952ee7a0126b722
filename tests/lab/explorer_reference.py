"""What the explorer draws of a pair of classes, computed once more in Python: what its front end
is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from h2t.fusion import blend, soft_share
from h2t.lab.explorer.boundary import blocks_of, pair, seen


@dataclass(frozen=True)
class Plane:
    """The plane of two boundaries: ``basis`` (2, D) orthonormal; ``before`` and ``after``, each
    ``(a (2,), b)``, the lines a . x + b = 0, positive on the tail's side."""

    basis: np.ndarray
    before: tuple[np.ndarray, float]
    after: tuple[np.ndarray, float]
    blocks: int

    def project(self, z: np.ndarray) -> np.ndarray:
        """Coordinates (n, 2) of features (n, D)."""
        return seen(z, self.blocks) @ self.basis.T


def plane(before, after, head, tail, scale=None, num_experts=1) -> Plane:
    """The plane in which the boundaries of two classifiers are straight lines; where both have one
    direction the second axis is any other."""
    (d1, b1), (d2, b2) = (pair(c, head, tail, scale, num_experts) for c in (before, after))
    e1 = d1 / np.linalg.norm(d1)
    rest = d2 - (d2 @ e1) * e1
    if np.linalg.norm(rest) < 1e-9 * np.linalg.norm(d2):
        rest = np.eye(len(d1))[np.abs(e1).argmin()]
        rest = rest - (rest @ e1) * e1
    e2 = rest / np.linalg.norm(rest)
    e2 -= (e2 @ e1) * e1  # once more, against rounding
    basis = np.stack([e1, e2 / np.linalg.norm(e2)])
    return Plane(basis, (basis @ d1, b1), (basis @ d2, b2), blocks_of(scale, num_experts))


def fused(engine, state) -> np.ndarray:
    """Features of the tail class after fusion at the current ratio, each with a mask of its own,
    (n, D)."""
    bank, recipe = engine.bank, state.recipe
    lent, rank = engine.lent(recipe)
    own = bank.train[0, bank.labels == state.tail]
    own = own[torch.arange(len(lent)) % len(own)]
    share = soft_share(own, bank.centres[state.tail]) if recipe.fusion == "soft" else None
    swapped = int(recipe.fusion_ratio * (bank.num_features // bank.num_experts))
    return blend(own, lent, rank < swapped, recipe.fusion_ratio, recipe.fusion, share).numpy()


def points(engine, state) -> dict[str, np.ndarray]:
    """Features of both classes: training (first view), fused, and test."""
    bank, h, t = engine.bank, state.head, state.tail
    return {
        "train head": bank.train[0, bank.labels == h].numpy(),
        "test head": bank.test[bank.test_labels == h].numpy(),
        "fused": fused(engine, state),
        "train tail": bank.train[0, bank.labels == t].numpy(),
        "test tail": bank.test[bank.test_labels == t].numpy(),
    }


def boundary(engine, state):
    """The plane of the boundaries without fusion and with it, and every set of points in it."""
    bank, fitted = engine.bank, engine.classifiers(state)
    before, after = fitted[engine.at_zero], fitted["current"]
    drawn = plane(before, after, state.head, state.tail, bank.scale, bank.num_experts)
    return drawn, {name: drawn.project(z) for name, z in points(engine, state).items()}
