"""Labels for new images from a trained run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.base.progress import bar as progress_bar
from h2t.data.images import read_image
from h2t.data.lists import SUFFIXES
from h2t.data.resident import Resident
from h2t.data.split import Split
from h2t.runs import Run
from h2t.train.device import pick_device
from h2t.train.evaluate import load_model
from h2t.train.evaluate import predict as answers
from h2t.train.rundata import class_names, image_shape, statistics

CHUNK = 512  # images decoded and held at a time


def predict(
    run: Run | str,
    images: str | Path,
    step: str = "",
    *,
    device: str = "auto",
    progress: bool = True,
):
    """Classify image files with a finished step of a run, resized and normalised as its training
    images were, in fp32, so that an image gets the same answer on every machine.

    Arguments: ``run``; ``images`` a file, or a folder searched through; ``step`` such as stage1, by
    default stage2-h2t where it is finished. Returns: a DataFrame, a row per image: path, label
    (class name), confidence (softmax, in %), and error, which says why where an image cannot be
    read.
    Raises: ``h2t.Error`` where there are no images, the run has no data, or the step is not
    finished.
    """
    import pandas as pd

    run, device = Run(run, create=False), pick_device(device)
    model = load_model(
        run, step or ("stage2-h2t" if run.step("stage2-h2t").done else "stage1"), str(device)
    )
    top = resolve(images)
    paths = (
        [top]
        if top.is_file()
        else sorted(p for p in top.rglob("*") if p.suffix.lower() in SUFFIXES)
    )
    if not paths:
        raise Error(f"{top} holds no images" if top.exists() else f"there are no images at {top}")
    classes, shape, (mean, std) = class_names(run), image_shape(run), statistics(run)
    size = shape[0] if shape[0] == shape[1] else 0  # read_image resizes to squares
    fit = run.params.get("image_fit", "stretch")
    white = run.params.get("white_level", 0)

    def read(path: Path):
        try:
            image = read_image(path, size, shape[2], fit, white_level=white)
            if image.shape != shape:
                raise Error(
                    f"image {path} is {image.shape[1]}x{image.shape[0]} pixels, the run's are {shape[1]}x{shape[0]}"
                )
            return image
        except Error as e:
            return str(e)

    rows = []
    with (
        ThreadPoolExecutor() as pool,
        progress_bar(total=len(paths), desc="predicting", unit="image", progress=progress) as bar,
    ):
        for start in range(0, len(paths), CHUNK):
            part = paths[start : start + CHUNK]
            read_in = list(pool.map(read, part))
            good = [k for k, image in enumerate(read_in) if not isinstance(image, str)]
            share = np.zeros((len(part), len(classes)))
            if good:
                pixels = np.stack([read_in[k] for k in good])
                loader = Resident(
                    Split(pixels, np.zeros(len(good), np.int64), classes), mean, std, device
                )
                share[good] = metrics.softmax(answers(model, loader, "fp32").numpy())
            for k, path in enumerate(part):
                name, error = (
                    str(path.relative_to(top)) if path != top else path.name,
                    read_in[k] if k not in good else "",
                )
                label, confidence = (
                    ("", np.nan)
                    if error
                    else (classes[share[k].argmax()], round(100 * share[k].max(), 2))
                )
                rows.append(
                    {"path": name, "label": label, "confidence": confidence, "error": error}
                )
            bar.update(len(part))
    return pd.DataFrame(rows)
