"""A classifier of the cached stage 2 as a step of the run, like any other stage 2."""

from __future__ import annotations

import dataclasses
from typing import Any

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.readers import read_tensors
from h2t.recipes.parameters import SHARED, Stage2, check
from h2t.runs import Run, check_variant
from h2t.train.cached.bank import Bank, build_bank
from h2t.train.cached.fit import fit
from h2t.train.cached.key import statistics_of
from h2t.train.evaluate import VAL_SEEN, measures
from h2t.train.rundata import RunData, run_of
from h2t.train.stage2 import train_stage2


def recipe_of(run: RunData | Run | str, overrides: dict[str, Any] | None = None) -> Stage2:
    """The stage-2 recipe that goes with a run, with ``overrides``: of its H2T step where it has
    one, else the default one with what stage 1 shares."""
    check(overrides or {})
    run = run_of(run)
    h2t, stage1 = run.step("stage2-h2t"), run.step("stage1").params
    made = h2t.params if h2t.done else {k: v for k, v in stage1.items() if k in SHARED}
    recipe = Stage2.of({**made, **(overrides or {})})
    return dataclasses.replace(recipe, bn_statistics=statistics_of(run, recipe))


def save_variant(
    run: RunData | Run | str,
    bank: Bank,
    classifier,
    config: Stage2,
    variant: str,
    *,
    again: bool = False,
    beside: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a cached fit as ``stage2-<variant>``: the backbone with re-estimated BN statistics and
    ``classifier`` (weight (C, D), bias (C,)), trained on ``bank`` with ``config``.

    Arguments: ``beside`` what result.json says besides. Returns: the content of result.json.
    Raises: ``h2t.Error`` for a taken name.
    """
    run = run_of(run)
    check_variant(variant)
    step, stage1 = run.step(f"stage2-{variant}"), run.step("stage1").result
    weight, bias = classifier
    logits = bank.classify(bank.test, weight, bias)
    mend = f"remove the folder and build it again with `h2t bank {run.path}`"
    backbone = read_tensors(bank.folder / "backbone.safetensors", mend)
    weights = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    on_val = {}
    if bank.val is not None:
        answers = bank.classify(bank.val, weight, bias).numpy()
        labels = bank.val_labels.numpy()
        on_val["val"] = metrics.summary(answers, labels, bank.counts, bank.scheme)
        on_val |= {"val_is": VAL_SEEN} if stage1.get("imported") else {}
    if bank.shared:  # on file once
        weight, bias = weight[:, : bank.num_features // bank.tied], bias / bank.tied
    weights["head.weight"] = weight
    if bank.scale is None:
        weights["head.bias"] = bias
    views = bank.train.shape[0]
    made = {"stage1_weights": stage1["weights_sha256"], "cached": True, "views": views}
    params = {**config.to_dict(), **made}
    with run.lock():
        if step.done and not again and step.params != params:
            raise Error(f"run {run.path} already has {step.name}; choose another name")
        if (done := step.begin(params, again)) is not None:
            return done
        result = {
            "params": config.to_dict(),
            "cached": {"views": views, "key": bank.key},
            "epochs": config.stage2_epochs,
            **measures(logits, bank.test_labels.numpy(), bank.counts, bank.scheme),
            **on_val,
            "variant": variant,
            "device": "cpu",
            **{k: stage1[k] for k in ("model", "head", "num_classes", "in_channels")},
            **(beside or {}),
        }
        return step.finish(weights, {"logits": logits, "labels": bank.test_labels}, result)


def compare(run: RunData | Run | str, config: Stage2, ratios, seeds, views: int = 4, **how):
    """Exact beside cached stage 2: a DataFrame, a row per kind, ratio and seed.

    The exact runs are saved as variants ``exact-p<ratio>-s<seed>``, of other methods than crt
    ``exact-<method>-p…``; one that the run holds already, under whatever name, is not repeated.
    Method tau is compared at ratio 0 alone. ``how`` is device and progress.
    """
    import pandas as pd

    given, run = run, run_of(run)
    weights = run.step("stage1").result["weights_sha256"]
    ratios = (0.0,) if config.stage2_method == "tau" else ratios
    stage2s = [step for step in run.steps() if step.name != "stage1"]
    # what an earlier version did not record it did as the default says
    have = [({**Stage2().to_dict(), **step.params}, step.result["last"]) for step in stage2s]
    bank = build_bank(given, config, views, **how)
    fits = fit(bank, ratios, seeds, config)
    kind = "" if config.stage2_method == "crt" else f"{config.stage2_method}-"
    groups, rows = ("many", "medium", "few", "all"), []
    for r, ratio in enumerate(fits.ratios):
        for s, seed in enumerate(fits.seeds):
            one = dataclasses.replace(config, fusion_ratio=ratio, seed=seed)
            wanted = {**one.to_dict(), "stage1_weights": weights}
            exact = next((last for params, last in have if params == wanted), None)
            if exact is None:
                name = f"exact-{kind}p{ratio:g}-s{seed}"
                exact = train_stage2(given, one, name, **how)["last"]
            labels = bank.test_labels.numpy()
            cached = metrics.summary(fits.logits(r, s).numpy(), labels, bank.counts, bank.scheme)
            for name, last in (("exact", exact), ("cached", cached)):
                row = {"kind": name, "ratio": ratio, "seed": seed}
                rows.append({**row, **{k: last[k] for k in groups}})
    return pd.DataFrame(rows).astype({"many": float, "medium": float, "few": float})
