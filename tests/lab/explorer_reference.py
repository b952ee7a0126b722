"""What the explorer draws of a pair of classes, computed once more in Python: what its front end
is held against."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import torch

from h2t.fusion import blend, soft_share
from h2t.lab.explorer.boundary import plane


def changed(engine, **recipe):
    """The state that an explorer starts from, with another recipe."""
    state = engine.start
    return dataclasses.replace(state, recipe=dataclasses.replace(state.recipe, **recipe))


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


def unpack(frame: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """What a frame says, and its arrays, real numbers as such."""
    start = 8 + int.from_bytes(frame[4:8], "little")
    meta, arrays = json.loads(frame[8:start]), {}
    for name, record in meta.pop("arrays").items():
        count = int(np.prod(record["shape"]))
        numbers = np.frombuffer(frame, f"<{record['type']}", count, start + record["at"])
        if "scale" in record:
            numbers = record["scale"] * numbers.astype(np.float64) + record["offset"]
        arrays[name] = numbers.reshape(record["shape"])
    return meta, arrays
