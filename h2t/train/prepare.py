"""From a source of images to a run's long-tailed data, and back again in the next step."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve, write_json, write_yaml
from h2t.base.machine import environment
from h2t.data import longtail
from h2t.data import pack as packing
from h2t.data.lazy import Files
from h2t.data.resident import Loader, Resident
from h2t.data.sources import load
from h2t.data.split import Dataset, Split
from h2t.data.streamed import Streamed
from h2t.recipes.parameters import Data, _Training
from h2t.runs import Run

STATISTICS = {
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inaturalist": (
        (0.466, 0.471, 0.380),
        (0.195, 0.194, 0.192),
    ),  # Kang et al. 2020 and who follows them
}
SAMPLE = (
    4096  # images of a streamed set, evenly spread, whose colours its statistics are taken from
)


def prepare(
    run: Run | str, config: Data, *, indices: np.ndarray | None = None, progress: bool = True
) -> Dataset:
    """Build a run's long-tailed set and record it: params.yaml, split.json, indices.npy, environment.json.

    Arguments: ``run`` directory; ``config``; ``indices`` (M,) into the source's training part, to use a subset drawn
    elsewhere instead of drawing one. A run that already holds the same set is left as it is.
    Returns: the data set with its training part cut to the long tail.
    Raises: ``h2t.Error`` for bad input, or where the run already holds another set.
    """
    full = _load(config, progress)
    manifest = _draw(full, config, indices)
    manifest = _held_out(manifest, config, full)
    train = full.train.take(manifest.indices)
    mean, std = _statistics(config, train)
    record = {**config.to_dict(), "pixels_sha256": _pixels(train)}
    run = Run(run)
    with run.lock():
        before = run.params
        if (run.path / "split.json").exists():
            _refuse_change(run, before, record, manifest)
        else:
            write_yaml(
                run.path / "params.yaml", {**before, **record, "mean": list(mean), "std": list(std)}
            )
            write_json(run.path / "environment.json", environment())
            manifest.save(run.path)
    return Dataset(full.name, train, full.test, _val(full, manifest))


def _draw(full: Dataset, config: Data, indices: np.ndarray | None = None) -> longtail.Manifest:
    """The long tail that a config describes, or the one of ``indices``."""
    if len(full.train.classes) < 2:
        raise Error(
            f"{config.source} at {config.root!r} has one class; a classifier needs at least two"
        )
    metrics.groups(full.train.counts, config.groups)
    common = dict(
        source=config.source,
        profile=config.profile,
        imbalance_factor=config.imbalance_factor,
        split_seed=config.split_seed,
    )
    if indices is None:
        return longtail.build(
            full.train.labels, classes=full.train.classes, n_max=config.n_max, **common
        )
    return longtail.from_indices(full.train.labels, indices, classes=full.train.classes, **common)


def pack(config: Data, file: str | Path, *, progress: bool = True) -> tuple[longtail.Manifest, int]:
    """Write the long tail that a config describes to one small file (``h2t.data.pack``). Returns: its manifest and the bytes."""
    full = _load(config, progress)
    manifest = _draw(full, config)
    return manifest, packing.pack(full, manifest, file)


def _held_out(manifest: longtail.Manifest, config: Data, full: Dataset) -> longtail.Manifest:
    if not config.val_fraction:
        return manifest
    if full.val is not None:
        raise Error(
            f"{config.source} at {config.root!r} has a validation part of its own; set val_fraction to 0 to use that"
        )
    return longtail.hold_out(manifest, config.val_fraction, config.val_seed)


def _val(full: Dataset, manifest: longtail.Manifest) -> Split | None:
    """The part to choose by: what was held out of the long tail, else the source's own, else none."""
    return full.train.take(manifest.val_indices) if len(manifest.val_indices) else full.val


def _refuse_change(run: Run, before: dict, record: dict, manifest: longtail.Manifest) -> None:
    before = {
        **Data().to_dict(),
        **before,
    }  # a parameter that it was made without, by an earlier version, had its default
    for key, value in record.items():
        if key != "root" and before.get(key) != value:
            raise Error(
                f"run {run.path} already holds a set with {key} = {before.get(key)!r}, not {value!r}; choose another run"
            )
    if longtail.Manifest.load(run.path).hash != manifest.hash:
        raise Error(
            f"run {run.path} already holds another subset of the same source; choose another run"
        )


