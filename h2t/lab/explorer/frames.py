"""What the explorer's front end is given, as frames: one function a kind."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from h2t import metrics
from h2t.base.choices import FUSIONS
from h2t.lab.explorer.engine import BRANCHES, LIMITS, Explorer
from h2t.lab.payload import Quantised, pack
from h2t.recipes.names import STEPS
from h2t.recipes.parameters import Stage2

SETTINGS = ("fusion", "fusing_branch", "stage2_epochs", "stage2_lr", "seed")
GROUPS = (*metrics.GROUPS, "all")
TRAIN = 600  # training features of a class at most
FINE = 2_000_000  # test features up to here travel in two bytes each, beyond in one


def settings_of(recipe: Stage2) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in SETTINGS}


def base(engine: Explorer, state, live: bool) -> bytes:
    bank, shown = engine.bank, engine.shown()
    first, again = engine.first.argmax(1), engine.predict(*engine.stage1)
    meta = {
        "live": live,
        "classes": bank.classes,
        "groups": {g: c.tolist() for g, c in metrics.groups(bank.counts, bank.scheme).items()},
        "scale": bank.scale,
        "experts": bank.num_experts,
        "positions": engine.positions,
        "p": round(100 * state.recipe.fusion_ratio),
        "head": state.head,
        "tail": state.tail,
        "pairs": engine.pairs,
        "at_zero": engine.at_zero,
        "statistics": bank.bn_statistics,
        "settings": settings_of(state.recipe),
        "choices": {"fusion": FUSIONS, "fusing_branch": BRANCHES},
        "limits": LIMITS,
        "published": _published(engine.published),
        "steps": [_step(s) for s in engine.run.steps()],
    }
    return pack(
        "base",
        meta,
        counts=bank.counts,
        totals=np.bincount(engine.labels, minlength=len(bank.counts)),
        index=shown,
        labels=engine.labels[shown],
        test=Quantised(bank.test[shown], "i2" if bank.test.numel() <= FINE else "u1"),
        weight=Quantised(bank.weight, "i2"),
        bias=bank.bias,
        first=first[shown],
        sure=(255 * metrics.softmax(engine.first[shown]).max(1)).round().astype(np.uint8),
        correct=_correct(engine, first),
        correct_again=_correct(engine, again),
    )


def _correct(engine: Explorer, predicted: np.ndarray) -> np.ndarray:
    """Right answers by class (C,)."""
    right = engine.labels[predicted == engine.labels]
    return np.bincount(right, minlength=len(engine.bank.counts))


def _published(table) -> dict[str, list[float]] | None:
    if table is None:
        return None
    return {g: rows["accuracy"].tolist() for g, rows in table.groupby("group")}


def _step(step) -> dict[str, Any]:
    last = {g: step.result["last"][g] for g in GROUPS}
    return {"step": step.name, "name": STEPS.get(step.name, step.name), **last}


def of_class(engine: Explorer, c: int) -> bytes:
    """The training features of a class under the first view, and their mean over all views."""
    bank, every = engine.bank, engine.every["train"]
    z = bank.train[0, bank.labels == c]
    return pack(
        "class",
        {"class": c},
        train=Quantised(z[: TRAIN * every : every], "u1"),
        centre=bank.centres[c],
    )


def fused(engine: Explorer, recipe: Stage2) -> bytes:
    lent, rank = engine.lent(recipe)
    settings = {"settings": settings_of(recipe)}
    return pack("fused", settings, lent=Quantised(lent, "u1"), rank=rank)


def fits(engine: Explorer, recipe: Stage2, positions: list[list[int]], fitted) -> bytes:
    """Classifiers as ``h2t.train.cached.fit.fit`` gives them, a ratio for each, and the
    ``positions`` that each of them stands for."""
    shown, predicted, right = engine.shown(), [], []
    for weight, bias in zip(fitted.weight[:, 0], fitted.bias[:, 0], strict=True):
        classes = engine.predict(weight, bias)
        predicted.append(classes[shown])
        right.append(_correct(engine, classes))
    return pack(
        "fits",
        {"settings": settings_of(recipe), "positions": positions},
        weight=Quantised(fitted.weight[:, 0], "i2"),
        bias=fitted.bias[:, 0],
        predicted=np.stack(predicted),
        correct=np.stack(right),
    )


def curve(recipe: Stage2, table) -> bytes:
    """The ratio curve as ``Fits.table``: accuracies in % by group, ratio and seed."""
    meta: dict[str, Any] = {"settings": settings_of(recipe), "accuracy": {}}
    for group, rows in table.groupby("group"):
        grid = rows.pivot(index="ratio", columns="seed", values="accuracy")
        meta |= {"ratios": grid.index.tolist(), "seeds": grid.columns.tolist()}
        empty = grid.isna().any(axis=None)
        meta["accuracy"][group] = None if empty else grid.to_numpy().round(3).tolist()
    return pack("curve", meta)


def images(engine: Explorer, index: np.ndarray, side: int = 96, quality: int = 90) -> bytes:
    """Thumbnails of test images, one sheet as WebP with tiles in rows."""
    tiles = [Image.fromarray(picture) for picture in engine.images(index)]
    for tile in tiles:
        tile.thumbnail((side, side), Image.Resampling.BOX)
    width, height = tiles[0].size
    # a sheet of WebP has sides of at most 16,383 pixels
    columns = min(16_000 // width, math.ceil(math.sqrt(len(tiles) * height / width)))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for k, tile in enumerate(tiles):
        sheet.paste(tile, (k % columns * width, k // columns * height))
    buffer = io.BytesIO()
    small = height <= 16  # digits: artefacts would be as large as strokes
    sheet.save(buffer, "webp", quality=quality, lossless=small, method=4)
    return pack(
        "images",
        {"width": width, "height": height, "columns": columns},
        index=index,
        sheet=np.frombuffer(buffer.getvalue(), np.uint8),
    )
