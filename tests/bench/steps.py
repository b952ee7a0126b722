"""Step times beside a plain loop of the kind the field publishes, taken in one run.

Each loop lives in a process of its own and they take turns, so that what else the machine does hits
them alike. The images are random pixels: time does not depend on what they show.
"""

from __future__ import annotations

import multiprocessing as mp
import statistics
import time

import torch

from h2t import models
from h2t.data.resident import Resident
from h2t.data.split import Split
from h2t.recipes.parameters import Stage1, Stage2
from h2t.train import device as stepping
from h2t.train import stage1, stage2
from h2t.train.update import Update, cuda_graph
from tests.bench.harness import Rows
from tests.bench.plain import BATCH, CLASSES, WARM, plain_loop, random_images

ROUNDS = 7


def bench_steps(found: Rows, *, steps: int = 4, device) -> None:
    """Time stage 1 and stage 2 of ResNet-32 at batch 128, ours and plain.

    On two CPU cores stage 1 is to be 2.0 times as fast with native bf16, 1.3 times without.
    Arguments: ``found`` takes the rows; ``steps`` timed steps of each loop a turn; ``device``.
    """
    ratio = {}
    for stage in (1, 2):
        for row in _compare(stage, str(device), steps):
            found.add(**row)
            ratio[stage, row["loop"]] = row["ratio"]
    target = 2.0 if stepping.native_bf16(device) else 1.3
    found.judge("stage 1, times the plain loop", ratio[1, "h2t"], target, least=True)


def _compare(stage: int, device: str, steps: int) -> list[dict]:
    """Rows for one stage: medians over rounds in which the loops take turns."""
    context = mp.get_context("spawn")
    loops, times = {}, {"plain": [], "h2t": [], "network": []}
    for name in ("plain", "h2t"):
        here, there = context.Pipe()
        process = context.Process(target=_worker, args=(there, name, stage, device))
        process.start()
        loops[name] = (here, process)
    for here, _ in loops.values():
        here.send(("step", 2))
        here.recv()  # warm
    for _ in range(ROUNDS):
        for name, what in (("plain", "step"), ("h2t", "step"), ("h2t", "network")):
            here = loops[name][0]
            time.sleep(
                0.5
            )  # let the other loop's decoding workers fill their queues and come to rest
            here.send((what, steps))
            times["network" if what == "network" else name].append(here.recv())
    precision = {}
    for name, (here, process) in loops.items():
        here.send(("precision", 0))
        precision[name] = here.recv()
        here.send(None)
        process.join()
    # of each turn, so that a machine that slows down between turns counts for neither loop
    ratio = {
        name: statistics.median(p / t for p, t in zip(times["plain"], times[name], strict=True))
        for name in loops
    }
    rows = []
    for name in ("plain", "h2t"):
        ms = statistics.median(times[name])
        share = (
            f"{100 * min(1.0, statistics.median(times['network']) / ms):.0f} %"
            if name == "h2t"
            else ""
        )
        rows.append(
            {
                "stage": f"stage {stage}",
                "loop": name,
                "precision": precision[name],
                "ms_per_step": round(1e3 * ms, 1),
                "spread_ms": round(1e3 * (max(times[name]) - min(times[name])), 1),
                "images_per_s": round(BATCH / ms),
                "ratio": round(ratio[name], 2),
                "network_share": share,
            }
        )
    return rows


def _worker(pipe, name: str, stage: int, device: str) -> None:
    loop = (plain_loop if name == "plain" else _ours)(stage, device)
    while (command := pipe.recv()) is not None:
        what, steps = command
        if what == "precision":
            pipe.send(loop["precision"])
            continue
        pipe.send(loop[what](steps) / steps)


def an_epoch(
    stage: int,
    device,
    how: str = "eager",
    precision: str = "auto",
    layout: str = "channels_last",
    seed: int = 0,
):
    """A function that trains ResNet-32 for a number of steps by the loops themselves.

    Also its update and its loader.

    Arguments: ``stage`` 1 or 2; ``how`` names eager, graph, compile, or two of them; ``precision``
    fp32 or bf16; ``layout`` of images and weights in memory, channels_last or contiguous; ``seed``.
    """
    images, labels = random_images()
    classes = tuple(map(str, range(CLASSES)))
    data = Resident(Split(images, labels, classes, None), (0.5,) * 3, (0.2,) * 3, device, 4)
    if layout == "contiguous":
        cut = data.cut
        data.cut = lambda *draws: cut(*draws).contiguous()
    model = models.build("resnet32", CLASSES, generator=torch.Generator().manual_seed(seed)).to(
        device
    )
    model = stepping.to_device(model, device) if layout == "channels_last" else model
    counts, labels = torch.bincount(data.labels, minlength=CLASSES), data.labels.cpu()
    config = (Stage1 if stage == 1 else Stage2)(precision=precision, seed=seed, batch_size=BATCH)
    if stage == 2:
        model.backbone.requires_grad_(False)
    optimizer = stepping.sgd(
        model.parameters() if stage == 1 else model.head.parameters(), 0.01, 0.9, 5e-4
    )
    network = torch.compile(model) if "compile" in how else model
    if stage == 1:
        objective = stage1.objective(network, counts, config, device)
    else:
        objective = stage2.objective(network, counts, None, config, device)
    capture = cuda_graph(device) if "graph" in how else None
    update = Update(objective, model, optimizer, device, capturable="graph" in how, capture=capture)
    epoch = iter(range(1, 10**9))

    def train(steps: int) -> None:
        if stage == 1:
            stage1._epoch(update, data, labels[: steps * BATCH], counts, config, next(epoch))
        else:
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            order = order[: steps * BATCH].sort().values
            subset = torch.unique_consecutive(labels[order], return_inverse=True)[1]
            stage2._epoch(update, data, subset, config, next(epoch))

    return train, update, data


def _ours(stage: int, device: str) -> dict:
    """The training loops of h2t, and their network alone on images that are there already."""
    chosen = stepping.pick_device(device)
    train, update, data = an_epoch(stage, chosen, "graph" if chosen.type == "cuda" else "eager")
    model, optimizer, (x, y) = update.model, update.optimizer, next(iter(data.batches(BATCH)))

    def network(steps: int) -> None:
        if stage == 1:
            for _ in range(steps):
                with stepping.autocast(chosen, "auto"):
                    logits = model(x)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(logits.float(), y).backward()
                optimizer.step()
        else:
            model.train()
            with torch.no_grad(), stepping.autocast(chosen, "auto"):
                for _ in range(2 * steps):
                    model.backbone(x)

    def synced(f):
        def timed(steps: int) -> float:
            f(WARM)
            start = time.perf_counter()
            f(steps)
            if chosen.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - start

        return timed

    return {
        "step": synced(train),
        "network": synced(network),
        "precision": stepping.precision_of(chosen, "auto"),
    }
