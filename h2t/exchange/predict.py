"""Labels for new images from a trained run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.base.progress import bar
from h2t.data.images import read_image
from h2t.data.lists import SUFFIXES
from h2t.data.resident import Resident
from h2t.data.split import Split
from h2t.exchange.used import chosen, inputs, said
from h2t.runs import Run
from h2t.train.device import pick_device
from h2t.train.evaluate import load_model
from h2t.train.evaluate import predict as answers

CHUNK = 512  # images decoded and held at a time


def predict(
    run: Run | str,
    images: str | Path,
    step: str = "",
    *,
    device: str = "auto",
    progress: bool = True,
):
    """Classify image files with a finished step of a run, prepared as its training images were.

    In fp32, so that an image gets the same answer on every machine, and without the images that
    the run was trained on.

    Arguments: ``images`` a file, or a folder searched through; ``step`` such as stage1, by default
    as ``chosen``. Returns: a DataFrame, a row per image: path, label (class name), confidence
    (softmax, in %), and error, which says why an image cannot be read; its ``attrs["step"]`` names
    the step and its accuracy. Raises: ``h2t.Error`` where there are no images, the run has no data,
    or the step is not finished.
    """
    import pandas as pd

    run, device = Run(run, create=False), pick_device(device)
    used = chosen(run, step)
    model, about = load_model(run, used.name, str(device)), inputs(run)
    top = resolve(images)
    start, found = (top.parent, [top]) if top.is_file() else (top, top.rglob("*"))
    paths = sorted(p for p in found if p == top or p.suffix.lower() in SUFFIXES)
    if not paths:
        raise Error(f"there are no images at {top}")
    read, rows = reader(about), []
    with (
        ThreadPoolExecutor() as pool,
        bar(total=len(paths), desc="images", progress=progress) as shown,
    ):
        for first in range(0, len(paths), CHUNK):
            part = paths[first : first + CHUNK]
            names = [_shown(path.relative_to(start)) for path in part]
            rows += _rows(names, list(pool.map(read, part)), model, about, device)
            shown.update(len(part))
    table = pd.DataFrame(rows)
    table.attrs["step"] = said(used)
    return table


def reader(about: dict[str, Any]) -> Callable[[Path], np.ndarray | str]:
    """What reads a file as ``inputs`` say: (H, W, C) uint8, or a text, why it cannot be read."""
    height, width, channels = shape = about["height"], about["width"], about["in_channels"]
    size = height if height == width else 0  # read_image resizes to squares
    how = {"fit": about["image_fit"], "white_level": about["white_level"]}

    def read(path: Path) -> np.ndarray | str:
        try:
            image = read_image(path, size, channels, **how)
        except Error as e:
            return str(e)
        if image.shape == shape:
            return image
        has = f"{image.shape[1]}x{image.shape[0]} pixels"
        return f"image {path} is {has}, the run's are {width}x{height}"

    return read


def _rows(names: list[str], images: list, model, about: dict[str, Any], device) -> list[dict]:
    """The rows of some images, each of them pixels, or why it cannot be read."""
    empty = {"label": "", "confidence": np.nan, "error": ""}
    rows = [{"path": name, **empty} for name in names]
    good = []
    for row, image in zip(rows, images, strict=True):
        if isinstance(image, str):
            row["error"] = image
        else:
            good.append((row, image))
    if good:
        pixels = np.stack([image for _, image in good])
        split = Split(pixels, np.zeros(len(good), np.int64), tuple(about["classes"]))
        loader = Resident(split, about["mean"], about["std"], device)
        shares = metrics.softmax(answers(model, loader, "fp32").numpy())  # (N, C)
        for (row, _), share in zip(good, shares, strict=True):
            row["label"] = about["classes"][share.argmax()]
            row["confidence"] = round(100 * share.max(), 2)
    return rows


def _shown(path: Path) -> str:
    """A path as text that can be written, whatever its bytes are."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
