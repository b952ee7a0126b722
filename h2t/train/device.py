"""What training runs on: device, precision, threads, and the optimiser."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os

import torch
from torch import nn

from h2t.base.errors import Error
from h2t.base.machine import DEVICE


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device to train on: "auto" is ``$H2T_DEVICE``, else CUDA where there is one.

    On a GPU the same seed gives the same result up to rounding, since some kernels add up in an
    order of their own; with H2T_DETERMINISTIC=1 torch takes others, which are slower.
    """
    keep_heap()
    device = os.environ.get(DEVICE, "auto") if device == "auto" else device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise Error(f"device is {device!r}; use auto, cpu or cuda")
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise Error("device is cuda, but torch sees no CUDA GPU here; use auto or cpu")
        number = torch.cuda.device_count()
        if (chosen.index or 0) >= number:
            raise Error(f"device is {device!r}, but torch sees {number} here, counted from 0")
        _exact()
    return chosen


def _exact() -> None:
    """fp32 is fp32, not TF32 with its 10 bits, which torch takes for convolutions by default."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if os.environ.get("H2T_DETERMINISTIC", "0") not in ("", "0"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)


@functools.cache
def keep_heap() -> None:
    """Tell glibc to keep freed activations: the kernel would hand back zeroed pages at every step,
    on two CPU cores a tenth of a ResNet-32 step."""
    with contextlib.suppress(OSError, AttributeError):  # on other platforms
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD


def native_bf16(device: torch.device) -> bool:
    """Whether the device computes bf16 natively; emulated it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.12 does not tell
        return False
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "amx_tile"))


# of a batch: two cores train 64 images of 8 x 8 no faster on two threads than on one
PIXELS_PER_THREAD = 4096


@contextlib.contextmanager
def threads(limit: int = 1):
    """Hold torch to ``limit`` threads: those that share small work mostly wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(limit, before)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(loader, batch_size: int):
    """Hold torch to as many threads as a batch of these images can use."""
    return threads(batch_size * loader.height * loader.width // PIXELS_PER_THREAD)


def precision_of(device: torch.device, precision: str) -> str:
    """What ``precision`` (auto, fp32, bf16) comes to on the device."""
    if precision == "auto":
        return "bf16" if native_bf16(device) else "fp32"
    return precision


def autocast(device: torch.device, precision: str):
    """bf16 autocast with fp32 weights and BN statistics, or nothing."""
    if precision_of(device, precision) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device, in the memory order in which convolutions run fastest."""
    return model.to(device).to(memory_format=torch.channels_last)


def sgd(parameters, lr: float, momentum: float, weight_decay: float, nesterov: bool = False):
    """Fused SGD: one kernel for all parameters."""
    how = {"weight_decay": weight_decay, "nesterov": nesterov, "fused": True}
    return torch.optim.SGD(parameters, lr, momentum, **how)


def set_lr(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """Set the learning rate of each parameter group."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if torch.is_tensor(group["lr"]):  # a captured update reads it from there
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
