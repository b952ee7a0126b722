"""What an encoder makes of a run's images: a bank that no training changes.

An image is seen in views that depend on nothing but itself, so that what another run has encoded
already is taken from there: images added later cost what they cost, and no more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from h2t import encoders, models
from h2t.base import readers
from h2t.base.errors import Error
from h2t.base.progress import bar
from h2t.data.embeddings import Embedded
from h2t.data.split import Files, Split
from h2t.recipes.parameters import Stage2
from h2t.train.device import autocast, to_device
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
    most = (1 + len(CORNERS)) * (1 + flip)
    if views > most:
        raise Error(f"views is {views}; an encoder's bank has at most {most} of an image")


def write(
    data: RunData,
    config: Stage2,
    names: list[str],
    store: Callable[[str, np.ndarray], None],
    device: torch.device,
    progress: bool,
) -> tuple[nn.Module, dict]:
    """Store what the encoder makes of the images: view0, view1, ..., test, val. Returns: the
    encoder, and what bank.json says besides."""
    model = to_device(models.build(data.encoder, len(data.classes)), device).eval()
    part_of = {name: name if name in ("test", "val") else "train" for name in names}
    hashes = {part: _hashes(getattr(data, part)) for part in dict.fromkeys(part_of.values())}
    for part, found in hashes.items():
        store(f"{part}_hashes", found)
    same, total = _same(data, config), sum(len(hashes[part]) for part in part_of.values())
    with bar(total=total, desc="encoding", unit="image", progress=progress) as shown:
        for name, part in part_of.items():
            v = int(name.removeprefix("view")) if part == "train" else 0
            z = np.empty((len(hashes[part]), model.backbone.num_features), np.float32)
            rows = _reuse(data, same, v, hashes[part], z)
            shown.update(len(z) - len(rows))
            if len(rows):
                rest = dataclasses.replace(data, train=getattr(data, part).take(rows))
                _encode(model, rest, v, config, z, rows, shown.update)
            bad = np.flatnonzero(~np.isfinite(z).all(1))
            if len(bad):
                what = f"features of {part} image {bad[0]} are not finite"
                raise Error(f"encoder {data.encoder}: {what}")
            store(name, z)
    return model.backbone, {"same": same}


def _encode(model, data: RunData, v: int, config: Stage2, z, rows, done) -> None:
    """Put the features of a run's training images, in view ``v``, into ``rows`` of ``z``."""
    if isinstance(data.train.images, Embedded):
        z[rows] = data.train.images.features
        done(len(rows))
        return
    device, k = next(model.parameters()).device, 0
    with torch.inference_mode():
        for x, _ in data.loader("train", device).batches(BATCH):
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
    Returns: the rows (M,) that nobody has."""
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
