"""Random streams: one generator per (seed, stream, epoch); nothing is shared or need be saved.

A stream is a name such as "stage1/order". Because a generator is derived afresh for every epoch, a
run that resumes after epoch e draws exactly what an uninterrupted one draws, and no global
generator is read or seeded.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, stream: str, epoch: int = 0) -> int:
    """The 63-bit seed of a stream in an epoch: SHA-256, so that no two streams correlate."""
    digest = hashlib.sha256(f"{seed}/{stream}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def torch_generator(seed: int, stream: str, epoch: int = 0):
    """A CPU ``torch.Generator``; its draws are moved to the device, so that devices agree."""
    import torch

    return torch.Generator().manual_seed(derive(seed, stream, epoch))


def normal(shape, source):
    """Standard normal numbers of a shape, from a generator on the CPU, or the next of an iterator
    over tensors that were drawn before: what is captured as a CUDA graph may draw nothing itself.
    """
    import torch

    if isinstance(source, torch.Generator):
        return torch.randn(shape, generator=source)
    return next(source)


def numpy_generator(seed: int, stream: str, epoch: int = 0) -> np.random.Generator:
    """A NumPy generator, for what torch draws from its global generator alone (Beta)."""
    return np.random.default_rng(derive(seed, stream, epoch))
