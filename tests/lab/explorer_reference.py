"""What the explorer draws of a pair of classes, computed once more in Python: what its front end
is held against."""

from __future__ import annotations

import numpy as np
import torch

from h2t.fusion import blend, soft_share
from h2t.lab.explorer.boundary import plane


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
