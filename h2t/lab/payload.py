"""The frames in which everything travels to the front end; ``static/frame.js`` reads them.

A frame is

    b"H2TF"  uint32 n  JSON of n bytes, padded with spaces to a multiple of 8  arrays

with little-endian numbers. The JSON is an object: ``kind`` says what the frame is, ``arrays`` maps
a name to ``type`` (u1, u2, i2, u4, f4), ``shape``, ``at`` (its first byte, counted from the end of
the JSON) and, where whole numbers stand for real ones, ``scale`` and ``offset``: value = scale *
number + offset. Several frames in one file or answer each follow their length, uint32.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np


class Quantised:
    """Real numbers that travel as whole ones: ``u1`` over their range, or ``i2`` symmetric about
    0."""

    def __init__(self, values, kind: str):
        values = np.asarray(values, np.float64)
        low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
        if kind == "i2":
            self.offset, self.scale = 0.0, max(abs(low), abs(high), 1e-12) / 32767
        else:
            self.offset, self.scale = float(low), max(high - low, 1e-12) / 255
        self.numbers = np.rint((values - self.offset) / self.scale).astype(kind)


def pack(kind: str, meta: dict[str, Any], **arrays) -> bytes:
    """One frame.

    Arguments: ``meta`` what JSON can say; ``arrays`` of NumPy or torch, or ``Quantised``. Real
    numbers travel as f4, whole ones from 0 on in as few bytes as they need.
    """
    head, parts, at = {}, [], 0
    for name, array in arrays.items():
        record: dict[str, Any] = {}
        if isinstance(array, Quantised):
            record = {"scale": float(array.scale), "offset": float(array.offset)}
            array = array.numbers
        else:
            array = np.asarray(array)
            real = array.dtype.kind == "f"
            array = array.astype("f4" if real else np.min_scalar_type(array.max(initial=0)))
        head[name] = {"type": array.dtype.str[1:], "shape": array.shape, "at": at, **record}
        parts.append(array.tobytes() + bytes(-array.nbytes % 8))
        at += len(parts[-1])
    text = json.dumps({"kind": kind, **meta, "arrays": head}, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([b"H2TF", _length(text), text, *parts])


def join(frames: Iterable[bytes]) -> bytes:
    """Several frames, each after its length."""
    return b"".join(_length(frame) + frame for frame in frames)


def _length(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little")
