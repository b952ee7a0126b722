"""Step times beside a plain loop of the kind the field publishes, taken in one run.

Each loop lives in a process of its own and they take turns, so that what else the machine does hits
them alike. The images are random pixels: time does not depend on what they show.
"""

from __future__ import annotations

import multiprocessing as mp
import statistics
import time

import numpy as np

from tests.bench.harness import Rows

N, CLASSES, BATCH = 10_847, 100, 128  # CIFAR-100-LT at an imbalance factor of 100
ROUNDS = 7
# untimed steps before each turn; in the plain loop they use up what was decoded before it began
WARM = 4


def bench_steps(found: Rows, *, steps: int = 4, device) -> None:
    """Time stage 1 and stage 2 of ResNet-32 at batch 128, ours and plain.

    On two CPU cores stage 1 is to be 2.0 times as fast with native bf16, 1.3 times without.
    Arguments: ``found`` takes the rows; ``steps`` timed steps of each loop a turn; ``device``.
    """
    from h2t.train import device as stepping

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


def random_images() -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(0)
    return r.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8), np.sort(r.integers(0, CLASSES, N))


class _Pictures:
    """A data set as the field's code has it: one PIL image at a time through its transforms."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def _as_published(model):
    """The same network as the field's code writes it: every ReLU allocates its output."""
    import torch.nn.functional as F

    def block(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        out += x
        return F.relu(out)

    def maps(self, x):
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))

    for module in model.modules():
        if hasattr(module, "bn2"):
            module.forward = block.__get__(module)
    model.backbone.maps = maps.__get__(model.backbone)
    return model


def plain_loop(stage: int, device: str, workers: int = 2) -> dict:
    """PIL transforms in a DataLoader, NCHW, fp32, accuracy and loss fetched every step."""
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, WeightedRandomSampler
    from torchvision import transforms

    from h2t import models

    images, labels = random_images()
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ]
    )

    balanced = WeightedRandomSampler(1 / np.bincount(labels)[labels], N)

    def forever(**how):
        while True:
            yield from DataLoader(
                _Pictures(images, labels, transform),
                BATCH,
                num_workers=workers,
                pin_memory=device != "cpu",
                **how,
            )

    model = _as_published(models.build("resnet32", CLASSES)).to(device)
    first = forever(shuffle=True) if stage == 1 else forever(sampler=balanced)
    second = forever(shuffle=True) if stage == 2 else None
    trained = model if stage == 1 else model.head
    optimizer = torch.optim.SGD(trained.parameters(), 0.1, 0.9, weight_decay=2e-4)
    meter = []

    def step(steps: int) -> float:
        for k in range(-WARM, steps):
            if k == 0:
                start = time.perf_counter()
            x, y = (t.to(device, non_blocking=True) for t in next(first))
            if stage == 1:
                lam, partner = np.random.beta(1, 1), torch.randperm(len(y), device=device)
                logits = model(lam * x + (1 - lam) * x[partner])
                loss = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(
                    logits, y[partner]
                )
            else:
                with torch.no_grad():
                    maps, other = model.maps(x), model.maps(next(second)[0].to(device))
                    swap = torch.randperm(64, device=device)[:16]
                    maps[:, swap] = other[:, swap]
                logits = model.head(maps.mean((2, 3)))
                loss = F.cross_entropy(logits, y)
            top5 = logits.topk(5, 1).indices.eq(y[:, None])
            meter.append(
                (loss.item(), top5[:, 0].float().mean().item(), top5.any(1).float().mean().item())
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return {"step": step, "precision": "fp32"}


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
    fp32 or bf16; ``layout`` of
    images and weights in memory, channels_last or contiguous; ``seed``.
    """
    import torch

    from h2t import models
    from h2t.data.resident import Resident
    from h2t.data.split import Split
    from h2t.recipes.parameters import Stage1, Stage2
    from h2t.train import device as stepping
    from h2t.train import stage1, stage2
    from h2t.train.update import Update, cuda_graph

    images, labels = random_images()
    data = Resident(
        Split(images, labels, tuple(map(str, range(CLASSES))), None),
        (0.5,) * 3,
        (0.2,) * 3,
        device,
        4,
    )
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
    objective = (
        stage1.objective(network, counts, config, device)
        if stage == 1
        else stage2.objective(network, counts, None, config, device)
    )
    capture = cuda_graph(device) if "graph" in how else None
    update = Update(objective, model, optimizer, device, capturable="graph" in how, capture=capture)
    epoch = iter(range(1, 10**9))

    def train(steps: int) -> None:
        if stage == 1:
            stage1._epoch(update, data, labels[: steps * BATCH], counts, config, next(epoch))
        else:
            order = (
                torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[
                    : steps * BATCH
                ]
                .sort()
                .values
            )
            subset = torch.unique_consecutive(labels[order], return_inverse=True)[1]
            stage2._epoch(update, data, subset, config, next(epoch))

    return train, update, data


def _ours(stage: int, device: str) -> dict:
    """The training loops of h2t, and their network alone on images that are there already."""
    import torch

    from h2t.train import device as stepping

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
