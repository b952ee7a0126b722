"""One door for every file that is read: whatever is wrong with it becomes one sentence."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from h2t.base.errors import Error

AGAIN = "remove it and run again"
TEXT, LINES = 1 << 20, 1 << 28  # bytes: of a YAML file; of JSON
NODES, DEPTH = 100_000, 50  # of a YAML file once its aliases are spelled out
DIGITS = 20  # of a whole number, with its sign: 64 bits
LARGE = re.compile(rb"\d{19}|[eE]\+?\d{3}")  # a number that may be too large


@contextlib.contextmanager
def reading(path: Path, way_out: str = AGAIN) -> Iterator[None]:
    """Turn whatever goes wrong with a file, while it is read or checked, into one ``h2t.Error``.

    Arguments: ``way_out`` what to do, as the end of a sentence.
    """
    try:
        yield
    except Error:
        raise
    except FileNotFoundError:
        raise Error(f"{path} does not exist; {way_out}") from None
    except OSError as e:
        raise Error(f"{path} cannot be read: {e.strerror or e}; {way_out}") from None
    except Exception as e:  # of whatever library reads it
        raise Error(f"{path} is damaged ({_why(e)}); {way_out}") from None


def _why(e: Exception) -> str:
    said = " ".join(str(e).split())
    if isinstance(e, KeyError):
        said = f"it lacks {said}"
    elif isinstance(e, RecursionError):
        said = "it is nested too deep"
    return said[:120] or type(e).__name__


def regular(path: Path) -> None:
    """Refuse a pipe, which would block, and whatever is no file. Call in ``reading``."""
    if not path.exists():
        raise FileNotFoundError
    if not path.is_file():
        raise ValueError("it is no regular file")


def content(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a regular file. Call in ``reading``."""
    regular(path)
    if limit is not None and path.stat().st_size > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return path.read_bytes()


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_json(
    path: Path,
    way_out: str = AGAIN,
    kinds: dict[str, Any] | None = None,
    needed: Collection[str] = (),
) -> dict[str, Any]:
    """Read a JSON object, with the numbers that JSON has, which ``agrees`` with ``kinds``."""
    with reading(path, way_out):
        value = _parsed(content(path, LINES))
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
        agrees(value, kinds or {}, needed)
        return value


def read_lines(path: Path, way_out: str = AGAIN) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line."""
    with reading(path, way_out):
        rows = [_parsed(line) for line in content(path, LINES).splitlines()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line of it holds no object")
        return rows


def _parsed(text: bytes) -> Any:
    # nearly all files hold no number that could be too large: those are parsed without the hooks
    hooks = {"parse_int": _whole, "parse_float": _real} if LARGE.search(text) else {}
    value = json.loads(text, parse_constant=_no_number, **hooks)
    if b"\\ud" in text.lower():  # half a character is written so, and can be written nowhere else
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _whole(text: str) -> int:
    return int(text) if len(text) <= DIGITS else _no_number(text)


def _real(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_number(text)


def _no_number(text: str):
    raise ValueError(f"it holds {text[:DIGITS]}")


def agrees(record: dict[str, Any], kinds: dict[str, Any], needed: Collection[str] = ()) -> None:
    """Raise ``ValueError`` where a value in a record is of another kind than said, or missing.

    Arguments: ``kinds`` name to a type, to [type] for a list of such, or to {str: type} for a
    mapping; whole numbers are of 0 to 2^31, and a measure that does not exist is None; ``needed``
    names of what must be there.
    """
    for name in kinds.keys() & record.keys() | set(needed):
        if not _is(record[name], kinds[name]):
            raise ValueError(f"its {name} is {str(record[name])[:40]!r}")


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is(v, kind[0]) for v in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_is(v, kind[str]) for v in value.values())
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return value is None or isinstance(value, int | float)
    return isinstance(value, kind) and (kind is not int or 0 <= value < 1 << 31)


def read_yaml(path: Path, way_out: str = "mend it") -> dict[str, Any]:
    """Read a flat mapping of parameters."""
    with reading(path, way_out):
        text = content(path, TEXT).decode()
    try:
        value = parse_yaml(text)
    except ValueError as e:
        raise Error(f"{path} is not a readable YAML file: {e}") from None
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise Error(f"{path} must hold parameters as `name: value` lines")
    return value


def parse_yaml(text: str) -> Any:
    """The value that a text in YAML stands for: numbers, texts, dates, lists, mappings.

    Raises: ``ValueError`` with one short sentence where it is none, or where its aliases make it
    far larger or deeper than it looks.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):  # without recursion, which could overflow
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise RecursionError
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None:
            _measure(node, {})
        return yaml.safe_load(text)
    except Exception as e:  # also of dates and numbers that only look like such
        raise ValueError(_why(e)) from None


