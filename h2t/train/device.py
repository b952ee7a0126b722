"""One update, and what both stages share: device, precision, evaluation."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import sys

import torch
from torch import nn

from h2t.base.errors import Error
from h2t.models.batchnorm import fold
from h2t.train.processes.ranks import Ranks


def pick_device(device: str = "auto") -> torch.device:
    """The device to train on: "auto" is CUDA where there is one. Raises ``h2t.Error`` for one that is not there."""
    keep_heap()
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise Error(f"device is {device!r}; use auto, cpu or cuda") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise Error("device is cuda, but torch sees no CUDA GPU here; use auto or cpu")
    return chosen


@functools.cache
def keep_heap() -> None:
    """Tell glibc to keep freed activations instead of returning them to the kernel, which would hand back zeroed pages
    at every step; on two CPU cores that is a tenth of a ResNet-32 step. Does nothing on other platforms."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
                mallopt(parameter, 2**31 - 1 if parameter == -1 else 2**30)


def native_bf16(device: torch.device) -> bool:
    """Whether the device computes bf16 natively; on other processors bf16 is emulated and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (
        getattr(torch.cpu, name, None)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(check() for check in checks if check)


PIXELS_PER_THREAD = (
    4096  # of a batch: a 2-core machine trains 64 images of 8 x 8 as fast on one thread as on two
)

PIXELS_AT_ONCE = 8_000_000  # of a batch whose network only answers: 159 images of 224 x 224


@contextlib.contextmanager
def threads(limit: int = 1):
    """Hold torch to ``limit`` threads. Threads that share small work mostly wait for one another, and on a machine that
    does something else besides they wait long: twice and more the time of one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(limit, before)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for(loader, batch_size: int):
    """Hold torch to as many threads as a batch of these images can use."""
    return threads(batch_size * loader.height * loader.width // PIXELS_PER_THREAD)


def uses_bf16(device: torch.device, precision: str) -> bool:
    return precision == "bf16" or (precision == "auto" and native_bf16(device))


def precision_of(device: torch.device, precision: str) -> str:
    """What ``precision`` comes to on the device: fp32 or bf16."""
    return "bf16" if uses_bf16(device, precision) else "fp32"


def autocast(device: torch.device, precision: str):
    """bf16 autocast with fp32 weights and BN statistics, or nothing. ``precision``: auto, fp32 or bf16."""
    if uses_bf16(device, precision):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device in channels_last order, in which convolutions run fastest."""
    return model.to(device).to(memory_format=torch.channels_last)


class SGD(torch.optim.SGD):
    """torch's SGD without the wrappers that keep it out of compiled code: they import torch's compiler at the first step, which takes
    as long as torch itself does, and nothing here is compiled."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
    zero_grad, state_dict, load_state_dict, add_param_group = (
        inspect.unwrap(getattr(torch.optim.SGD, name))
        for name in ("zero_grad", "state_dict", "load_state_dict", "add_param_group")
    )


def sgd(parameters, lr: float, momentum: float, weight_decay: float, nesterov: bool = False) -> SGD:
    """Fused SGD: one kernel for all parameters."""
    return SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """Set the learning rate, one for all parameter groups or one for each."""
    for k, group in enumerate(optimizer.param_groups):
        rate = rates[k if len(rates) > 1 else 0]
        if torch.is_tensor(group["lr"]):  # a captured update reads it from there
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def check_finite(
    losses: torch.Tensor, epoch: int, first_step: int, step_name: str, parameter: str
) -> None:
    """Raise ``h2t.Error`` at the first loss of an epoch (steps,) that is not finite."""
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        k = int(bad[0])
        raise Error(
            f"{step_name} diverged: the loss is {losses[k].item()} at step {first_step + k + 1} (epoch {epoch}, "
            f"batch {k + 1}). The checkpoint of epoch {epoch - 1} is kept; start again with a lower {parameter}"
        )


@torch.inference_mode()
def predict(
    model: nn.Module, loader, precision: str = "auto", batch_size: int = 500
) -> torch.Tensor:
    """Logits of a whole split in order, in eval mode, each process's share gathered; of large images fewer at a time. Returns: (N, C) float32 on the CPU."""
    network = fold(model)
    batch_size = min(batch_size, max(1, PIXELS_AT_ONCE // (loader.height * loader.width)))
    # forward alone is about a quarter of a training step's work
    with autocast(loader.device, precision), threads_for(loader, batch_size // 4):
        logits = torch.cat([network(images).float() for images, _ in loader.batches(batch_size)])
    return Ranks(*loader.shard).gather(logits, len(loader)).cpu()


def due(epoch: int, epochs: int, every: int) -> bool:
    """Whether an epoch, counted from 1, ends with an evaluation: every ``every``-th and the last."""
    return epoch % every == 0 or epoch == epochs
