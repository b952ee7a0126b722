"""Whole runs: one with a stopwatch at its parts, then as many seeds as fit, and a bank."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import yaml

from h2t.lab.books.execute import complete, load_recipe
from h2t.metrics import MEASURES
from tests.gpu import mps, plan
from tests.gpu.plan import HERE, RESERVE
from tests.gpu.prepare import unpacked


def run_paths(args) -> tuple[Path, Path]:
    work = Path(args.work)
    return work, work / "runs"


def data_parameters(args) -> dict:
    """The source of images as parameters of a recipe: the pack, written once more uncompressed (0.1
    s a load, not 0.7), or a toy."""
    work, _ = run_paths(args)
    work.mkdir(parents=True, exist_ok=True)
    file = work / "images.npz"
    if not file.exists():
        if args.pack:
            arrays = unpacked(args.pack)
        else:
            r, (c, s) = np.random.default_rng(0), ((4, 8) if args.tiny else (100, 32))
            proto = r.integers(0, 256, (c, s, s, 3))

            def some(y):
                return np.clip(proto[y] + r.normal(0, 60, (len(y), s, s, 3)), 0, 255).astype(
                    np.uint8
                )

            n = (50, 10) if args.tiny else (500, 100)
            train, test = (np.arange(c * k) % c for k in n)
            arrays = {
                "train_images": some(train),
                "train_labels": train,
                "test_images": some(test),
                "test_labels": test,
            }
        part = file.with_suffix(".part.npz")
        np.savez(part, **arrays)
        os.replace(part, file)
    return {"source": "npz", "root": str(file)}


def settled(args, **more) -> dict:
    """The recipe of one run with all that it leaves open, as `h2t run` has it."""
    return complete(*load_recipe("cifar100", recipe(args, **more)))


def recipe(args, **more) -> dict:
    """notebooks/recipes/cifar100.yaml at the released weight decay; tiny ones where the script
    itself is tried out."""
    base = yaml.safe_load((HERE / "notebooks/recipes/cifar100.yaml").read_text())
    base |= {
        "stage1_weight_decay": 2e-4,
        "groups": "reference",
        "compare_seeds": 0,
        "control": True,
        **data_parameters(args),
    }
    if args.tiny:
        base |= {
            "groups": "field",
            "imbalance_factor": 10.0,
            "n_max": 50,
            "model": "resnet20",
            "stage1_epochs": 3,
            "stage2_epochs": 1,
            "batch_size": 32,
            "crop_padding": 1,
            "warmup_epochs": 1,
            "eval_every": 2,
        }
    elif args.epochs:
        base |= {"stage1_epochs": args.epochs}
    return base | more


class Sampled:
    """What nvidia-smi says once a second while something runs."""

    def __init__(self, args):
        self.on, self.rows = args.device == "cuda", []

    def __enter__(self):
        if self.on:
            self.process = subprocess.Popen(
                [
                    "nvidia-smi",
                    "--query-gpu=utilization.gpu,memory.used,power.draw,clocks.sm",
                    "--format=csv,noheader,nounits",
                    "-l",
                    "1",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                self.rows.append([float(x) for x in line.split(",")])

    def __exit__(self, *_):
        if self.on:
            self.process.kill()
            self.process.wait()

    def summary(self) -> dict:
        if not self.rows:
            return {}
        names = ("utilisation_percent", "memory_mib", "power_w", "sm_mhz")
        return {
            n: {"mean": round(statistics.mean(c), 1), "max": max(c)}
            for n, c in zip(names, zip(*self.rows, strict=True), strict=True)
        }


def point(p: dict) -> str:
    return f"if{p['imbalance_factor']:g}_seed{p['seed']}"


def run_rows(run: Path, step: str) -> list[dict]:
    file = run / step / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def section_runs(args, say) -> dict:
    """Points through `h2t sweep --plain --jobs N`, stopped when the time is over: what is done
    stays, and the next call goes on."""
    work, runs = run_paths(args)
    asked, file, log = points(args), work / "sweep.yaml", work / "sweep.log"
    base = recipe(args)
    if not args.tiny:
        own = {k: base[k] for k in ("source", "root", "stage1_epochs") if k in base}
        base = yaml.safe_load((HERE / "notebooks/recipes/cifar100_methods_sweep.yaml").read_text())
        base |= {"normalise": "cifar", "fusion_ratio": 0.25, **own}
    fixed = {k: v for k, v in base.items() if not any(k in point for point in asked)}
    recorded = {**fixed, "compare_seeds": 0, "run": str(runs / "sweep"), "sweep": asked}
    file.write_text(yaml.safe_dump(recorded))
    with mps.shared(args) as environment, Sampled(args) as sampled:
        jobs = args.jobs if environment or args.tiny else min(args.jobs, 2)
        start = time.perf_counter()
        code = _swept(args, file, log, jobs, args.ends - time.time() - RESERVE, environment)
        took = time.perf_counter() - start
    done = sorted(f.parent.name for f in (runs / "sweep").glob("*/done.json"))
    files = sorted((runs / "sweep").glob("shared/stage1-*/stage1/result.json"))
    found = {
        "asked": len(asked),
        "done": done,
        "jobs": jobs,
        "by MPS": bool(environment),
        "code": code,
        "seconds": round(took, 1),
        "stage1_seconds": [json.loads(f.read_text())["seconds"] for f in files],
        "gpu": sampled.summary(),
    }
    if code not in (0, "stopped") or not done:
        found["log"] = log.read_text()[-1500:]
    say(json.dumps(found))
    say.keep(found)
    return found | {"table": table_of(args)}


def _swept(args, file: Path, log: Path, jobs: int, seconds: float, environment: dict):
    """The sweep's exit status, or that it was stopped."""
    command = [sys.executable, "-m", "h2t", "sweep", str(file), "--plain", "--jobs", str(jobs)]
    how = {"cwd": HERE, "stderr": subprocess.STDOUT, "env": plan.environment() | environment}
    with open(log, "a") as out:
        process = subprocess.Popen(command, stdout=out, **how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(max(5, seconds))
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return "stopped"


def points(args) -> list[dict]:
    """What the tables in notebooks/results lack, the most wanted first: other methods at their own
    settings, then more stage 1s at both weight decays, at p = 0.25 and at the paper's 0.3."""
    if args.tiny:
        return [{"method": "dr", "seed": 1}, {"method": "bsce", "seed": 0}]

    def own(factor: int, decay: float, seed: int, ratio: float = 0.25) -> dict:
        point = {"method": "dr", "imbalance_factor": float(factor), "stage1_weight_decay": decay}
        return {**point, "fusion_ratio": ratio, "seed": seed, "control": True}

    def other(method: str) -> dict:
        return {"method": method, "imbalance_factor": 100.0, "seed": 0}

    decays = (2e-4, 5e-4)
    wanted = [(100, decay, seed) for seed in (3, 4) for decay in decays] + [(100, 5e-4, 0)]
    wanted += [(f, decay, seed) for seed in (1, 2) for f in (50, 200) for decay in decays]
    found = [other(name) for name in ("gcl", "ride", "reslt")]
    return found + [own(*one, ratio) for one in wanted for ratio in (0.25, 0.3)]


def table_of(args) -> list[dict]:
    """Mean and standard deviation over the seeds of all runs that are done, by their settings and
    step."""
    runs, by = run_paths(args)[1], collections.defaultdict(dict)
    for file in runs.glob("**/result.json"):
        folder = file.parent.parent
        if "shared" in folder.parts or not (folder / "recipe.yaml").exists():
            continue
        p = yaml.safe_load((folder / "recipe.yaml").read_text())
        r = json.loads(file.read_text())
        keys = ("imbalance_factor", "stage1_weight_decay", "fusion_ratio")
        settings = (p.get("method", "dr"), *(p[k] for k in keys), file.parent.name)
        by[settings][p["seed"]] = r
    rows = []
    for (method, factor, decay, ratio, step), seeds in sorted(by.items()):
        row = {"method": method, "IF": f"{factor:g}", "decay": f"{decay:g}", "p": f"{ratio:g}"}
        row |= {"step": step, "n": len(seeds)}
        for m in MEASURES:
            values = [r["last"][m] for r in seeds.values() if r["last"].get(m) is not None]
            row[m] = round(float(np.mean(values)), 2) if values else None
            row[f"{m} ±"] = round(float(np.std(values, ddof=1)), 2) if len(values) > 1 else None
        best = [r["best"]["all"] for r in seeds.values() if r.get("best")]
        row["best"] = round(float(np.mean(best)), 2) if best else None
        rows.append(row)
    return rows
