"""A first estimate of how long a sweep takes: from what has run under its root already, else from a rule of thumb."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from statistics import mean

from h2t.data.large import SETS
from h2t.recipes import parameters as config
from h2t.study.sweep.board import spell
from h2t.study.sweep.job import Job

PER_CORE = (
    35e9  # floating-point operations a second of a convolution, fp32, one core of a server of 2020
)
PER_NOTEBOOK = 3.0  # seconds of one core, mostly figures
SOURCES = {
    "digits": (1797, 10, 8),
    "cifar10": (50_000, 10, 32),
    "cifar100": (50_000, 100, 32),
}  # images, classes, pixels
SOURCES |= {name: (large.images["train"], large.classes, 224) for name, large in SETS.items()}
# billions of multiply-adds of one image of 224 x 224
IMAGENET = {
    "resnet10": 0.9,
    "resnet18": 1.8,
    "resnet34": 3.7,
    "resnet50": 4.1,
    "resnet101": 7.8,
    "resnet152": 11.5,
    "resnext50": 4.2,
}


def estimate(plan, pool) -> str:
    """The time that the jobs still to do will take on ``pool``, in words, and what that rests on. Says so where it is unknown."""
    left = [plan.jobs[n] for n in plan.todo]
    if not left:
        return "nothing is left to do"
    known = _history(plan)
    seconds = [
        mean(known[job.kind]) if job.kind in known else _guess(job, _of(plan, job), pool.threads)
        for job in left
    ]
    if pool.gpus and len(known) < len({j.kind for j in left}):
        return "unknown on a GPU until the first runs are done"
    if None in seconds:
        return (
            "unknown until the first runs are done, as is the number of images before they are read"
        )
    chain = {}  # a job cannot end before what it needs
    for job, s in zip(left, seconds, strict=True):
        chain[job.name] = s + max((chain.get(n, 0) for n in job.needs), default=0)
    total = max(sum(seconds) / pool.slots, max(chain.values()))
    rests = (
        "from the runs that are done"
        if all(j.kind in known for j in left)
        else "a rule of thumb, right to a factor of three"
    )
    return f"about {spell(max(total, 1))} ({rests}; {pool})"


def _history(plan) -> dict[str, list[float]]:
    """Seconds of this root's finished jobs, by kind."""
    known: dict[str, list[float]] = {}
    for job in plan.jobs.values():
        if job.name not in plan.todo:
            try:
                known.setdefault(job.kind, []).append(
                    json.loads((Path(job.run) / "done.json").read_bytes())["seconds"]
                )
            except (OSError, ValueError, KeyError):
                continue
    return known


def _of(plan, job: Job) -> dict:
    """The parameters of the data and the model, which a stage-2 job shares with its stage 1."""
    return plan.jobs[job.needs[0]].parameters if job.needs else {}


def _guess(job: Job, base: dict, threads: int) -> float | None:
    """Seconds of one job on ``threads`` cores, None for images whose number is not known here."""
    p = {**config.declared(), **base, **job.parameters}
    if p["source"] not in SOURCES:
        return None
    images, classes, pixels = SOURCES[p["source"]]
    if p["source"] == "digits":
        images *= 1 - p["test_fraction"]
    if p["profile"] == "exponential":  # the mean of a geometric row of counts
        images *= (
            (1 - 1 / p["imbalance_factor"]) / math.log(p["imbalance_factor"])
            if p["imbalance_factor"] > 1
            else 1
        )
    elif p["profile"] == "step":
        images *= (1 + 1 / p["imbalance_factor"]) / 2
    forward = _forward(p["model"], p["image_size"] or pixels) * images
    work = 3 * forward * p["stage1_epochs"] if job.kind == "stage1" and not p["checkpoint"] else 0.0
    streams = 2 * forward * p["stage2_epochs"] * p["heads"]
    work += (
        streams
        if job.kind == "stage2"
        else (3 + p["control"] - len(job.variants)) * streams
        if job.kind == "run"
        else 0
    )
    cores = min(threads, max(1, p["batch_size"] * pixels**2 // 4096))
    books = [b for b in job.notebooks if job.kind != "run" or Path(b).stem[:2] >= "03"]
    return work / (PER_CORE * cores) + PER_NOTEBOOK * len(books)


def _forward(model: str, pixels: int) -> float:
    """Floating-point operations of one image through a network. Of a CIFAR ResNet: 69 million multiply-adds for ResNet-32 at 32 x 32."""
    if model in IMAGENET:
        return 2e9 * IMAGENET[model] * (pixels / 224) ** 2
    found = re.search(
        r"(?:resnet|^)(\d+)", model
    )  # experts: as many networks, less what they share
    depth = int(found.group(1)) if found else 32
    return 2 * 69e6 * (depth - 2) / 30 * (pixels / 32) ** 2
