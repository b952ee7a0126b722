"""NVIDIA's Multi-Process Service: kernels of several processes run beside each other on one GPU,
where they else take turns."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PLACES = ("/usr/local/nvidia/bin", "/usr/local/cuda/bin", "/usr/bin")
PROBE = "import torch; torch.zeros(8, device='cuda').add_(1).cpu()"


@contextlib.contextmanager
def shared(args):
    """The environment for processes that share the GPU: empty where there is no such service, or
    where a probe of it fails. The service ends with the block."""
    control = shutil.which("nvidia-cuda-mps-control", path=os.pathsep.join((*PLACES, os.defpath)))
    if args.device != "cuda" or control is None:
        yield {}
        return
    folder = Path(args.work) / "mps"
    folder.mkdir(parents=True, exist_ok=True)
    own = {f"CUDA_MPS_{what}_DIRECTORY": str(folder) for what in ("PIPE", "LOG")}
    how = {"env": {**os.environ, **own}, "capture_output": True, "text": True}
    try:
        subprocess.run([control, "-d"], timeout=15, **how)
        probe = subprocess.run([sys.executable, "-c", PROBE], timeout=40, **how)
        yield own if probe.returncode == 0 else {}
    except subprocess.TimeoutExpired:
        yield {}
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([control], input="quit -t 5\n", timeout=15, **how)