def _measure(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many nodes one is, its aliases spelled out."""
    if sizes.get(id(node)) == 0:
        raise RecursionError
    if node.tag.endswith(":int") and len(node.value) > DIGITS:
        raise ValueError(f"{node.value[:DIGITS]}... is no number of 64 bits")
    if id(node) not in sizes:
        sizes[id(node)] = 0  # begun: to meet it again below itself is a circle
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = isinstance(node, yaml.MappingNode)
        parts = [n for pair in children for n in pair] if pairs else children
        sizes[id(node)] = 1 + sum(_measure(n, sizes) for n in parts)
    if sizes[id(node)] > NODES:
        raise ValueError("its aliases make it too large")
    return sizes[id(node)]


def read_array(path: Path, way_out: str = AGAIN, *, mapped: bool = False) -> np.ndarray:
    """Read an .npy file without objects; ``mapped`` leaves it on disk until it is used.

    A header that promises more than the file holds is refused before anything is allocated.
    """
    with reading(path, way_out):
        regular(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return array if mapped else np.array(array)


def read_tensors(
    path: Path, way_out: str = AGAIN, *, sha256: str | None = None, numpy: bool = False
) -> dict[str, Any]:
    """Read a safetensors file: torch tensors by name, or arrays of ``numpy``.

    Arguments: ``sha256`` what its bytes must hash to, where that is on record.
    Raises: ``h2t.Error``, also where a number in it is NaN or infinite.
    """
    if numpy:
        from numpy import isfinite
        from safetensors.numpy import load
    else:
        from safetensors.torch import load
        from torch import isfinite
    with reading(path, way_out):
        blob = content(path)
        tensors = load(blob)
        for name, tensor in tensors.items():
            if not isfinite(tensor).all():
                raise ValueError(f"{name[:60]} holds NaN or infinite numbers")
        if sha256 is not None and hashlib.sha256(blob).hexdigest() != sha256:
            raise ValueError("it is not the file whose hash was recorded")
        return tensors


def read_pickled(path: Path, way_out: str = AGAIN, allowed: list | None = None) -> Any:
    """Read what torch.save wrote, weights-only: tensors and plain values, never code.

    Arguments: ``allowed`` what else may stand in it, as ``torch.serialization.safe_globals`` takes.
    Raises: ``h2t.Error``; a file that holds code is named as such.
    """
    import torch

    with reading(path, way_out):
        regular(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:  # torch packs nothing; what is packed can burst
                if any(p.file_size > p.compress_size for p in parts.infolist()):
                    raise ValueError("it is packed, as torch.save does not do")
        try:
            with torch.serialization.safe_globals(allowed or []):
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as e:
            found = re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(e))
            if found:
                code = f"{found.group(1)[:80]}, which is code and not tensors and numbers"
                raise Error(f"{path} was refused: it holds {code}; {way_out}") from None
            if "Unsupported operand" in str(e):  # of other pickles, with code or without
                raise ValueError("it is no file that torch.save writes by itself") from None
            raise ValueError("it is cut short, or torch.save did not write it") from None
