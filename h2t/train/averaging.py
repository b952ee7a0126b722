"""Several classifiers of one stage 2, averaged: heads are linear, so the mean of their weights is the mean of their answers."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from typing import Any

import torch

from h2t.base import rng
from h2t.recipes.parameters import Stage2, check_heads, check_method
from h2t.runs import Run
from h2t.train import device as stepping
from h2t.train.bn_statistics import reestimate
from h2t.train.loop import Report
from h2t.train.prepare import dataset, loaders
from h2t.train.processes import ranks as distributed
from h2t.train.stage1 import load_model


def members(config: Stage2) -> list[Stage2]:
    """The recipe of each head: the first has the seed of ``config``, each a ratio of ``head_ratios`` in turn, if there are any."""
    ratios = config.head_ratios or (config.fusion_ratio,)
    seeds = [
        config.seed,
        *(rng.derive(config.seed, "stage2/head", k) for k in range(1, config.heads)),
    ]
    one = {"heads": 1, "head_ratios": ()}
    return [
        dataclasses.replace(config, **one, fusion_ratio=ratios[k % len(ratios)], seed=seed)
        for k, seed in enumerate(seeds)
    ]


def train_averaged(
    run: Run,
    config: Stage2,
    variant: str,
    train_one: Callable[..., Any],
    *,
    device: torch.device,
    again: bool,
    progress: bool,
) -> dict[str, Any]:
    """Train the heads of a stage 2 one after another and keep their mean, as one network of the same architecture.

    BN statistics are averaged too, unless they are estimated anew. Each head is trained in a hidden folder of the run, which
    goes when the mean is written, so that an interrupted run goes on with the head it was at.

    Arguments: ``train_one(folder, config)`` trains one of them, in a step of that name.
    Returns: the content of result.json; it has no best epoch, since the mean exists only at the end.
    Raises: ``h2t.Error`` as ``train_stage2`` does, and for a cosine head.
    """
    step, heads, ranks = run.step(f"stage2-{variant}"), f".heads-{variant}", distributed.ranks()

    def forget() -> None:
        shutil.rmtree(run.path / heads, ignore_errors=True)

    with ranks.alone(run.lock()):
        before = ranks.first(lambda: run.step("stage1").result)
        check_method(config.stage2_method, before["head"])
        check_heads(config.heads, before["head"])
        if again:
            ranks.first(forget)
        params = {**config.to_dict(), "stage1_weights": before["weights_sha256"]}
        if (done := ranks.first(step.begin, params, again, Stage2().to_dict())) is not None:
            return done
    names = [f"{heads}/{k}" for k in range(config.heads)]
    results = [
        train_one(name, dataclasses.replace(member, bn_reestimate="none"))
        for name, member in zip(names, members(config), strict=True)
    ]
    with ranks.alone(run.lock()):
        data = dataset(run, progress=progress)
        train, test = loaders(run, data, device, config, ranks)
        model = ranks.prepare(load_model(run, names[0], str(device), ranks), config.sync_bn, device)
        several = ranks.first(lambda: [run.step(name).weights() for name in names])
        model.load_state_dict(
            {name: _mean([weights[name] for weights in several]) for name in several[0]}
        )
        with stepping.threads_for(train, config.batch_size):
            reestimate(model.backbone, train, torch.from_numpy(data.train.labels), config)
            report = Report(
                step, data, run.params["groups"], config.stage2_epochs, config.eval_every, None
            )
            known = {
                "variant": variant,
                "seconds": round(sum(r["seconds"] for r in results), 3),
                "update": results[0]["update"],
            }
            result = report.finish(
                model, test, config, device, **known, **{k: before[k] for k in ("model", "head")}
            )
    ranks.first(forget)
    return result


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    first = tensors[0]  # what was not trained stays as it is, to the last bit
    return (
        first
        if all(t.equal(first) for t in tensors) or not first.is_floating_point()
        else torch.stack(tensors).mean(0)
    )
