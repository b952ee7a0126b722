"""The frames in which everything travels to the front end; ``static/frame.js`` reads them.

A frame is

    b"H2TF"  uint32 n  JSON of n bytes, padded with spaces to a multiple of 8  arrays

with little-endian numbers. The JSON is an object: ``kind`` says what the frame is, ``arrays`` maps
a name to ``type`` (u1, u2, i2, u4, f4), ``shape``, ``at`` (its first byte, counted from the end of
the JSON) and, where whole numbers stand for real ones, ``scale`` and ``offset``: value = scale *
number + offset. Several frames in one file or answer each follow their length, uint32.

Kinds: ``base`` what does not change; ``class`` training features of one class; ``fused`` what is
lent to the tail; ``fits`` classifiers at some positions of the slider; ``curve`` the ratio curve;
``map`` a t-SNE map; ``images`` thumbnails; ``busy`` how far the fits are; ``status`` an answer to a
request.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

MAGIC = b"H2TF"
TYPES = {"u1": np.uint8, "u2": np.uint16, "i2": np.int16, "u4": np.uint32, "f4": np.float32}


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
        self.numbers = np.rint((values - self.offset) / self.scale).astype(TYPES[kind])


def names(values, num_classes: int) -> np.ndarray:
    """Class indices in as few bytes as they need."""
    return np.asarray(values).astype(np.uint8 if num_classes <= 256 else np.uint16)


def pack(kind: str, meta: dict[str, Any], **arrays) -> bytes:
    """One frame. Arguments: ``meta`` what JSON can say; ``arrays`` of NumPy, or ``Quantised``."""
    head, parts, at = {}, [], 0
    for name, array in arrays.items():
        record: dict[str, Any] = {}
        if isinstance(array, Quantised):
            record = {"scale": float(array.scale), "offset": float(array.offset)}
            array = array.numbers
        array = np.ascontiguousarray(array)
        code = next(code for code, dtype in TYPES.items() if array.dtype == dtype)
        head[name] = {"type": code, "shape": list(array.shape), "at": at, **record}
        parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        parts.append(bytes(-len(parts[-1]) % 8))
        at += len(parts[-2]) + len(parts[-1])
    text = json.dumps({"kind": kind, **meta, "arrays": head}, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([MAGIC, np.uint32(len(text)).astype("<u4").tobytes(), text, *parts])


def join(frames: Iterable[bytes]) -> bytes:
    """Several frames, each after its length."""
    return b"".join(np.uint32(len(f)).astype("<u4").tobytes() + f for f in frames)


def unpack(frame: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a frame says, and its arrays, real numbers as such. Raises ``ValueError`` where it is
    no frame."""
    if frame[:4] != MAGIC:
        raise ValueError("not a frame of the explorer")
    start = 8 + int.from_bytes(frame[4:8], "little")
    meta, arrays = json.loads(frame[8:start]), {}
    for name, record in meta.pop("arrays").items():
        count = int(np.prod(record["shape"]))
        numbers = np.frombuffer(frame, TYPES[record["type"]], count, start + record["at"])
        if "scale" in record:
            numbers = record["scale"] * numbers.astype(np.float64) + record["offset"]
        arrays[name] = numbers.reshape(record["shape"])
    return meta, arrays
