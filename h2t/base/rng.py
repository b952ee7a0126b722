"""Random streams: one generator per (seed, stream, epoch), so that nothing is shared and nothing need be saved.

A stream is a name such as "stage1/order". Because a generator is derived afresh for every epoch, a run that
resumes after epoch e draws exactly what an uninterrupted one draws, and no global generator is read or seeded.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, stream: str, epoch: int = 0) -> int:
    """The 63-bit seed of one stream in one epoch: SHA-256 of the three, so that no two streams correlate."""
    digest = hashlib.sha256(f"{seed}/{stream}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def torch_generator(seed: int, stream: str, epoch: int = 0):
    """A CPU ``torch.Generator`` for one stream and epoch; draws are moved to the device, so devices agree on them."""
    import torch

    return torch.Generator().manual_seed(derive(seed, stream, epoch))


def numpy_generator(seed: int, stream: str, epoch: int = 0) -> np.random.Generator:
    """A NumPy generator for one stream and epoch, for the distributions that torch draws only globally (Beta)."""
    return np.random.default_rng(derive(seed, stream, epoch))
