"""The machine and the code that a result comes from: versions, processor, device, revision."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

DEVICE = "H2T_DEVICE"  # in the environment: the device of a process that is asked for none
DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU, on Linux
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")


def environment(device: str | None = None) -> dict[str, Any]:
    """Versions, device and code revision, as recorded with every result."""
    record: dict[str, Any] = {
        "h2t": _version("h2t"),
        "revision": revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {p: _version(p) for p in PACKAGES},
        "cpu": _cpu_name(),
        "cores": cores(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    if torch := sys.modules.get("torch"):
        cuda = device and device.startswith("cuda")
        record["threads"] = torch.get_num_threads()
        record["device"] = torch.cuda.get_device_name() if cuda else "cpu"
    return record


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of main memory."""
    import psutil

    return psutil.virtual_memory().total


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Without loading torch: of nvidia-smi, or where that is not there, of the driver's files.
    """
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [g for g in visible.split(",") if g.strip() and g.strip() != "-1"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        how = {"capture_output": True, "text": True, "timeout": 30, "check": True}
        listed = subprocess.run(["nvidia-smi", "-L"], **how).stdout.splitlines()
        return [str(k) for k in range(sum(line.startswith("GPU ") for line in listed))]
    return [str(k) for k in range(len(list(DRIVER.glob("*"))))]


def revision() -> str | None:
    """The git revision of the code, "+changes" where it differs; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    how = {"capture_output": True, "text": True, "timeout": 10}
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, **how).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "--", "."], **how).stdout
        return head + ("+changes" if dirty.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
