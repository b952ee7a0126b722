"""Kernels a step, how busy a GPU is, and several runs that share it."""

from __future__ import annotations

import contextlib
import time

from tests.bench.steps import an_epoch

STEPS = 85  # an epoch of CIFAR-100-LT at an imbalance factor of 100


def _wait(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def kernels(epoch, device, steps: int = 10) -> dict[str, float]:
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
