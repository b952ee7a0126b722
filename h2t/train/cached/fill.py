"""The files of a feature bank: what a frozen network makes of a run's images, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from h2t.base import rng
from h2t.base.files import clean, write_atomic, write_json
from h2t.base.progress import bar as progress_bar
from h2t.recipes.parameters import Stage2
from h2t.runs import Run
from h2t.train.bn_statistics import BN_BATCHES, estimated, networks_of
from h2t.train.cached import encode as encoder_bank
from h2t.train.cached.key import folder_of, missing, plain_parts, views_of
from h2t.train.device import autocast, pick_device, threads_for
from h2t.train.evaluate import load_model
from h2t.train.rundata import RunData, dataset, encoder_of, run_of

BATCH = 250


def encode(
    run: RunData | Run | str, config: Stage2, views: int, *, device="auto", progress=True
) -> Path:
    """Write the features of a bank that are not there yet. Returns: their folder."""
    given, run = run, run_of(run)
    if encoder_of(run):
        encoder_bank.check_views(views, config.flip)
    folder, held = folder_of(run, config), plain_parts(run)
    own, lent = views_of(run, config, views).values()
    names = list(dict.fromkeys([*held, *own, *lent]))  # with fixed statistics own and lent are one
    if missing(folder, names) or not (folder / "bank.json").exists():
        with run.lock("bank"):
            _fill(dataset(given, progress=progress), config, folder, names, device, progress)
    return folder


def _fill(
    data: RunData, config: Stage2, folder: Path, names: list[str], device: str, progress: bool
) -> None:
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)

    def store(name: str, array: np.ndarray) -> None:
        write_atomic(folder / f"{name}.npy", lambda f: np.save(f, array))

    write = encoder_bank.write if data.encoder else _write
    backbone, about = write(
        data, config, missing(folder, names), store, pick_device(device), progress
    )
    for part in ("train", *plain_parts(data.run)):
        store(f"{part}_labels", getattr(data, part).labels)
    state = {k: v.detach().cpu().contiguous() for k, v in backbone.state_dict().items()}
    write_atomic(folder / "backbone.safetensors", save(state))
    about["seconds"] = round(time.perf_counter() - start, 2)
    write_json(folder / "bank.json", about)  # last: it says that all is there


def _write(
    data: RunData,
    config: Stage2,
    names: list[str],
    store: Callable[[str, np.ndarray], None],
    device: torch.device,
    progress: bool,
) -> tuple[nn.Module, dict]:
    """Store what stage 1's backbone makes of the images, part by part. Returns: the backbone, as
    the test set sees it."""
    train, model = data.loader("train", device, config), load_model(data, "stage1", device)
    plain = {name: data.loader(name, device) for name in names if name in ("test", "val")}
    batches = sum(-(-len(plain.get(name, train)) // BATCH) for name in names)
    total = len(estimated(config)) * BN_BATCHES + batches
    bar = progress_bar(total=total, desc="feature bank", unit="batch", progress=progress)
    with bar, torch.inference_mode(), threads_for(train, config.batch_size):
        labels = torch.from_numpy(data.train.labels)
        networks = networks_of(model.backbone, train, labels, config, bar.update)
        for name in names:
            if name in plain:
                images = plain[name].batches(BATCH)
            else:
                draws = rng.torch_generator(config.seed, f"bank/{name}")
                images = train.epoch(torch.arange(len(train)), BATCH, draws, config.flip)
            network, z = networks[name.rstrip("0123456789")], []
            for x, _ in images:
                with autocast(device, config.precision):
                    z.append(network(x).float().cpu())
                bar.update()
            store(name, torch.cat(z).numpy())
    return model.backbone, {}
