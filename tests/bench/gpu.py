"""What a step and a whole run cost on a GPU, in each precision and layout, beside a plain loop.

All in one run on one device, eager, captured and compiled. The images are random pixels unless a
file of real ones is named: time does not depend on what they show.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time

import numpy as np

from tests.bench.harness import Rows
from tests.bench.steps import CLASSES, N, an_epoch, plain_loop, random_images

# an epoch of CIFAR-100-LT at an imbalance factor of 100, and how often it is timed
STEPS, ROUNDS = 85, 5
TARGETS = {
    "stage 1 step, ms": 1.2,
    "both stages with evaluation, s": 25.0,
    "GPU memory of one run, GB": 2.0,
    "times the plain loop": 50.0,
    "times the throughput of one run": 3.0,
}


def bench_gpu(found: Rows, *, root: str = "", device) -> None:
    """Time everything on one GPU.

    Arguments: ``root`` a MedMNIST-style file with CIFAR-100's images for the whole run, or random
    pixels; ``device``.
    """
    rows, shared = steps_table(device), []
    for row in rows:
        found.add(**row)
    for row in sharing(device):
        found.add(**row)
        shared.append(row["throughput"])
    whole = whole_run(root, str(device))
    found.add(what="one run of 200 + 10 epochs with evaluation", **whole)
    found.add(what="cached stage 2, 11 ratios x 5 seeds, s", value=round(cached(device), 2))
    ours = [r for r in rows if r["stage"] == 1 and r["precision"] == "bf16"]
    best = min(r["ms"] for r in ours if "compile" not in r["how"] and "plain" not in r["how"])
    plain = next(r["ms"] for r in rows if r["stage"] == 1 and r["how"].startswith("plain"))
    measured = (
        best,
        whole["stage1"] + whole["stage2"],
        whole["gigabytes"],
        plain / best,
        max(shared),
    )
    for (name, target), value in zip(TARGETS.items(), measured, strict=True):
        found.judge(name, value, target, least=name.startswith("times"))


def steps_table(
    device,
    steps: int = STEPS,
    rounds: int = ROUNDS,
    compiled: bool = True,
    precisions=("fp32", "tf32", "bf16"),
) -> list[dict]:
    """Rows of ms a step (median and spread over rounds), kernels a step and how busy the GPU is."""
    rows = []
    for stage in (1, 2):
        for precision in precisions:
            for layout in ("channels_last", "contiguous"):
                for how in (
                    "eager",
                    "graph",
                    *(
                        ("compile", "compile and graph")
                        if compiled and (stage, layout) == (1, "channels_last")
                        else ()
                    ),
                ):
                    with _precision(precision):
                        epoch, *_ = an_epoch(
                            stage, device, how, "bf16" if precision == "bf16" else "fp32", layout
                        )
                        rows.append(
                            {
                                "stage": stage,
                                "how": how,
                                "precision": precision,
                                "layout": layout,
                                **_timed(epoch, device, steps, rounds),
                                **_kernels(epoch, device),
                            }
                        )
        loop = plain_loop(stage, str(device), workers=1)["step"]
        times = [loop(min(20, steps)) / min(20, steps) for _ in range(min(3, rounds))]
        rows.append(
            {
                "stage": stage,
                "how": "plain loop, one worker",
                "precision": "fp32",
                "layout": "contiguous",
                "ms": round(1e3 * statistics.median(times), 3),
                "spread": round(1e3 * (max(times) - min(times)), 3),
            }
        )
    return rows


@contextlib.contextmanager
def _precision(name: str):
    """fp32 without TF32's rounding, or with it; bf16 is autocast's business."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = name != "fp32"
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=name != "fp32"
    ):
        yield
    torch.backends.cuda.matmul.allow_tf32 = before


