"""Milliseconds a step, and what evaluation is made of."""

from __future__ import annotations

import collections
import json
import statistics
import time
import traceback

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from h2t import metrics, models
from h2t.data.resident import Resident
from h2t.data.split import Split
from h2t.models.batchnorm import fold
from h2t.recipes.parameters import Stage1, Stage2
from h2t.train import device as stepping
from h2t.train import evaluate as evaluating
from tests.bench.plain import plain_loop
from tests.gpu import timing
from tests.gpu.trial import TOY, Trial, flags, memory, pictures, wait

# stage, how, precision, layout, with; the best first, so that what time there is goes to what
# matters. Two are no part of h2t, and are tried here alone until a GPU says what they bring: no
# counting of batches in the batch normalisations, and one cast to bf16 of all convolutions' weights
# a step in place of one each.
PLAN = (
    (1, "graph", "bf16", "channels_last", ()),
    (2, "graph", "bf16", "channels_last", ()),
    (1, "eager", "bf16", "channels_last", ()),
    (2, "eager", "bf16", "channels_last", ()),
    (1, "graph", "bf16", "channels_last", ("no counters",)),
    (1, "graph", "bf16", "channels_last", ("one cast",)),
    (1, "graph", "bf16", "channels_last", ("deterministic",)),
    (1, "graph", "bf16", "contiguous", ()),
    (1, "graph", "tf32", "channels_last", ()),
    (1, "graph", "fp32", "channels_last", ()),
    (1, "graph", "bf16", "channels_last", ("no counters", "one cast")),
    (2, "graph", "tf32", "channels_last", ()),
)


def section_steps(args, say) -> dict:
    """Milliseconds a step, row by row."""
    rows, found = [], {}
    for stage, how, precision, layout, tweak in PLAN:
        row = {"stage": stage, "how": how, "precision": precision, "layout": layout}
        row["with"] = ", ".join(tweak)
        try:
            asked = "deterministic" in tweak
            with flags(deterministic=asked, everywhere=asked, tf32=precision == "tf32"):
                timed, epoch = _timed(args, stage, how, precision, layout, tweak)
                row |= timed
                plain = not tweak and how == "graph" and precision == "bf16"
                if args.device == "cuda":
                    row |= timing.kernels(epoch, torch.device(args.device), steps=10)
                    if plain and layout == "channels_last":
                        found[f"top_kernels_stage{stage}"] = _top(epoch, args, 10)
        except Exception as e:
            row["error"] = f"{type(e).__name__}: {e}"[:300]
            say(traceback.format_exc())
        rows.append(row)
        found["rows"] = rows
        say.keep(found)
    return found | {"memory_gb": memory(args), "evaluation_ms": _evaluation(args)}


