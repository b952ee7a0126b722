"""What the machine is, and how fast its simplest operations are."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import time

from tests.gpu.plan import HERE
from tests.gpu.trial import wait


def facts_of(args) -> dict:
    import torch

    found = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
    }
    for name in ("torchvision", "numpy", "pandas", "safetensors", "triton", "pydantic"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if args.device == "cuda":
        p = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": p.name,
            "sm": f"{p.major}.{p.minor}",
            "multiprocessors": p.multi_processor_count,
            "memory_gb": round(p.total_memory / 1e9, 1),
            "cudnn": torch.backends.cudnn.version(),
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            "devices": torch.cuda.device_count(),
        }
        with contextlib.suppress(Exception):
            import torch.cuda.nccl

            found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
        with contextlib.suppress(Exception):
            found["nvidia_smi"] = subprocess.run(
                [
                    "nvidia-smi",
                    "--query-gpu=name,driver_version,memory.used,clocks.sm,power.draw,compute_mode",
                    "--format=csv,noheader",
                ],
                capture_output=True,
                text=True,
                timeout=20,
            ).stdout.strip()
        from h2t.study.sweep.pool import gpus

        found["gpus seen by a sweep"] = gpus()
    b = torch.backends
    found["defaults"] = {
        "cudnn.allow_tf32": b.cudnn.allow_tf32,
        "matmul.allow_tf32": b.cuda.matmul.allow_tf32,
        "cudnn.benchmark": b.cudnn.benchmark,
        "cudnn.deterministic": b.cudnn.deterministic,
    }
    found["revision"] = args.revision or revision()
    return found


def revision() -> str:
    """The checkout's commit; nothing where there is no Git."""
    command = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""


def section_facts(args, say) -> dict:
    import torch

    found = facts_of(args)
    if args.device == "cuda":
        a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
        big = torch.empty(256 * 2**20, dtype=torch.float32, device="cuda")

        def ms(f, n=10):
            f()
            wait(args)
            start = time.perf_counter()
            for _ in range(n):
                f()
            wait(args)
            return 1e3 * (time.perf_counter() - start) / n

        found["matmul_tflops_bf16"] = round(2 * 4096**3 / ms(lambda: a @ a) / 1e9, 1)
        other = torch.empty_like(big)
        found["copy_tb_per_s"] = round(2 * big.numel() * 4 / ms(lambda: other.copy_(big)) / 1e9, 2)
        tiny = torch.zeros(16, device="cuda")
        found["eager_launch_us"] = round(1e3 * ms(lambda: tiny.add_(1), 2000), 2)
    return found
