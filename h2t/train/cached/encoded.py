"""Both stages of a run with an encoder: classifiers on its bank of features, in seconds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from h2t import encoders, models
from h2t.heads import head
from h2t.heads.features import Classifier, Features
from h2t.recipes.parameters import Stage1, Stage2
from h2t.train.cached.bank import build_bank
from h2t.train.cached.fill import encode
from h2t.train.cached.fit import fit
from h2t.train.cached.steps import save_variant
from h2t.train.evaluate import measures
from h2t.train.rundata import RunData

VIEWS = 2
PROBE = {"lr": 0.4, "weight_decay": 5e-4}


def frozen(config: Stage1 | Stage2) -> Stage2:
    """The recipe of a stage 2 on an encoder, which has no batch statistics."""
    return Stage2.of({**config.to_dict(), "bn_statistics": "none"})


def train_stage1(
    data: RunData,
    config: Stage1,
    *,
    device: str = "auto",
    again: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """A linear probe: cross entropy on the features of images as they come. Arguments: as of
    ``h2t.train.stage1.train``, of which ``config`` says the augmentation and the seed."""
    step, start = data.run.step("stage1"), time.perf_counter()
    with data.run.lock():
        done = step.begin(config.to_dict(), again, Stage1().to_dict())
        if done is not None:
            return done
        folder = encode(data, frozen(config), VIEWS, device=device, progress=progress)
        views = np.stack([np.load(folder / f"view{v}.npy") for v in range(VIEWS)])
        labels = torch.from_numpy(data.train.labels)
        features = Features(torch.from_numpy(views), labels, len(data.classes))
        scaled, factor = features.scaled()
        (probe,) = head("ce").fit(scaled, [PROBE], config.seed)
        return _finish(data, step, probe.unscaled(factor), folder, config, start)


def _finish(data: RunData, step, probe: Classifier, folder, config: Stage1, start: float):
    model = models.build(data.encoder, len(data.classes))
    weights = {**model.state_dict(), "head.weight": probe.weight, "head.bias": probe.bias}
    counts, scheme = data.counts, data.scheme

    def measured(part: str, labels: np.ndarray):
        logits = probe.logits(torch.from_numpy(np.load(folder / f"{part}.npy")))
        return logits, measures(logits, labels, counts, scheme)

    shown = torch.from_numpy(np.load(folder / "view0.npy"))
    loss = F.cross_entropy(probe.logits(shown), torch.from_numpy(data.train.labels)).item()
    labels = np.asarray(data.test.labels)
    logits, found = measured("test", labels)
    beside = {} if data.val is None else {"val": measured("val", data.val.labels)[1]["last"]}
    step.write_history([{"epoch": 1, "lr": PROBE["lr"], "loss": loss, **found["last"]}])
    result = {
        "params": config.to_dict(),
        "epochs": 1,
        **found,
        **beside,
        "seconds": round(time.perf_counter() - start, 3),
        "device": "cpu",
        "model": data.encoder,
        "head": "linear",
        "num_classes": len(data.classes),
        "in_channels": 3,
        "encoder": encoders.load(data.encoder).describe(),
    }
    return step.finish(weights, {"logits": logits, "labels": torch.from_numpy(labels)}, result)


def train_stage2(
    data: RunData,
    config: Stage2,
    variant: str = "h2t",
    *,
    device: str = "auto",
    again: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Stage 2 on the bank, from the probe on. Arguments: as of the exact one."""
    config = frozen(config)
    bank = build_bank(data, config, VIEWS, device=device, progress=progress)
    fits = fit(bank, [config.fusion_ratio], [config.seed], config, progress=progress)
    classifier = fits.weight[0, 0], fits.bias[0, 0]
    return save_variant(data, bank, classifier, config, variant, again=again)
