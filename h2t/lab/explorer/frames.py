"""What the explorer's front end is given, as frames (``payload.py``): one function a kind."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from h2t import metrics
from h2t.fusion import FUSIONS
from h2t.lab.explorer.engine import BRANCHES, LIMITS, Explorer
from h2t.lab.payload import Quantised, names, pack
from h2t.recipes.names import STEPS
from h2t.recipes.parameters import Stage2
from h2t.recipes.published import published_curve

SETTINGS = ("fusion", "fusing_branch", "stage2_epochs", "stage2_lr", "seed")
GROUPS = (*metrics.GROUPS, "all")
TRAIN = 600  # training features of a class at most
FINE = 2_000_000  # test features up to here travel in two bytes each, beyond in one


def settings_of(recipe: Stage2) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in SETTINGS}


def base(engine: Explorer, state, live: bool) -> bytes:
    """What does not change: classes, test features, stage 1, and what may be set."""
    bank, shown = engine.bank, engine.shown()
    labels, size = engine.labels, len(bank.counts)
    again = engine.predict(*engine.stage1)
    own = engine.own if engine.own is not None else engine.logits(engine.stage1)
    first = own.argmax(1)
    meta = {
        "run": engine.run.path.name,
        "live": live,
        "classes": list(bank.classes),
        "groups": {g: c.tolist() for g, c in metrics.groups(bank.counts, bank.scheme).items()},
        "scale": bank.scale,
        "experts": bank.num_experts,
        "positions": list(engine.positions),
        "p": round(100 * state.recipe.fusion_ratio),
        "head": state.head,
        "tail": state.tail,
        "pairs": engine.pairs,
        "at_zero": engine.at_zero,
        "statistics": bank.bn_statistics,
        "settings": settings_of(state.recipe),
        "choices": {"fusion": list(FUSIONS), "fusing_branch": list(BRANCHES)},
        "limits": LIMITS,
        "own": engine.own is not None,
        "published": _published(published_curve(bank.counts, engine.model)),
        "steps": [_step(s) for s in engine.run.steps()],
    }
    return pack(
        "base",
        meta,
        counts=bank.counts.astype(np.uint32),
        totals=np.bincount(labels, minlength=size).astype(np.uint32),
        index=shown.astype(np.uint32),
        labels=names(labels[shown], size),
        test=Quantised(bank.test[shown].numpy(), "i2" if bank.test.numel() <= FINE else "u1"),
        weight=Quantised(bank.weight.numpy(), "i2"),
        bias=bank.bias.numpy().astype(np.float32),
        first=names(first[shown], size),
        sure=(255 * metrics.softmax(own[shown]).max(1)).round().astype(np.uint8),
        correct=_correct(first, labels, size),
        correct_again=_correct(again, labels, size),
    )


def _correct(predicted: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """Right answers by class (C,)."""
    return np.bincount(labels[predicted == labels], minlength=size).astype(np.uint32)


def _published(table) -> dict[str, list[float]] | None:
    if table is None:
        return None
    return {g: rows["accuracy"].tolist() for g, rows in table.groupby("group")}


def _step(step) -> dict[str, Any]:
    last = {g: step.result["last"][g] for g in GROUPS}
    return {"step": step.name, "name": STEPS.get(step.name, step.name), **last}


def of_class(engine: Explorer, c: int) -> bytes:
    """The training features of a class under the first view, and their mean over all."""
    bank = engine.bank
    z = bank.train[0, bank.labels == c]
    return pack(
        "class",
        {"class": c, "images": len(z)},
        train=Quantised(z[: TRAIN * engine.every["train"] : engine.every["train"]].numpy(), "u1"),
        centre=bank.centres[c].numpy().astype(np.float32),
    )


def fused(engine: Explorer, recipe: Stage2) -> bytes:
    """What is lent to the tail's features that are drawn, and in which order of channels."""
    lent, rank = engine.lent(recipe)
    settings = {"settings": settings_of(recipe)}
    return pack(
        "fused", settings, lent=Quantised(lent.numpy(), "u1"), rank=rank.numpy().astype(np.uint16)
    )


def fits(engine: Explorer, recipe: Stage2, positions: Sequence[Sequence[int]], fitted) -> bytes:
    """Classifiers: ``positions`` that each of them stands for, and ``fitted`` by
    ``banking.fit``, a ratio for each."""
    size = len(engine.bank.counts)
    shown, predicted, right = engine.shown(), [], []
    for weight, bias in zip(fitted.weight[:, 0], fitted.bias[:, 0], strict=True):
        classes = engine.predict(weight, bias)
        predicted.append(names(classes[shown], size))
        right.append(_correct(classes, engine.labels, size))
    return pack(
        "fits",
        {"settings": settings_of(recipe), "positions": [list(p) for p in positions]},
        weight=Quantised(fitted.weight[:, 0].numpy(), "i2"),
        bias=fitted.bias[:, 0].numpy().astype(np.float32),
        predicted=np.stack(predicted),
        correct=np.stack(right),
    )


def curve(recipe: Stage2, table) -> bytes:
    """The ratio curve: accuracies (%) by group, ratio and seed."""
    ratios, seeds = sorted(table["ratio"].unique()), sorted(table["seed"].unique())
    values = {}
    for g, rows in table.groupby("group"):
        grid = rows.pivot(index="ratio", columns="seed", values="accuracy").to_numpy()
        values[g] = None if np.isnan(grid).any() else grid.round(3).tolist()
    where = {"ratios": [float(r) for r in ratios], "seeds": [int(s) for s in seeds]}
    return pack("curve", {"settings": settings_of(recipe), **where, "accuracy": values})


def of_map(meta: dict[str, Any], xy: np.ndarray, index: np.ndarray, train: np.ndarray) -> bytes:
    """A map: ``xy`` (n, 2) first of test images ``index`` (their places among those shown), then
    of training features ``train`` (n', 2), class and place in it."""
    whole = {"index": index.astype(np.uint32), "train": train.astype(np.uint32)}
    return pack("map", meta, xy=xy.astype(np.float32), **whole)


def images(engine: Explorer, index: np.ndarray, side: int = 96, quality: int = 90) -> bytes:
    """Thumbnails of test images, one sheet as WebP with tiles in rows."""
    from PIL import Image

    pictures = engine.images(index)
    if pictures.shape[1:3] != (size := _fitted(pictures.shape[1:3], side)):
        pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        pictures = torch.nn.functional.interpolate(pictures, size, mode="area")
        pictures = pictures.round().byte().permute(0, 2, 3, 1).numpy()
    n, h, w, _ = pictures.shape
    # a sheet of WebP has sides of at most 16,383 pixels
    columns = max(1, min(n, 16_000 // w, int(np.ceil(np.sqrt(n * h / w)))))
    sheet = np.zeros((-(-n // columns), columns, h, w, 3), np.uint8)
    sheet.reshape(-1, h, w, 3)[:n] = pictures
    sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(-1, columns * w, 3)
    buffer = io.BytesIO()
    small = h <= 16  # digits: artefacts would be as large as strokes
    Image.fromarray(sheet).save(buffer, "webp", quality=quality, lossless=small, method=4)
    return pack(
        "images",
        {"width": w, "height": h, "columns": columns},
        index=index.astype(np.uint32),
        sheet=np.frombuffer(buffer.getvalue(), np.uint8),
    )


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    factor = min(1.0, side / max(size))
    return tuple(max(1, round(s * factor)) for s in size)
