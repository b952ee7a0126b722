"""What an encoder makes of a run's images: a bank that no training changes.

An image is seen in views that depend on nothing but itself, so that what another run has encoded
already is taken from there: images added later cost what they cost, and no more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from h2t import encoders, models
from h2t.base import readers
from h2t.base.errors import Error
from h2t.base.files import clean, write_atomic, write_json
from h2t.base.progress import bar
from h2t.data.embeddings import Embedded
from h2t.data.split import Files, Split
from h2t.recipes.parameters import Stage2
from h2t.train.device import autocast, pick_device, to_device
from h2t.train.rundata import RunData

BATCH = 32  # images at a time: more are slower on a CPU, whose caches they leave
CUT = 7 / 8  # the side of a cut view
CORNERS = ((0, 0), (1, 1), (0, 1), (1, 0))


def view(x: torch.Tensor, v: int, flip: bool) -> torch.Tensor:
    """View ``v`` of images (B, 3, H, W): as they are, mirrored where ``flip`` allows, then the same
    of what is left without the outer eighth at two sides, corner by corner.
    """
    corner, mirrored = divmod(v, 2) if flip else (v, 0)
    x = x.flip(3) if mirrored else x
    if not corner:
        return x
    h, w = x.shape[2:]
    (bottom, right), kept = CORNERS[corner - 1], (round(h * CUT), round(w * CUT))
    top, left = bottom * (h - kept[0]), right * (w - kept[1])
    return x[:, :, top : top + kept[0], left : left + kept[1]]  # to be enlarged by the network


def check_views(views: int, flip: bool) -> None:
    """Raise ``h2t.Error`` where there are not so many ways to look at an image."""
    most = (1 + len(CORNERS)) * (1 + flip)
    if views > most:
        raise Error(f"views is {views}; an encoder's bank has at most {most} of an image")


def fill(
    data: RunData, config: Stage2, folder: Path, wanted: list[str], device: str, progress: bool
) -> None:
    """Compute and write the parts of an encoder's bank that are wanted and not there yet.

    Arguments: ``config`` for flip and precision; ``wanted`` view0, view1, ..., test, val. Raises:
    ``h2t.Error`` for features that are not finite, or more views than there are.
    """
    start, parts = time.perf_counter(), {"test": data.test, "val": data.val}
    check_views(sum(name.startswith("view") for name in wanted), config.flip)
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    model = to_device(models.build(data.encoder, len(data.classes)), pick_device(device)).eval()
    splits = {"train": data.train, **{k: part for k, part in parts.items() if k in wanted}}
    hashes = {name: _hashes(split) for name, split in splits.items()}
    same, reused = _same(data, config), 0
    todo = [name for name in wanted if not (folder / f"{name}.npy").exists()]
    total = sum(len(parts.get(name) or data.train) for name in todo)
    with bar(total=total, desc="encoding", unit="image", progress=progress) as shown:
        for name in todo:
            part = name if name in parts else "train"
            v = int(name.removeprefix("view")) if part == "train" else 0
            z = np.empty((len(hashes[part]), model.backbone.num_features), np.float32)
            missing = _reuse(data, same, v, hashes[part], z)
            reused += len(z) - len(missing)
            shown.update(len(z) - len(missing))
            rest = dataclasses.replace(data, train=splits[part].take(missing))
            _encode(model, rest, v, config, z, missing, shown.update)
            if not np.isfinite(z).all():
                row = int(np.flatnonzero(~np.isfinite(z).all(1))[0])
                raise Error(
                    f"encoder {data.encoder}: features of {part} image {row} are not finite"
                )
            write_atomic(folder / f"{name}.npy", lambda f, z=z: np.save(f, z))
    for part, split in splits.items():
        called = "labels" if part == "train" else f"{part}_labels"
        for name, array in ((called, split.labels), (f"{part}_hashes", hashes[part])):
            write_atomic(folder / f"{name}.npy", lambda f, array=array: np.save(f, array))
    state = {k: v.detach().cpu().contiguous() for k, v in model.backbone.state_dict().items()}
    write_atomic(folder / "backbone.safetensors", save(state))
    about = {"counts": data.counts.tolist(), "classes": list(data.classes), "scheme": data.scheme}
    how = {"scale": None, "bn_statistics": "none", "same": same, "reused": reused}
    seconds = round(time.perf_counter() - start, 2)
    write_json(folder / "bank.json", {**about, **how, "seconds": seconds})


def _encode(model, data: RunData, v: int, config: Stage2, z, rows, done) -> None:
    """Put the features of a run's training images, in view ``v``, into ``rows`` of ``z``."""
    if isinstance(data.train.images, Embedded):
        z[rows] = data.train.images.features
        done(len(rows))
        return
    device, k = next(model.parameters()).device, 0
    with torch.inference_mode():
        for x, _ in data.loader("train", device).batches(BATCH) if len(rows) else ():
            with autocast(device, config.precision):
                found = model.backbone(view(x, v, config.flip))
            z[rows[k : k + len(x)]] = found.float().cpu().numpy()
            k += len(x)
            done(len(x))


def _hashes(split: Split) -> np.ndarray:
    """16 bytes (N, 16) uint8 by which an image is known again: of its pixels, or of its file."""
    images = split.images
    if isinstance(images, Embedded):
        return np.zeros((len(images), 16), np.uint8)

    def one(k: int) -> bytes:
        file = isinstance(images, Files)
        content = Path(images.path(k)).read_bytes() if file else np.ascontiguousarray(images[k])
        return hashlib.blake2b(content, digest_size=16).digest()

    with ThreadPoolExecutor() as pool:
        found = b"".join(pool.map(one, range(len(images)), chunksize=64))
    return np.frombuffer(found, np.uint8).reshape(-1, 16)


def _same(data: RunData, config: Stage2) -> str:
    """What two banks must have in common for an image to have the same features in both."""
    how = [encoders.load(data.encoder).sha256, data.mean, data.std, config.precision, config.flip]
    how += [data.run.params.get(k) for k in ("image_size", "image_fit", "white_level")]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:16]


def _reuse(data: RunData, same: str, v: int, hashes: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Put into ``z`` (N, D) what this run, or one beside it, has of images with these ``hashes``.

    Returns: the rows (M,) that nobody has.
    """
    place = {h.tobytes(): i for i, h in enumerate(hashes)}
    missing = np.ones(len(z), bool)
    if data.encoder.startswith("features:") or not len(z):
        return np.flatnonzero(missing)
    for folder in sorted(data.run.path.parent.glob("*/bank-*")):
        try:
            if readers.read_json(folder / "bank.json").get("same") != same:
                continue
            names = (f"view{v}", *(() if v else ("test", "val")))
            for name in (n for n in names if (folder / f"{n}.npy").exists()):
                part = "train" if name.startswith("view") else name
                theirs = readers.read_array(folder / f"{part}_hashes.npy")
                rows = np.array([place.get(h.tobytes(), -1) for h in theirs])
                found = readers.read_array(folder / f"{name}.npy", mapped=True)
                if found.shape == (len(rows), z.shape[1]):
                    z[rows[rows >= 0]] = found[rows >= 0]
                    missing[rows[rows >= 0]] = False
        except (Error, OSError):  # another run's bank, whole or not, is that run's matter
            continue
    twins = np.array([place[h.tobytes()] for h in hashes])  # one image twice has one row in place
    z[:], missing = z[twins], missing[twins]
    return np.flatnonzero(missing)
