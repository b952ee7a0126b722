"""One run as a user has it, with a stopwatch at its parts, and the bank of it."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import math
import statistics
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torchvision

from h2t import Error, Run, encoders, prepare, train_stage1, train_stage2
from h2t.encoders import lite0
from h2t.metrics import MEASURES
from h2t.recipes.parameters import Data, Stage1, Stage2, variants
from h2t.train import loop
from h2t.train.cached.bank import build_bank
from h2t.train.cached.fit import fit
from h2t.train.cached.steps import recipe_of
from h2t.train.device import autocast, precision_of, to_device
from h2t.train.evaluate import evaluate
from tests.gpu.seeds import Sampled, point, recipe, run_paths, run_rows, settled
from tests.gpu.trial import flags, memory, wait


def section_end_to_end(args, say) -> dict:
    """One run as a user has it, with a stopwatch at its parts."""
    spent, p = collections.Counter(), settled(args, seed=0)
    run = run_paths(args)[1] / point(p)

    def timed(where, name: str, shown: str):
        work = getattr(where, name)

        @functools.wraps(work)
        def measured(*a, **k):
            start = time.perf_counter()
            try:
                return work(*a, **k)
            finally:
                spent[shown] += time.perf_counter() - start
                spent[f"{shown}, times"] += 1

        return mock.patch.object(where, name, measured)

    keys = ("imbalance_factor", "stage1_weight_decay", "seed", "stage1_epochs")
    found = {"run": run.name, "parameters": {k: p[k] for k in keys}}
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with (
        Sampled(args) as sampled,
        timed(loop, "predict", "predict"),
        timed(loop.Report, "_checkpoint", "checkpoints"),
        timed(loop.Report, "_measured", "measures"),
    ):
        start = time.perf_counter()
        data = prepare(run, Data.of(p), progress=False)
        found["prepare_s"] = round(time.perf_counter() - start, 2)
        how = {"device": args.device, "progress": False}
        steps = {"stage1": lambda: train_stage1(data, Stage1.of(p), **how)}
        for name, one in variants(Stage2.of(p), p["control"]).items():
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
        "last": {k: result["last"].get(k) for k in MEASURES},
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
    """Images/s of frozen encoders. Speed does not depend on the weights, so that they are random
    where none are at hand."""
    rows, device = [], torch.device(args.device)
    batch, times = (2, 1) if args.tiny else (256, 20)
    resnet = torchvision.models.get_model("resnet50", weights=None, num_classes=1)
    resnet.fc = torch.nn.Identity()
    networks = {"lite0": (lite0.Lite0(), "random"), "torchvision:resnet50": (resnet, "random")}
    with contextlib.suppress(Error):
        networks["lite0"] = (encoders.load("lite0").network, "its own")
    for name, (network, weights) in networks.items():
        network = to_device(network, device).eval()
        x = torch.rand(batch, 3, *[32 if args.tiny else lite0.SIZE] * 2, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        for precision in ("auto", "fp32"):
            with torch.inference_mode(), autocast(device, precision), flags():
                network(x), wait(args)
                start = time.perf_counter()
                for _ in range(times):
                    network(x)
                wait(args)
            row = {"encoder": name, "precision": precision_of(device, precision), "batch": batch}
            speed = round(batch * times / (time.perf_counter() - start), 1)
            rows.append({**row, "weights": weights, "images_per_s": speed})
            say.keep({"rows": rows})
    return {"rows": rows, "memory_gb": memory(args)}


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