def dataset(run: Run | str, *, progress: bool = True) -> Dataset:
    """Load the long-tailed data of a prepared run.

    Raises: ``h2t.Error`` where the run holds none, or where the source no longer gives the recorded images.
    """
    run = Run(run, create=False)
    if not (run.path / "split.json").exists():
        raise Error(
            f"run {run.path} has no data yet; prepare it with notebook 01 or `h2t run RECIPE -p run {run.path}`"
        )
    manifest = longtail.Manifest.load(run.path)
    config = Data.of(run.params)
    full = _load(config, progress)
    if len(manifest.indices) and manifest.indices.max() >= len(full.train):
        raise Error(
            f"{config.source} at {config.root!r} has {len(full.train)} training images, fewer than run {run.path} refers to"
        )
    train = full.train.take(manifest.indices)
    if not np.array_equal(train.labels, manifest.labels) or _pixels(train) != run.params.get(
        "pixels_sha256"
    ):
        raise Error(
            f"{config.source} at {config.root!r} no longer holds the images that run {run.path} was made from"
        )
    return Dataset(full.name, train, full.test, _val(full, manifest))


def class_names(run: Run | str) -> tuple[str, ...]:
    """The names of a run's classes. Raises ``h2t.Error`` where it has no data."""
    return dataset(run, progress=False).train.classes


def statistics(run: Run) -> tuple[list[float], list[float]]:
    """The channel means and standard deviations, in [0, 1], that a run normalises with."""
    params = run.params
    return params["mean"], params["std"]


def loaders(
    run: Run,
    data: Dataset,
    device,
    config: _Training | None = None,
    shard: tuple[int, int] = (0, 1),
) -> tuple[Loader, Loader]:
    """The loaders of the training and the test part.

    Arguments: ``config`` of the stage that augments the training part, None for images as they are; ``shard`` (rank, world) of a
    process among several.
    """
    return loader_of(run, data.train, device, config, shard), loader_of(
        run, data.test, device, None, shard
    )


def loader_of(
    run: Run, split: Split, device, config: _Training | None = None, shard: tuple[int, int] = (0, 1)
) -> Loader:
    """The loader of one part: Streamed where its images are files, else Resident. Raises ``h2t.Error`` for a crop it cannot do."""
    mean, std = statistics(run)
    how = (
        {
            "padding": config.crop_padding,
            "pad_value": config.pad_value,
            "color_jitter": config.color_jitter,
            "rotation": getattr(config, "rotation", 0.0),
        }
        if config
        else {}
    )
    if isinstance(split.images, Files):
        return Streamed(
            split, mean, std, device, shard=shard, crop=config.crop if config else "padded", **how
        )
    if config and config.crop == "resized":
        raise Error(
            f"crop resized cuts from the image files, but run {run.path} holds them decoded; prepare one with loader streamed, or set crop to padded"
        )
    return Resident(split, mean, std, device, shard=shard, **how)


def val_loader(run: Run, data: Dataset, device, shard: tuple[int, int] = (0, 1)) -> Loader | None:
    """The loader of the validation part, if there is one; ``shard`` as in ``loaders``."""
    return None if data.val is None else loader_of(run, data.val, device, None, shard)


def _load(config: Data, progress: bool) -> Dataset:
    root = str(resolve(config.root)) if config.root and ":" not in config.root else config.root
    return load(
        config.source,
        root,
        image_size=config.image_size,
        channels=config.channels,
        test_fraction=config.test_fraction,
        split_seed=config.split_seed,
        image_fit=config.image_fit,
        loader=config.loader,
        progress=progress,
    )


def _statistics(config: Data, train: Split) -> tuple[list[float], list[float]]:
    channels = train.images.shape[3]
    kind = config.normalise
    if kind == "auto":
        kind = "cifar" if config.source.startswith("cifar") else "train"
    if kind in STATISTICS:
        if channels != 3:
            raise Error(
                f"normalise is {kind!r}, which has three channels, but the images have {channels}; use train"
            )
        mean, std = STATISTICS[kind]
        return list(mean), list(std)
    if kind == "none":
        return [0.0] * channels, [1.0] * channels
    total, squares, pixels = np.zeros(channels), np.zeros(channels), 0
    images = train.images
    if isinstance(images, Files) and len(images) > SAMPLE:
        images = images.take(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64))
    for start in range(0, len(images), 1024):  # in parts: a large set is not in memory
        part = images[start : start + 1024].reshape(-1, channels).astype(np.float32) / 255
        total, squares, pixels = (
            total + part.sum(0, dtype=np.float64),
            squares + (part**2).sum(0, dtype=np.float64),
            pixels + len(part),
        )
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))
    return [round(float(m), 6) for m in mean], [round(float(s), 6) for s in std]


def _pixels(split: Split) -> str:
    """A fingerprint of the images: their bytes where they are in memory, else their shape, paths and the sizes of the files, which
    stay as they are where a set is copied, and hardly where an image is changed."""
    digest = hashlib.sha256(str(split.images.shape).encode())
    if split.paths is None:
        digest.update(np.ascontiguousarray(split.images))
    else:
        digest.update("\n".join(split.paths).encode("utf-8", "surrogateescape"))
        digest.update(np.asarray(split.sizes, "<i8").tobytes())
    return digest.hexdigest()