def _timed(args, stage: int, how: str, precision: str, layout: str, tweak: tuple):
    """One row of the table, and the function that trains an epoch, or so many steps of one."""
    size = {"n": 10_847, "classes": 100, "size": 32}
    small, rounds = {}, 3
    if args.tiny:
        size, rounds = TOY, 1
        small = {"batch_size": 32, "crop_padding": 1}
    own = {"precision": "bf16" if precision == "bf16" else "fp32", "batch_size": 128, **small}
    config = (Stage1 if stage == 1 else Stage2)(**own)
    trial = Trial(args, stage, config, how, layout=layout, tweak=tweak, size=size)
    number, steps = iter(range(1, 10**6)), -(-size["n"] // config.batch_size)

    def epoch(few: int = 0) -> float:
        wait(args)
        start = time.perf_counter()
        trial.epoch(next(number), steps=few)
        wait(args)
        return time.perf_counter() - start

    row = {"first_epoch_s": round(epoch(), 2)}
    times = [epoch() / steps for _ in range(rounds)]
    row["ms"] = round(1e3 * statistics.median(times), 3)
    row |= {"spread": round(1e3 * (max(times) - min(times)), 3), "kind": trial.update.kind}
    if how == "graph":
        row["host_ms"] = _host_ms(args, trial, epoch, steps)
    return row, epoch


def _host_ms(args, trial, epoch, steps: int) -> float:
    """What the host does a step besides the graph: the same epoch with replays that do nothing."""
    kept = dict(trial.update.graphs)
    trial.update.graphs = {k: (static, loss, lambda: None) for k, (static, loss, _) in kept.items()}
    try:
        epoch()
        wait(args)
        start = time.perf_counter()
        epoch()
        wait(args)
        return round(1e3 * (time.perf_counter() - start) / steps, 3)
    finally:
        trial.update.graphs = kept


def _top(epoch, args, steps: int, most: int = 25) -> list[dict]:
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        epoch(steps)
        wait(args)
    total = collections.defaultdict(lambda: [0, 0.0])
    for e in profiled.events():
        if "cuda" in str(e.device_type).lower():
            total[e.name][0] += 1
            total[e.name][1] += e.time_range.end - e.time_range.start
    rows = sorted(total.items(), key=lambda item: -item[1][1])
    return [
        {"kernel": name[:110], "a_step": round(n / steps, 1), "us_a_step": round(us / steps, 1)}
        for name, (n, us) in rows[:most]
    ]


def _evaluation(args) -> dict:
    """The parts of one evaluation of 10,000 images, folded and not, in batches of several sizes."""

    n, c, s = TOY.values() if args.tiny else (10_000, 100, 32)
    images, labels = pictures(n, c, s)
    device = torch.device(args.device)
    test = Resident(
        Split(images, labels, tuple(map(str, range(c))), None), (0.5,) * 3, (0.2,) * 3, device
    )
    model = stepping.to_device(models.build("resnet20" if args.tiny else "resnet32", c), device)

    def ms(f, times=3):
        f()
        wait(args)
        start = time.perf_counter()
        for _ in range(times):
            f()
        wait(args)
        return round(1e3 * (time.perf_counter() - start) / times, 2)

    @torch.inference_mode()
    def unfolded(size):
        model.eval()
        with stepping.autocast(device, "auto"):
            return torch.cat([model(x).float() for x, _ in test.batches(size)]).cpu()

    def folding():
        with torch.inference_mode():
            fold(model)

    logits = evaluating.predict(model, test).numpy()
    found = {
        "predict": ms(lambda: evaluating.predict(model, test)),
        "of it fold": ms(folding),
        "metrics.summary": ms(
            lambda: metrics.summary(logits, labels, np.bincount(labels, minlength=c), "field")
        ),
    }
    return found | {
        f"not folded, {size} at a time": ms(lambda size=size: unfolded(size))
        for size in (500, 2000, 5000)
    }


def section_plain(args, say) -> dict:
    """PIL images in a DataLoader, fp32, a host synchronisation a step."""
    if args.device != "cuda":
        return {"said": "only on a GPU"}
    found = {}
    for stage in (1, 2):
        loop = plain_loop(stage, "cuda", workers=1)["step"]
        found[f"stage {stage}, ms"] = round(
            1e3 * statistics.median(loop(15) / 15 for _ in range(2)), 2
        )
        say.keep(found)
    return found


def section_compile(args, say) -> dict:
    if args.device != "cuda":
        return {"said": "only on a GPU"}
    # full batches alone: no second, dynamic compilation
    size, found = {"n": 85 * 128, "classes": 100, "size": 32}, {}
    for how in ("compile and graph", "compile"):
        start = time.perf_counter()
        trial = Trial(args, 1, Stage1(precision="bf16", batch_size=128), how, size=size)
        trial.epoch(1)
        wait(args)
        found[how] = {
            "first_epoch_s": round(time.perf_counter() - start, 1),
            "kind": trial.update.kind,
        }
        times = []
        for e in (2, 3, 4):
            start = time.perf_counter()
            trial.epoch(e)
            wait(args)
            times.append((time.perf_counter() - start) / 85)
        found[how]["ms"] = round(1e3 * statistics.median(times), 3)
        say(json.dumps(found))
    return found


def section_sharing(args, say) -> dict:
    if args.device != "cuda":
        return {"rows": [], "said": "only on a GPU"}
    return {"rows": timing.sharing(torch.device("cuda"), counts=(1, 2, 4))}
