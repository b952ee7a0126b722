"""The Streamed loader and torchvision's ImageFolder, same transforms and workers, in turns."""

from __future__ import annotations

import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from h2t.base.progress import bar
from tests.bench.harness import Rows

IMAGES, CLASSES, BATCH, ROUNDS = 768, 8, 128, 5
SIZES = {
    "500x375": (500, 375),
    "800x600": (800, 600),
    "2000x1500": (2000, 1500),
}  # of ImageNet and iNaturalist on average, and of a camera
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TARGET = 1.0


def bench_loader(found: Rows, *, device, workers: int | None = None) -> None:
    """Time an epoch of decoding, augmenting and moving to the device; every ratio is to be 1.

    The images are JPEG files cut from scikit-learn's two photographs, read from memory after the
    first turn. Both loaders end with normalised float images on the device. Seconds of processor
    time, where they can be had, are those of all processes of a loader and count what waiting
    hides. Arguments: ``workers`` processes of each, by default one to a core.
    """
    from h2t.data.streamed import number_of_workers
    from h2t.train import device as stepping

    workers, ratios = workers or number_of_workers(), []
    kinds = ("training", "training, no jitter", "test")
    progress = bar(total=len(SIZES) * len(kinds) * 2 * (ROUNDS + 1), desc="loaders", unit="epoch")
    folder = tempfile.TemporaryDirectory(prefix="h2t-bench-")
    with folder as place, stepping.threads(), progress:  # the workers have the cores
        for name, size in SIZES.items():
            root = Path(place) / name
            write_photographs(root, size, IMAGES // (4 if max(size) > 1000 else 1))
            for what in kinds:
                for row in _turns(root, name, what, device, workers, progress.update):
                    found.add(**row, workers=workers)
                    ratios += [row["ratio"]] if row["loader"] == "h2t" else []
    found.judge("slowest against ImageFolder, times", min(ratios), TARGET, least=True)


def write_photographs(root: Path, size: tuple[int, int], number: int) -> None:
    """A folder of classes of JPEG photographs, all different parts of scikit-learn's two."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs, r = (
        [Image.fromarray(p) for p in load_sample_images().images],
        np.random.default_rng(0),
    )
    for k in range(number):
        width = int(r.integers(320, 640))
        height = width * size[1] // size[0]
        left, top = int(r.integers(0, 641 - width)), int(r.integers(0, max(1, 428 - height)))
        picture = photographs[k % 2].resize(
            size, Image.Resampling.BICUBIC, (left, top, left + width, min(427, top + height))
        )
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(r.integers(80, 96)))
        file = root / f"class{k % CLASSES}" / f"{k:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(buffer.getvalue())


def _turns(
    root: Path, name: str, what: str, device, workers: int, advance: Callable[[], object]
) -> list[dict]:
    """Rows of both loaders for one size of image and one kind of transform."""
    loaders = {
        "ImageFolder": _image_folder(root, what, device, workers),
        "h2t": _streamed(root, what, device, workers),
    }
    times: dict[str, list[tuple[float, float]]] = {loader: [] for loader in loaders}
    for turn in range(ROUNDS + 1):
        for loader, (epoch, processes) in loaders.items():
            before, start = _cpu(processes()), time.perf_counter()
            images = sum(len(y) for _, y in epoch())
            if device.type == "cuda":
                import torch

                torch.cuda.synchronize()
            if turn:  # the first starts the workers and fills the file cache
                times[loader].append(
                    ((time.perf_counter() - start) / images, (_cpu(processes()) - before) / images)
                )
            advance()
    pairs = list(zip(times["ImageFolder"], times["h2t"], strict=True))
    ratio, cpu_ratio = (statistics.median(p[i] / t[i] for p, t in pairs) for i in (0, 1))
    rows = []
    for loader, turns in times.items():
        wall, cpu = (statistics.median(t[i] for t in turns) for i in (0, 1))
        rows.append(
            {
                "images": name,
                "transforms": what,
                "loader": loader,
                "images_per_s": round(1 / wall),
                "cpu_ms_per_image": round(1e3 * cpu, 2),
                "ratio": round(ratio, 2) if loader == "h2t" else 1.0,
                "cpu_ratio": round(cpu_ratio, 2) if loader == "h2t" else 1.0,
            }
        )
    loaders.clear()
    return rows


def _cpu(pids: list[int]) -> float:
    """Processor seconds so far of this process and others; NaN where they cannot be had."""
    total = time.process_time()
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return float("nan")
    return total


def _image_folder(root: Path, what: str, device, workers: int) -> tuple[Callable, Callable]:
    """torchvision's ImageFolder in a DataLoader with the field's transforms."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    jitter = [transforms.ColorJitter(0.4, 0.4, 0.4, 0)] if what == "training" else []
    cut = (
        [transforms.Resize(256), transforms.CenterCrop(224)]
        if what == "test"
        else [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *jitter]
    )
    data = datasets.ImageFolder(
        str(root),
        transforms.Compose([*cut, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]),
    )
    loader = DataLoader(
        data,
        BATCH,
        shuffle=what != "test",
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
        generator=torch.Generator().manual_seed(0),
    )

    def epoch():
        for x, y in loader:
            yield x.to(device, non_blocking=True), y.to(device, non_blocking=True)

    return epoch, lambda: [p.pid for p in multiprocessing.active_children()]


def _streamed(root: Path, what: str, device, workers: int) -> tuple[Callable, Callable]:
    """The Streamed loader on the same files."""
    import torch

    from h2t.data.folders import list_folder
    from h2t.data.split import Files, Split
    from h2t.data.streamed import Streamed

    listed, classes = list_folder(root)
    files = Files(root, listed.paths, 224, 3, fit="crop")
    split = Split(files, listed.labels, classes, listed.paths)
    loader = Streamed(
        split,
        MEAN,
        STD,
        device,
        crop="resized",
        color_jitter=0.4 if what == "training" else 0.0,
        workers=workers,
    )
    draws = torch.Generator().manual_seed(0)

    def epoch():
        if what == "test":
            return loader.batches(BATCH)
        return loader.epoch(torch.randperm(len(loader), generator=draws), BATCH, draws)

    return epoch, lambda: [p.pid for p in multiprocessing.active_children()]