def _wait(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(epoch, device, steps: int, rounds: int) -> dict[str, float]:
    epoch(steps)  # warm, capture, compile
    times = []
    for _ in range(rounds):
        _wait(device)
        start = time.perf_counter()
        epoch(steps)
        _wait(device)
        times.append((time.perf_counter() - start) / steps)
    return {
        "ms": round(1e3 * statistics.median(times), 3),
        "spread": round(1e3 * (max(times) - min(times)), 3),
    }


def _kernels(epoch, device, steps: int = 10) -> dict[str, float]:
    """Kernels a step, and the share of the time in which one runs, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    if device.type != "cuda":
        return {"kernels": float("nan"), "busy_percent": float("nan")}
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        epoch(steps)
        _wait(device)
    spans = sorted(
        (e.time_range.start, e.time_range.end)
        for e in profiled.events()
        if "cuda" in str(e.device_type).lower()
    )
    if not spans:
        return {"kernels": float("nan"), "busy_percent": float("nan")}
    busy, until = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return {
        "kernels": round(len(spans) / steps),
        "busy_percent": round(100 * busy / (until - spans[0][0])),
    }


def sharing(device, counts=(1, 2, 4, 8), steps: int = STEPS) -> list[dict]:
    """Several seeds in one process, each on a stream and in a thread of its own, against one."""
    import threading

    import torch

    rows = []
    for count in counts:
        epochs = [
            an_epoch(
                1,
                device,
                "graph" if device.type == "cuda" else "eager",
                "bf16" if device.type == "cuda" else "fp32",
                seed=k,
            )[0]
            for k in range(count)
        ]
        for epoch in epochs:
            epoch(2)  # capture one after the other

        def alone(epoch) -> None:
            with (
                torch.cuda.stream(torch.cuda.Stream(device))
                if device.type == "cuda"
                else contextlib.nullcontext()
            ):
                epoch(steps)

        _wait(device)
        start = time.perf_counter()
        threads = [threading.Thread(target=alone, args=(epoch,)) for epoch in epochs]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        _wait(device)
        per_second = count * steps / (time.perf_counter() - start)
        rows.append(
            {
                "runs at once": count,
                "steps_per_second": round(per_second, 1),
                "throughput": round(
                    per_second / (rows[0]["steps_per_second"] if rows else per_second), 2
                ),
            }
        )
    return rows


def whole_run(
    root: str, device: str, epochs: tuple[int, int] = (200, 10), **data
) -> dict[str, float]:
    """Seconds of both stages by their published recipes, all included, and their GPU memory.
    ``data`` are parameters of its set other than those of CIFAR-100-LT."""
    import torch

    from h2t import train_stage1
    from h2t.recipes.parameters import Data, Stage1, Stage2
    from h2t.train.prepare import prepare
    from h2t.train.stage2 import train_stage2

    with tempfile.TemporaryDirectory() as folder:
        if not root:
            r = np.random.default_rng(0)
            train, test = (
                r.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for n in (50_000, 10_000)
            )
            labels = [np.arange(n) % CLASSES for n in (50_000, 10_000)]
            root = f"{folder}/random.npz"
            np.savez(
                root,
                train_images=train,
                train_labels=labels[0],
                test_images=test,
                test_labels=labels[1],
            )
        run = f"{folder}/run"
        prepare(
            run,
            Data(
                **{
                    "source": "npz",
                    "root": root,
                    "normalise": "cifar",
                    "groups": "reference",
                    **data,
                }
            ),
            progress=False,
        )
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        seconds = {}
        for name, work in (
            (
                "stage1",
                lambda: train_stage1(
                    run, Stage1(stage1_epochs=epochs[0]), device=device, progress=False
                ),
            ),
            (
                "stage2",
                lambda: train_stage2(
                    run, Stage2(stage2_epochs=epochs[1]), device=device, progress=False
                ),
            ),
        ):
            start = time.perf_counter()
            work()
            seconds[name] = time.perf_counter() - start
        memory = (
            torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else float("nan")
        )
    return {**seconds, "gigabytes": memory}


def cached(device, ratios: int = 11, seeds: int = 5) -> float:
    """Seconds of the cached stage 2 on a bank of random features of CIFAR-100-LT's size."""
    import torch

    from h2t.recipes.parameters import Stage2
    from h2t.train.cached.bank import Bank
    from h2t.train.cached.fit import fit

    g = torch.Generator().manual_seed(0)
    _, labels = random_images()
    train, lent = (torch.rand(4, N, 64, generator=g) for _ in range(2))
    bank = Bank(
        train=train,
        lent=lent,
        labels=torch.from_numpy(labels),
        test=torch.rand(100, 64, generator=g),
        test_labels=torch.arange(100),
        counts=np.bincount(labels, minlength=CLASSES),
        weight=torch.randn(CLASSES, 64, generator=g),
        bias=torch.zeros(CLASSES),
        classes=tuple(map(str, range(CLASSES))),
        scheme="field",
        scale=None,
        key="",
        bn_statistics="both",
    )
    fit(bank, [0.5], [0], Stage2(), device=str(device))
    return fit(
        bank, list(np.linspace(0, 1, ratios)), range(seeds), Stage2(), device=str(device)
    ).seconds
