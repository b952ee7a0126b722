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

from h2t.base.errors import Error
from h2t.lab.books.execute import complete, load_recipe
from h2t.metrics import MEASURES
from h2t.study.compare.reproduce import reproduce
from tests.gpu.plan import HERE, RESERVE, SECTIONS, environment
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


def sweep_of(
    args, name: str, points: list[tuple[float, int]], jobs: int, seconds: float, say
) -> dict:
    """Points (imbalance factor, seed) through `h2t sweep --plain --jobs N`, stopped when the time
    is over: what is done stays."""
    if not points:
        return {"points": 0}
    work, runs = run_paths(args)
    p = {k: v for k, v in recipe(args).items() if k not in ("imbalance_factor", "seed", "run")}
    p["run"] = str(runs / name)
    p["sweep"] = [{"imbalance_factor": float(f), "seed": s} for f, s in points]
    (work / f"{name}.yaml").write_text(yaml.safe_dump(p))
    start, log = time.perf_counter(), work / f"{name}.log"
    with Sampled(args) as sampled:
        code = _swept(args, work / f"{name}.yaml", log, jobs, seconds)
    took = time.perf_counter() - start
    done = sorted(f.parent.name for f in (runs / name).glob("*/done.json"))
    files = (runs / name).glob("shared/stage1-*/stage1/result.json")
    stages = [json.loads(f.read_text())["seconds"] for f in files]
    found = {
        "asked": len(points),
        "done": done,
        "jobs": jobs,
        "code": code,
        "seconds": round(took, 1),
        "stage1_done": len(stages),
        "stage1_seconds": stages,
        "gpu": sampled.summary(),
    }
    if done:
        found["seconds_a_run"] = round(took / len(done), 1)
    if code not in (0, "stopped") or not done:
        found["log"] = log.read_text()[-1500:]
    say(json.dumps(found))
    return found


def _swept(args, file: Path, log: Path, jobs: int, seconds: float):
    """The sweep's exit status, or that it was stopped."""
    command = [sys.executable, "-m", "h2t", "sweep", str(file), "--plain", "--jobs", str(jobs)]
    command += ["--gpus", "1"] if args.device == "cuda" else []
    how = {"cwd": HERE, "stderr": subprocess.STDOUT}
    how["env"] = environment()
    with open(log, "w") as out:
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


def section_seeds_if100(args, say) -> dict:
    alone = args.known.get("end_to_end", {})
    found = sweep_of(
        args,
        "seeds_if100",
        [(recipe(args)["imbalance_factor"], s) for s in range(1, 2 if args.tiny else 5)],
        args.jobs,
        min(args.left, SECTIONS["seeds_if100"][0]) - 20,
        say,
    )
    if found.get("seconds_a_run") and alone.get("stage1"):
        one = sum(v["seconds"] for k, v in alone.items() if k.startswith("stage"))
        found["throughput_against_one_alone"] = round(one / found["seconds_a_run"], 2)
    say.keep(found)
    return found | {"table": table_of(args)}


def section_seeds_more(args, say) -> dict:
    """IF 50 and 200 in turn, seed by seed, until the time is over."""
    factors = (50.0,) if args.tiny else (50.0, 200.0)
    points = [(f, s) for s in range(1 if args.tiny else 5) for f in factors]
    found = sweep_of(args, "seeds_more", points, args.jobs, args.left - RESERVE, say)
    say.keep(found)
    return found | {"table": table_of(args)}


def table_of(args) -> list[dict]:
    """Mean and standard deviation over the seeds of all runs that are done, by imbalance factor and
    step; the product's own table too."""
    runs, by = run_paths(args)[1], collections.defaultdict(dict)
    for file in runs.glob("**/result.json"):
        folder = file.parent.parent
        if "shared" in folder.parts or not (folder / "recipe.yaml").exists():
            continue
        p = yaml.safe_load((folder / "recipe.yaml").read_text())
        r = json.loads(file.read_text())
        by[p["imbalance_factor"], file.parent.name][p["seed"]] = r
    rows = []
    for (factor, step), seeds in sorted(by.items()):
        row = {"IF": f"{factor:g}", "step": step, "n": len(seeds)}
        for m in MEASURES:
            values = [r["last"][m] for r in seeds.values() if r["last"].get(m) is not None]
            row[m] = round(float(np.mean(values)), 2) if values else None
            row[f"{m} ±"] = round(float(np.std(values, ddof=1)), 2) if len(values) > 1 else None
        best = [r["best"]["all"] for r in seeds.values() if r.get("best")]
        row["best"] = round(float(np.mean(best)), 2) if best else None
        rows.append(row)
    with contextlib.suppress(Error):  # toys are of no published protocol
        reproduce(runs)
        table = (runs / "reproduced.csv").read_bytes()
        (Path(args.out) / "reproduced.csv").write_bytes(table)
    return rows
