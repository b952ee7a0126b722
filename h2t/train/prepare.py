"""From a source of images to a run's long-tailed data, recorded for every later step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from h2t import encoders, metrics
from h2t.base.errors import Error
from h2t.base.files import write_json, write_yaml
from h2t.base.machine import environment
from h2t.data import arrays, longtail
from h2t.data.images import fitting
from h2t.data.manifest import Manifest
from h2t.data.sources import FILES
from h2t.data.split import Dataset, Files, Split
from h2t.recipes.parameters import Data
from h2t.runs import Run
from h2t.train.rundata import RunData, cut, fingerprint, inputs_of, load_source, opened

STATISTICS = {
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # Kang et al. 2020 and who follows them
    "inaturalist": ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
}
SAMPLE = 4096  # evenly spread images of a streamed set, for its statistics


def prepare(
    run: Run | str, config: Data, *, indices: np.ndarray | None = None, progress: bool = True
) -> RunData:
    """Build a run's long-tailed set and record it: params.yaml, split.json, indices.npy,
    inputs.json, environment.json. A run that already holds it is left as it is.

    Arguments: ``indices`` (M,) into the source's training part, in place of drawing a subset.
    Raises: ``h2t.Error`` where the run holds another set.
    """
    config = _as_the_encoder_wants(config)
    full = load_source(config, progress)
    manifest = _held_out(_draw(full, config, indices), config, full)
    run = Run(run)
    with run.lock():
        if (run.path / "split.json").exists():
            return _as_before(run, full, config, manifest)
        mean, std = _statistics(config, full.train.take(manifest.indices))
        data = cut(run, full, manifest, mean, std, config.groups)
        found = {"pixels_sha256": fingerprint(data.train), "mean": data.mean, "std": data.std}
        write_yaml(run.path / "params.yaml", {**config.to_dict(), **found})
        write_json(run.path / "environment.json", environment())
        write_json(run.path / "inputs.json", inputs_of(data))
        manifest.save(run.path)
    return data


def _as_the_encoder_wants(config: Data) -> Data:
    """A config with the size, fit and channels of its encoder's images, where it has one."""
    if not config.encoder:
        return config
    encoder, fit = encoders.load(config.encoder), config.image_fit
    if fit == "stretch" and config.source in FILES:  # arrays are cut already
        fit = encoder.fit
    fit = "stretch" if fitting(fit) == (0, "bilinear") else fit
    size = config.image_size or encoder.size
    return dataclasses.replace(config, image_size=size, image_fit=fit, channels=3)


def _as_before(run: Run, full: Dataset, config: Data, manifest: Manifest) -> RunData:
    before = run.params
    for key, value in config.to_dict().items():
        if key != "root" and before.get(key) != value:
            other = f"already holds a set with {key} = {before.get(key)!r}, not {value!r}"
            raise Error(f"run {run.path} {other}; choose another run")
    data = opened(run, full)
    if Manifest.load(run.path).hash != manifest.hash:
        other = "already holds another subset of the same source; choose another run"
        raise Error(f"run {run.path} {other}")
    if config.root != before.get("root"):  # the same images, at another place
        write_yaml(run.path / "params.yaml", {**before, "root": config.root})
    return data


def _draw(full: Dataset, config: Data, indices: np.ndarray | None = None) -> Manifest:
    if len(full.train.classes) < 2:
        where = f"{config.source} at {config.root!r}"
        raise Error(f"{where} has one class; a classifier needs at least two")
    metrics.groups(full.train.counts, config.groups)
    names = ("source", "profile", "imbalance_factor", "split_seed")
    common = {"classes": full.train.classes, **{k: getattr(config, k) for k in names}}
    if indices is None:
        return longtail.build(full.train.labels, n_max=config.n_max, **common)
    return longtail.from_indices(full.train.labels, indices, **common)


def pack(config: Data, file: str | Path, *, progress: bool = True) -> tuple[Manifest, int]:
    """Write a config's long tail to one small file. Returns: its manifest and the bytes."""
    full = load_source(config, progress)
    manifest = _draw(full, config)
    return manifest, arrays.pack(full, manifest, file)


def _held_out(manifest: Manifest, config: Data, full: Dataset) -> Manifest:
    if not config.val_fraction:
        return manifest
    if full.val is not None:
        raise Error(
            f"{config.source} at {config.root!r} has a validation part of its own; "
            "set val_fraction to 0 to use that"
        )
    groups = full.train.groups
    groups = None if groups is None else groups[manifest.indices]
    return longtail.hold_out(manifest, config.val_fraction, config.val_seed, groups)


def _statistics(config: Data, train: Split) -> tuple[list[float], list[float]]:
    if config.encoder:
        encoder = encoders.load(config.encoder)
        return list(encoder.mean), list(encoder.std)
    channels = train.images.shape[3]
    kind = config.normalise
    if kind == "auto":
        kind = "cifar" if config.source.startswith("cifar") else "train"
    if kind in STATISTICS:
        if channels != 3:
            what = f"has three channels, but the images have {channels}"
            raise Error(f"normalise is {kind!r}, which {what}; use train")
        mean, std = STATISTICS[kind]
        return list(mean), list(std)
    if kind == "none":
        return [0.0] * channels, [1.0] * channels
    total, squares, pixels, images = np.zeros(channels), np.zeros(channels), 0, train.images
    if isinstance(images, Files) and len(images) > SAMPLE:
        images = images.take(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
    for start in range(0, len(images), 1024):  # in parts: a large set is not in memory
        part = images[start : start + 1024].reshape(-1, channels).astype(np.float32) / 255
        total += part.sum(0, dtype=np.float64)
        squares += (part**2).sum(0, dtype=np.float64)
        pixels += len(part)
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))
    return [round(float(m), 6) for m in mean], [round(float(s), 6) for s in std]
