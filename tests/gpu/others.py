"""What else is for a GPU: large networks, image files, the collectives, the project's own tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import torch

from h2t import Data, Stage1, prepare
from h2t.base import rng
from tests.gpu.plan import HERE, SECTIONS, environment
from tests.gpu.seeds import run_paths
from tests.gpu.trial import memory, stand_in, wait

TESTS = (
    "tests/train/test_update.py",
    "tests/losses",
    "tests/train/test_fusion.py",
    "tests/models/test_models.py",
    "tests/data/test_resident.py",
    "tests/train/test_bank.py",
    "tests/train/test_stage2_methods.py",
)


def section_tests(args, say) -> dict:
    """The project's own tests, with the GPU in sight. They hold runs against one another bit for
    bit, so that torch has to take what adds up in one order."""
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += ["-n", "0" if args.tiny else "4", "--dist", "loadfile"]
    command += ["tests/train/test_fusion.py"] if args.tiny else TESTS
    how = {"cwd": HERE, "capture_output": True, "text": True}
    how["env"] = {**environment(), "H2T_TEST_GPU": "1", "H2T_DETERMINISTIC": "1"}
    done = subprocess.run(command, timeout=SECTIONS["tests"][0] - 10, **how)
    found = {"code": done.returncode, "said": done.stdout.strip().rpartition("\n")[2]}
    return found if not done.returncode else {**found, "end": done.stdout[-2500:]}


def section_streamed(args, say) -> dict:
    """The loader of image files against the resident one on the device: the same draws must give
    the same images."""
    from PIL import Image

    work, _ = run_paths(args)
    root, r = work / "photographs", np.random.default_rng(0)
    for part, n in (("train", 12 if args.tiny else 60), ("test", 4)):
        for c in range(4):
            (root / part / f"class{c}").mkdir(parents=True, exist_ok=True)
            for k in range(n):
                image = Image.fromarray(r.integers(0, 256, (12, 16, 3), dtype=np.uint8))
                image = image.resize((200, 160), Image.BICUBIC)
                image.save(root / part / f"class{c}" / f"{k}.jpg")
    how = {"source": "folder", "root": str(root), "image_size": 64, "profile": "natural"}
    how |= {"normalise": "imagenet", "groups": "field"}
    config, loaders = Stage1(crop_padding=4, color_jitter=0.4), {}
    for kind in ("resident", "streamed"):
        data = prepare(work / f"photo_{kind}", Data(**how, loader=kind), progress=False)
        loaders[kind] = data.loader("train", args.device, config)
    order = torch.randperm(len(loaders["resident"]), generator=torch.Generator().manual_seed(0))
    equal, worst, start = True, 0.0, time.perf_counter()
    epochs = [
        one.epoch(order, 50, rng.torch_generator(0, "check"), True) for one in loaders.values()
    ]
    for (a, y), (b, z) in zip(*epochs, strict=True):
        equal &= bool(torch.equal(a, b) and torch.equal(y, z))
        worst = max(worst, float((a - b).abs().max()))
    kind, seconds = type(loaders["streamed"]).__name__, round(time.perf_counter() - start, 2)
    return {"type": kind, "equal": equal, "worst": worst, "seconds": seconds}


def section_large(args, say) -> dict:
    """ResNet-50 at 224 pixels and batch 128 in bf16: captured and not; memory."""
    from h2t import models
    from h2t.train import device as stepping
    from h2t.train import stage1
    from h2t.train.update import Update, cuda_graph

    device, found = torch.device(args.device), {}
    batch, pixels, name, steps = (2, 32, "resnet10", 1) if args.tiny else (128, 224, "resnet50", 10)
    for how in ("eager", "graph"):
        model = stepping.to_device(models.build(name, 1000), device)
        optimizer = stepping.sgd(model.parameters(), 0.1, 0.9, 5e-4)
        config = Stage1(model=name, mixup_alpha=0.0, precision="auto")
        objective = stage1.objective(
            model,
            torch.ones(1000, dtype=torch.int64, device=device),
            config,
            device,
        )
        capture = (
            (cuda_graph(device) if device.type == "cuda" else stand_in())
            if how == "graph"
            else None
        )
        update = Update(
            objective, model, optimizer, device, capturable=how == "graph", capture=capture
        )
        model.train()
        x = (
            torch.rand(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
            .to(device)
            .contiguous(memory_format=torch.channels_last)
        )
        y = torch.arange(batch, device=device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        update(x, y, None, None, None)
        wait(args)
        start = time.perf_counter()
        losses = [update(x, y, None, None, None) for _ in range(steps)]
        wait(args)
        ms = 1e3 * (time.perf_counter() - start) / steps
        found[how] = {
            "kind": update.kind,
            "ms": round(ms, 2),
            "images_per_s": round(1e3 * batch / ms),
            "memory_gb": memory(args),
            "last_loss": float(losses[-1]),
        }
        del model, optimizer, update, objective, losses, x, y, capture
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return found


def section_nccl(args, say) -> dict:
    """The calls that several processes make, in a group of one: that they exist, take these
    arguments and this mixture of backends."""
    import torch.distributed as dist

    os.environ.update(
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "RANK": "0", "WORLD_SIZE": "1"}
    )
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if args.device == "cuda" else "gloo", rank=0, world_size=1
    )
    x = torch.arange(6.0, device=args.device).view(3, 2)
    parts, found = [torch.empty_like(x)], {}
    dist.all_gather(parts, x)
    found["all_gather"] = bool(torch.equal(parts[0], x))
    total = x.clone()
    dist.all_reduce(total)
    out = torch.empty_like(x)
    if args.device == "cuda":
        dist.all_to_all_single(out, x, [3], [3])
        found["all_to_all_single"] = bool(torch.equal(out, x))
    size = torch.tensor(7)
    dist.broadcast(size, 0)
    from h2t import models
    from h2t.models.batchnorm import synchronise

    model = synchronise(models.build("resnet20", 4).to(args.device), torch.device(args.device))
    if args.device == "cuda":
        from h2t.models.batchnorm import fold

        found["kinds"] = sorted(
            {type(m).__name__ for m in model.modules() if "BatchNorm" in type(m).__name__}
        )
        found["folded_kinds"] = sorted(
            {
                type(m).__name__
                for m in fold(model.eval()).modules()
                if "BatchNorm" in type(m).__name__
            }
        )
        model.train()
        found["forward"] = list(model(torch.rand(2, 3, 16, 16, device=args.device)).shape)
    dist.destroy_process_group()
    return found
