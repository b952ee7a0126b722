"""Ways to damage a file: its bytes, or what it says."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml

WILD = (
    None,
    True,
    -1,
    0,
    1e308,
    10**9,
    10**400,
    0.5,
    "",
    "x" * 2000,
    [],
    {},
    "\0",
    [[]],
    "é\ud800",
)


# in what is said or printed: a file asked for more memory than there is, or ran something
MISTAKES = ("MemoryError", "allocate", "CODE RAN", "Traceback")


def kind(make: Callable, use: Callable, names: Sequence[str]) -> Callable[[int, Path], str]:
    """The ``run`` of a kind that damages files which are there.

    Arguments: ``make(folder)`` fills a folder, once; ``use(folder)`` reads it as h2t does and
    returns what was said of damage, each of which it has caught as ``h2t.Error``; ``names`` of the
    files of which one is damaged.
    """

    @functools.cache
    def made() -> tempfile.TemporaryDirectory:
        place = tempfile.TemporaryDirectory()
        make(Path(place.name))
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(place.name, copy, dirs_exist_ok=True)
            said = use(Path(copy))  # loads what is slow as well
        assert not any(name in said for name in names), f"undamaged, and yet: {said}"
        return place

    def run(seed: int, folder: Path) -> str:
        draw, printed = random.Random(seed), io.StringIO()
        shutil.copytree(made().name, folder, dirs_exist_ok=True)
        name = draw.choice(names)
        how = damage(folder / name, draw)
        with contextlib.redirect_stdout(printed):
            said = use(folder)
        found = [m for m in MISTAKES if m in said + printed.getvalue()]
        assert not found, f"{name}: {how}: {said[:400]}"
        return "refused" if said else "read"

    return run


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in place. Returns: how."""
    spoken = {".json": _json, ".jsonl": _jsonl, ".yaml": _yaml, ".npy": _npy}
    spoken |= {".safetensors": _safetensors, ".pt": _pickled, ".tar": _pickled}
    if path.suffix in spoken and draw.random() < 0.6:
        return f"{path.name}: {spoken[path.suffix](path, draw)}"
    whole = path.read_bytes()
    path.write_bytes(bytes(_bytes(bytearray(whole), draw)))
    return f"{path.name}: other bytes"


def _bytes(data: bytearray, draw: random.Random) -> bytearray:
    at, size = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 64, 4096))
    how = draw.randrange(6)
    if how == 0:
        return data[:at]
    if how == 1:
        data[at : at + size] = draw.randbytes(min(size, len(data) - at))
    elif how == 2:
        data[at : at + size] = b"\0" * min(size, len(data) - at)
    elif how == 3:
        data[at:at] = draw.randbytes(size)
    elif how == 4:
        del data[at : at + size]
    elif data:
        for _ in range(size):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def _changed(value, draw: random.Random):
    """A value of JSON's kinds with one place in it changed. Returns: value, what was done."""
    inside = isinstance(value, dict | list) and len(value) and draw.random() < 0.85
    if not inside:
        if draw.random() < 0.05:
            return json.loads("[" * 400 + "]" * 400), "deep"
        wild = draw.choice(WILD)
        return wild, f"-> {str(wild)[:30]!r}"
    key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
    if draw.random() < 0.2:
        del value[key]
        return value, f"without {str(key)[:30]!r}"
    value[key], done = _changed(value[key], draw)
    return value, f"{str(key)[:30]!r} {done}"


def _json(path: Path, draw: random.Random) -> str:
    value, done = _changed(json.loads(path.read_text()), draw)
    text = json.dumps(value)
    if draw.random() < 0.1:
        text, done = text.replace("0", "NaN", 1), "NaN"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return done


def _jsonl(path: Path, draw: random.Random) -> str:
    value, done = _changed([json.loads(line) for line in path.read_text().splitlines()], draw)
    rows = value if isinstance(value, list) else [value]
    path.write_text("\n".join(map(json.dumps, rows)))
    return done


def _yaml(path: Path, draw: random.Random) -> str:
    value, done = _changed(yaml.safe_load(path.read_text()), draw)
    text = json.dumps(value)  # which is YAML too
    if isinstance(value, dict):
        text = "".join(f"{json.dumps(k)}: {json.dumps(v)}\n" for k, v in value.items())
    if draw.random() < 0.15:
        text += "a: &a [x, x]\n" + "".join(f"b{k}: &b{k} [*a, *a]\n" for k in range(3))
        text += draw.choice(("z: 2024-02-30\n", "z: [" * 500, "z: &z [*z]\n", "z: *nobody\n", ""))
    path.write_text(text)
    return done


def _npy(path: Path, draw: random.Random) -> str:
    array = np.load(path)
    changed = [
        array[:-1],
        array[..., None],
        array.astype(np.float64),
        array.astype("U9"),
        np.full_like(array, 10**9 if array.dtype.kind == "i" else np.nan),
        -array - 1,
        array[:0],
        np.concatenate([array, array]),
        array * 1j,
    ]
    np.save(path, changed[k := draw.randrange(len(changed))])
    if draw.random() < 0.2:  # a header that promises a terabyte
        text = path.read_bytes().replace(b"'shape': (", b"'shape': (9999999999, ", 1)
        path.write_bytes(text)
    return f"array {k}"


def _tensors(found: dict, draw: random.Random) -> str:
    import torch

    name = draw.choice(sorted(found))
    t = found[name]
    ways = {
        "gone": None,
        "NaN": torch.full_like(t, float("nan")) if t.is_floating_point() else t - 5,
        "short": t[:-1].clone() if t.dim() else t[None].clone(),
        "empty": t.new_zeros(0),
        "whole": t.nan_to_num().to(torch.int64),
        "half": t.to(torch.float16),
        "deep": t[None].clone(),
        "huge": torch.full_like(t, 10**9 if not t.is_floating_point() else 1e30),
        "below": torch.full_like(t, -1),
    }
    how = draw.choice(sorted(ways))
    if ways[how] is None:
        del found[name]
    else:
        found[draw.choice((name, name, name, "other"))] = ways[how].clone()
    return f"{name} {how}"


def _safetensors(path: Path, draw: random.Random) -> str:
    from safetensors.torch import load, save

    found = load(path.read_bytes())
    done = _tensors(found, draw)
    path.write_bytes(save(found))
    return done


class _Code:
    def __reduce__(self):
        return (print, ("CODE RAN",))


def _pickled(path: Path, draw: random.Random) -> str:
    import torch

    found = torch.load(path, weights_only=False)
    inner = [v for v in found.values() if isinstance(v, dict) and v]
    tensors = [d for d in inner if all(isinstance(v, torch.Tensor) for v in d.values())]
    key = draw.choice(sorted(map(str, found)))
    if tensors and draw.random() < 0.6:
        done = _tensors(draw.choice(tensors), draw)
    elif draw.random() < 0.2:
        found[key], done = _Code(), f"{key} code"
    elif draw.random() < 0.2:
        found[key], done = torch.zeros(1).expand(10**12), f"{key} a terabyte"
    else:
        wild = draw.choice([*WILD, float("nan"), float("inf"), {1: 2}])
        found[key], done = wild, f"{key} -> {str(wild)[:30]!r}"
    buffer = io.BytesIO()
    torch.save(found, buffer, _use_new_zipfile_serialization=draw.random() < 0.8)
    path.write_bytes(buffer.getvalue())
    return done
