"""A run's data, loaded and checked once, and handed down from step to step."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.data.manifest import Manifest
from h2t.data.resident import Loader, Resident
from h2t.data.sources import load
from h2t.data.split import Dataset, Files, Split
from h2t.data.streamed import Streamed
from h2t.recipes.parameters import Data, Shared
from h2t.runs import Run


@dataclass(frozen=True)
class RunData:
    """The long-tailed data of a run, which every step accepts in place of it.

    ``val`` is None where nothing was held out and the source has none; ``mean`` and ``std`` are per
    channel, in [0, 1]; ``scheme`` is that of the groups; ``notes`` say what was read;
    ``test_is_drawn`` that the source has no test part of its own.
    """

    run: Run
    name: str
    train: Split
    test: Split
    val: Split | None
    mean: list[float]
    std: list[float]
    scheme: str
    notes: tuple[str, ...] = ()
    test_is_drawn: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def counts(self) -> np.ndarray:
        """Training images per class (C,), those held out for validation too: many, medium and few
        are groups of the whole training set."""
        if self.val is None or not self.run.params.get("val_fraction"):
            return self.train.counts
        return self.train.counts + self.val.counts

    @property
    def encoder(self) -> str:
        return encoder_of(self.run)

    @property
    def channels(self) -> int:
        return self.train.images.shape[3]

    def loader(
        self, part: str, device, config: Shared | None = None, shard: tuple[int, int] = (0, 1)
    ) -> Loader | None:
        """The loader of a part (train, test, val), streamed where its images are files; None where
        there is no such part.

        Arguments: ``config`` of the stage that augments it, None for images as they are; ``shard``
        (rank, world) of a process among several.
        """
        split = getattr(self, part)
        if split is None:
            return None
        how, crop = {"shard": shard}, "padded"
        if config:
            how |= {"padding": config.crop_padding, "pad_value": config.pad_value}
            how |= {"color_jitter": config.color_jitter}
            how |= {"rotation": getattr(config, "rotation", 0.0)}  # which stage 2 has not
            crop = config.crop
        if isinstance(split.images, Files):
            return Streamed(split, self.mean, self.std, device, crop=crop, **how)
        if crop == "resized":
            held = f"but run {self.run.path} holds them decoded"
            mend = "prepare one with loader streamed, or set crop to padded"
            raise Error(f"crop resized cuts from the image files, {held}; {mend}")
        return Resident(split, self.mean, self.std, device, **how)


def run_of(run: RunData | Run | str) -> Run:
    """The run that was named, or whose data are given."""
    return run.run if isinstance(run, RunData) else Run(run, create=False)


def encoder_of(run: RunData | Run | str) -> str:
    """The encoder of a run, with the size that it sees; empty where a network is trained."""
    params = run_of(run).params
    encoder = params.get("encoder", "")
    if not encoder or encoder.startswith("features:"):
        return encoder
    return f"{encoder.partition('@')[0]}@{params['image_size']}"


def dataset(run: RunData | Run | str, *, progress: bool = True) -> RunData:
    """The long-tailed data of a prepared run, read and checked unless they are in hand already.
    Raises: ``h2t.Error`` where it holds none, or its source is no longer what it was made from."""
    if isinstance(run, RunData):
        return run
    run = prepared(run)
    return opened(run, load_source(Data.of(run.params), progress))


def prepared(run: RunData | Run | str) -> Run:
    """The run that was named, if it holds data. Raises ``h2t.Error`` where it does not."""
    run = run_of(run)
    if not (run.path / "split.json").exists():
        raise Error(
            f"run {run.path} has no data yet; "
            f"prepare it with notebook 01 or `h2t run RECIPE -p run {run.path}`"
        )
    return run


def opened(run: Run, full: Dataset) -> RunData:
    """A prepared run's part of the whole set, held against what the run was made from."""
    manifest, params = Manifest.load(run.path), run.params
    if len(manifest.indices) and manifest.indices.max() >= len(full.train):
        what = f"{params['source']} at {params['root']!r} has {len(full.train)} training images"
        raise Error(f"{what}, fewer than run {run.path} refers to")
    data = cut(run, full, manifest, params["mean"], params["std"], params["groups"])
    _refuse_changes(data, manifest, params.get("pixels_sha256"))
    return data


def load_source(config: Data, progress: bool) -> Dataset:
    """The whole set that a config names, before it is cut to a long tail."""
    root = str(resolve(config.root)) if config.root and ":" not in config.root else config.root
    names = inspect.signature(load).parameters.keys() & config.to_dict().keys()
    settings = {name: getattr(config, name) for name in names - {"root"}}
    # an encoder enlarges small arrays itself: they take less memory as they are
    return load(config.source, root, at_most=bool(config.encoder), progress=progress, **settings)


def cut(run: Run, full: Dataset, manifest: Manifest, mean, std, scheme: str) -> RunData:
    """A whole set cut to the long tail of a run, and to what is held out of it."""
    held = manifest.val_indices
    val = full.train.take(held) if len(held) else full.val
    train = full.train.take(manifest.indices)
    about = list(mean), list(std), scheme, full.notes, full.test_is_drawn
    return RunData(run, full.name, train, full.test, val, *about)


def inputs_of(data: RunData) -> dict[str, Any]:
    """What inputs.json says: class names, shape, and fingerprints by which changes are noticed."""
    parts = {"test": data.test, "validation": data.val}
    return {
        "classes": list(data.classes),
        "shape": list(data.train.images.shape[1:]),
        "notes": list(data.notes),
        "parts": {
            name: {"images": fingerprint(part), "labels": _sha256(part.labels.astype("<i8"))}
            for name, part in parts.items()
            if part is not None
        },
    }


def _refuse_changes(data: RunData, manifest: Manifest, pixels: str) -> None:
    now, before = inputs_of(data), data.run.inputs
    changed = {
        "names of the classes": now["classes"] != before["classes"],
        "training labels": not np.array_equal(data.train.labels, manifest.labels),
        "training images": fingerprint(data.train) != pixels,
    }
    for part in {**now["parts"], **before["parts"]}:
        is_now, was = (inputs["parts"].get(part, {}) for inputs in (now, before))
        for what in ("labels", "images"):
            changed[f"{part} {what}"] = was.get(what) != is_now.get(what)
    if names := [what for what, differs in changed.items() if differs]:
        what = f"the {' and the '.join(names)} are no longer those that run {data.run.path} was"
        mend = "put them back, choose another run, or start over with `--again`"
        raise Error(f"{what} made from; {mend}")


def fingerprint(split: Split) -> str:
    """SHA-256 of a part's images: of their bytes where they are in memory, else of their shape,
    paths and file sizes, which stay where a set is copied, and hardly where an image is changed."""
    digest = hashlib.sha256(str(split.images.shape).encode())
    if split.paths is None:
        digest.update(np.ascontiguousarray(getattr(split.images, "features", split.images)))
    else:
        digest.update("\n".join(split.paths).encode("utf-8", "surrogateescape"))
        digest.update(np.asarray(split.sizes, "<i8").tobytes())
    return digest.hexdigest()


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
