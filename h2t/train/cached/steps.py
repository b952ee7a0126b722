"""A classifier of the cached stage 2 as a step of the run, like any other stage 2."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.recipes.parameters import Stage2, _Training, check_heads
from h2t.runs import Run, check_variant
from h2t.train.cached import bank as banking
from h2t.train.loop import VAL_SEEN

SHARED = tuple(f.name for f in dataclasses.fields(_Training))


def recipe_of(run: Run | str, overrides: dict[str, Any] | None = None) -> Stage2:
    """The stage-2 recipe that goes with a run: of its H2T step where it has one, else the published one with the batch
    size, augmentation, precision and seed of its stage 1; one head, even where that step is the mean of several.

    Arguments: ``overrides`` parameters to change. Raises: ``h2t.Error`` for a run that is not there or a bad parameter.
    """
    run = Run(run, create=False)
    h2t = run.step("stage2-h2t")
    made = (
        h2t.params
        if h2t.done
        else {k: v for k, v in run.step("stage1").params.items() if k in SHARED}
    )
    return Stage2.of({**made, "heads": 1, "head_ratios": [], **(overrides or {})})


def save_variant(
    run: Run | str,
    bank: banking.Bank,
    classifier,
    config: Stage2,
    variant: str,
    *,
    again: bool = False,
) -> dict[str, Any]:
    """Write a cached fit as ``stage2-<variant>``: the backbone with re-estimated BN statistics and the new classifier.

    Arguments: ``classifier`` (weight (C, D), bias (C,)) trained on ``bank`` with ``config``; ``again`` replaces a step of
    that name. Returns: the content of result.json, marked ``cached``. Raises: ``h2t.Error`` for a bad or taken name.
    """
    from safetensors.torch import load_file

    run = Run(run, create=False)
    check_variant(variant)
    step, stage1 = run.step(f"stage2-{variant}"), run.step("stage1").result
    weight, bias = classifier
    logits = banking.classify(bank.test, weight, bias, bank.scale, bank.num_experts)
    weights = {
        f"backbone.{k}": v for k, v in load_file(bank.folder / "backbone.safetensors").items()
    }
    if bank.shared:  # on file once
        weight, bias = weight[:, : bank.num_features // bank.tied], bias / bank.tied
    weights |= (
        {"head.weight": weight}
        if bank.scale is not None
        else {"head.weight": weight, "head.bias": bias}
    )
    params = {
        **config.to_dict(),
        "stage1_weights": stage1["weights_sha256"],
        "cached": True,
        "views": bank.train.shape[0],
    }
    with run.lock():
        if step.done and not again and step.params != params:
            raise Error(f"run {run.path} already has {step.name}; choose another name")
        if (done := step.begin(params, again)) is not None:
            return done
        labels = bank.test_labels.numpy()
        accuracy = metrics.per_class(logits.numpy(), labels)
        result = {
            "params": config.to_dict(),
            "cached": {"views": bank.train.shape[0], "key": bank.key},
            "epochs": config.stage2_epochs,
            "last": metrics.summary(logits.numpy(), labels, bank.counts, bank.scheme),
            **_on_val(bank, classifier, stage1),
            "per_class": [None if np.isnan(a) else float(a) for a in accuracy],
            "counts": bank.counts.tolist(),
            "groups": bank.scheme,
            "variant": variant,
            "device": "cpu",
            **{k: stage1[k] for k in ("model", "head", "num_classes", "in_channels")},
        }
        return step.finish(weights, {"logits": logits, "labels": bank.test_labels}, result)


def _on_val(bank: banking.Bank, classifier, stage1: dict[str, Any]) -> dict[str, Any]:
    """The measures on the bank's validation part, if it has one, as an exact stage 2 records them."""
    if bank.val is None:
        return {}
    logits = banking.classify(bank.val, *classifier, bank.scale, bank.num_experts).numpy()
    val = metrics.summary(logits, bank.val_labels.numpy(), bank.counts, bank.scheme)
    return {"val": val, **({"val_is": VAL_SEEN} if stage1.get("imported") else {})}


def train_cached(
    run: Run | str,
    config: Stage2,
    variant: str = "cached",
    *,
    views: int = 4,
    device: str = "auto",
    again: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """The cached stage 2 from a recipe: build or open the bank, fit, and save the variant. As ``train_stage2`` else."""
    import torch

    from h2t.train import device as stepping
    from h2t.train.averaging import members

    bank = banking.build_bank(run, config, views, device=device, progress=progress)
    check_heads(config.heads, "linear" if bank.scale is None else "cosine")
    device = str(stepping.pick_device(device))
    fits = [
        banking.fit(bank, [one.fusion_ratio], [one.seed], one, device=device)
        for one in members(config)
    ]
    weight, bias = (
        torch.stack([getattr(f, part)[0, 0] for f in fits]).mean(0) for part in ("weight", "bias")
    )
    return save_variant(run, bank, (weight, bias), config, variant, again=again)


def compare(
    run: Run | str,
    config: Stage2,
    ratios,
    seeds,
    *,
    views: int = 4,
    device: str = "auto",
    progress: bool = True,
):
    """Exact beside cached stage 2, for several ratios and seeds, one head each: a DataFrame, a row per kind, ratio and seed.

    The exact runs are saved as variants ``exact-p<ratio>-s<seed>``, of other methods than crt ``exact-<method>-p…``; one that
    the run holds already, under whatever name, is not repeated. Method tau trains nothing and is compared at ratio 0 alone.
    """
    import pandas as pd

    from h2t.train.stage2 import train_stage2

    run, config = Run(run, create=False), dataclasses.replace(config, heads=1, head_ratios=())
    ratios = (0.0,) if config.stage2_method == "tau" else ratios
    defaults = Stage2().to_dict()  # of what a step was begun without, by an earlier version
    have = {
        json.dumps({**defaults, **step.params}, sort_keys=True): step.result["last"]
        for step in run.steps()
        if step.name != "stage1"
    }
    bank = banking.build_bank(run, config, views, device=device, progress=progress)
    fits = banking.fit(bank, ratios, seeds, config)
    kind_of = "" if config.stage2_method == "crt" else f"{config.stage2_method}-"
    rows, weights = [], run.step("stage1").result["weights_sha256"]
    for r, ratio in enumerate(fits.ratios):
        for s, seed in enumerate(fits.seeds):
            one = dataclasses.replace(config, fusion_ratio=ratio, seed=seed)
            params = {**one.to_dict(), "stage1_weights": weights}
            exact = have.get(json.dumps(params, sort_keys=True))
            exact = (
                exact
                or train_stage2(
                    run, one, f"exact-{kind_of}p{ratio:g}-s{seed}", device=device, progress=progress
                )["last"]
            )
            cached = metrics.summary(
                fits.logits(r, s).numpy(), bank.test_labels.numpy(), bank.counts, bank.scheme
            )
            for kind, last in (("exact", exact), ("cached", cached)):
                rows.append(
                    {
                        "kind": kind,
                        "ratio": ratio,
                        "seed": seed,
                        **{k: last[k] for k in ("many", "medium", "few")},
                        "all": last["all"],
                    }
                )
    return pd.DataFrame(rows).astype({"many": float, "medium": float, "few": float})
