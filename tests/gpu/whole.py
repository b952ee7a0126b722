"""One run as a user has it, with a stopwatch at its parts, and the bank of it."""

from __future__ import annotations

import collections
import functools
import json
import math
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from h2t import Error, Run, encoders, prepare, train_stage1, train_stage2
from h2t.recipes.parameters import Data, Stage1, Stage2, variants
from h2t.train import loop, rundata
from h2t.train.cached.bank import build_bank
from h2t.train.cached.fit import fit
from h2t.train.cached.steps import recipe_of
from h2t.train.device import autocast, to_device
from h2t.train.evaluate import evaluate
from tests.gpu.seeds import Sampled, point, recipe, run_paths, run_rows
from tests.gpu.trial import memory, wait

SHOWN = ("all", "many", "medium", "few", "ece")


def section_end_to_end(args, say) -> dict:
    """One run as a user has it, with a stopwatch at its parts."""
    spent, p = collections.Counter(), recipe(args, seed=0)
    run = run_paths(args)[1] / point(p)

    def timed(where, name: str, shown: str) -> None:
        work = getattr(where, name)

        def measured(*a, **k):
            start = time.perf_counter()
            try:
                return work(*a, **k)
            finally:
                spent[shown] += time.perf_counter() - start
                spent[f"{shown}, times"] += 1

        setattr(where, name, measured)

    timed(loop, "predict", "predict")
    timed(loop.Report, "_checkpoint", "checkpoints")
    timed(loop.Report, "_summary", "measures")
    timed(rundata, "load", "loading images")
    keys = ("imbalance_factor", "stage1_weight_decay", "seed", "stage1_epochs")
    found = {"run": run.name, "parameters": {k: p[k] for k in keys}}
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with Sampled(args) as sampled:
        start = time.perf_counter()
        data = prepare(run, Data.of(p), progress=False)
        found["prepare_s"] = round(time.perf_counter() - start, 2)
        how = {"device": args.device, "progress": False}
        steps = {"stage1": lambda: train_stage1(data, Stage1.of(p), **how)}
        for name, one in variants(Stage2.of(p), True).items():
            steps[f"stage2-{name}"] = functools.partial(train_stage2, data, one, name, **how)
        for name, work in steps.items():
            found[name] = _told(run, name, work, spent, p["batch_size"])
            found["memory_gb"] = memory(args)
            say.keep(found)
    found["gpu"] = sampled.summary()
    seconds = found["stage1"]["seconds"] + found.get("stage2-h2t", {"seconds": 0})["seconds"]
    found["both_stages_s"] = round(seconds, 2)
    (run / "recipe.yaml").write_text(json.dumps(p))
    return found


def _told(run: Path, name: str, work, spent: collections.Counter, batch_size: int) -> dict:
    """One step of the run: its seconds and where they went."""
    before, start = collections.Counter(spent), time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    row = {
        "seconds": round(time.perf_counter() - start, 2),
        **{k: result.get(k) for k in ("update", "precision")},
        "last": {k: result["last"].get(k) for k in SHOWN},
        "best": (result.get("best") or {}).get("all"),
        "parts": {k: round(v - before[k], 3) for k, v in spent.items() if v != before[k]},
        "warnings": sorted({str(w.message)[:200] for w in caught}),
    }
    rows = run_rows(run, name)
    if len(rows) > 2:
        each = [r["seconds"] for r in rows[1:]]
        median, first = round(statistics.median(each), 4), rows[0]["seconds"]
        row["epoch_s"] = {"median": median, "max": max(each), "first": first}
        steps = math.ceil(sum(result["counts"]) / batch_size)
        row["ms_a_step"] = round(1e3 * statistics.median(each) / steps, 3)
    return row


def section_encoders(args, say) -> dict:
    """Images/s of the frozen encoders that are here, in bf16 where the device has it."""
    found, batch = {}, 2 if args.tiny else 256
    for name in ("lite0",) if args.tiny else ("lite0", "torchvision:resnet50"):
        try:
            encoder = encoders.load(name)
        except Error as e:
            found[name] = str(e)[:200]
            continue
        network = to_device(encoder.network, torch.device(args.device)).eval()
        x = torch.rand(batch, 3, encoder.size, encoder.size, device=args.device)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(torch.device(args.device), "auto"):
            network(x)
            wait(args)
            start = time.perf_counter()
            for _ in range(1 if args.tiny else 20):
                network(x)
            wait(args)
        seconds = (time.perf_counter() - start) / (1 if args.tiny else 20)
        found[name] = {"images_per_s": round(batch / seconds), "batch": batch}
        say.keep(found)
    return found


def section_bank(args, say) -> dict:
    """The bank and the curve of ratios, on the GPU and on the CPU."""
    run = run_paths(args)[1] / point(recipe(args, seed=0))
    config, found = recipe_of(run), {}
    start = time.perf_counter()
    bank = build_bank(run, config, 2 if args.tiny else 4, device=args.device, progress=False)
    found |= {"build_s": round(time.perf_counter() - start, 2), "memory_gb": memory(args)}
    ratios, seeds = ([0.0, 0.5], range(2)) if args.tiny else (np.linspace(0, 1, 11), range(5))
    fits = {}
    for device in dict.fromkeys((args.device, "cpu")):
        fit(bank, [0.5], [0], config, device=device)
        start = time.perf_counter()
        fits[device] = fit(bank, ratios, seeds, config, device=device)
        found[f"curve_{device}_s"] = round(time.perf_counter() - start, 2)
        start = time.perf_counter()
        fit(bank, [0.25], [0], config, device=device)
        found[f"one_{device}_s"] = round(time.perf_counter() - start, 3)
    if len(fits) > 1:
        a, b = fits[args.device].weight.double(), fits["cpu"].weight.double()
        found["gpu_against_cpu"] = float((a - b).norm() / b.norm())
    curve = fits[args.device].table().groupby(["ratio", "group"]).accuracy.mean().unstack()
    found["curve"] = [{"p": float(r), **row.round(2).to_dict()} for r, row in curve.iterrows()]
    start = time.perf_counter()
    now = evaluate(run, device=args.device)["stage1"]["last"]["all"]
    found["evaluate"] = {"all": now, "recorded": Run(run).step("stage1").result["last"]["all"]}
    found["evaluate"]["seconds"] = round(time.perf_counter() - start, 2)
    both = [Run(run).step(f"stage2-{variant}") for variant in ("dr-both", "h2t")]
    found["exact_both_streams"] = {s.name: s.result["last"]["all"] for s in both if s.done}
    return found
