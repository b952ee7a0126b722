"""Damaged npz, list and CSV files, and folders, read by ``h2t.load``."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from h2t import Error, load

PLACES = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
WORDS = ["path", "label", "split", "group", "train", "test", "valid", "0", "1", "2", "-1", "1e9"]
WORDS += ["99999999999999999999", "1.0", "nan", "", " ", "..", "/", "C:\\x", '"', "'", "\0", "é"]
WORDS += ["\ufeff", "\u2028", "x" * 3000, ",,,", ";", "\t", *PLACES, "cat", "dog", "cat/none.png"]
HEADERS = [
    "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999, 8, 8), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }" % ("9" * 4000),
    "{'descr': '|O', 'fortran_order': False, 'shape': (8,), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (-1, 8, 8), }",
    "(" * 400 + ")" * 400,
    "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (8,), }",
    "",
]


def run(seed: int, folder: Path) -> str:
    """The case of a seed. Returns: read or refused. Raises whatever is no ``h2t.Error``."""
    r = np.random.default_rng(seed)
    kind = [_npz, _list, _table][seed % 3]
    source, root = kind(r, folder)
    os.environ["H2T_CACHE"] = str(folder / "cache")
    try:
        data = load(source, root, progress=False)
    except Error as e:
        assert "\n" not in str(e) and len(str(e)) < 2000, f"no short sentence: {str(e)[:300]!r}"
        return "refused"
    labels = np.concatenate([data.train.labels, data.test.labels])
    assert 0 <= labels.min() <= labels.max() < len(data.train.classes)
    images = np.asarray(data.train.images[:])
    assert images.dtype == np.uint8 and images.shape[0] == len(data.train) and data.notes
    return "read"


def _npz(r: np.random.Generator, folder: Path) -> tuple[str, Path]:
    file = folder / "x.npz"
    labels = np.arange(8) % 2
    arrays = {f"{p}_images": r.integers(0, 256, (8, 8, 8), np.uint8) for p in ("train", "test")}
    arrays |= {"train_labels": labels, "test_labels": labels, "class_names": np.array(["a", "b"])}
    if r.random() < 0.3:
        arrays |= {"source_indices": np.arange(8), "source_labels": labels, "packed_as": "x"}
    for name in r.choice(sorted(arrays), r.integers(0, 3)):
        arrays[name] = _wild(r, np.asarray(arrays[name]))
    (np.savez, np.savez_compressed)[r.integers(2)](file, **arrays)
    if r.random() < 0.3:
        _wild_header(r, file, str(r.choice(sorted(arrays))))
    if r.random() < 0.6:
        file.write_bytes(_bytes(r, file.read_bytes()))
    return "npz", file


def _wild(r: np.random.Generator, array: np.ndarray) -> np.ndarray:
    dtypes = ("u1", "i2", "u8", "i8", "f4", "f8", "c8", "b", "S3", "U3", "m8[s]", "M8[s]")
    change = [
        lambda: array.astype(array.dtype.newbyteorder()),
        lambda: array[: r.integers(len(array) + 1)] if array.ndim else array,
        lambda: array[..., None],
        lambda: array.ravel(),
        lambda: r.integers(0, 100, array.shape).astype(str(r.choice(dtypes))),
        lambda: r.integers(-(2**62), 2**62, array.shape),
        lambda: np.full(array.shape, r.choice([np.nan, np.inf, -1, 2, 1e300])),
        lambda: np.zeros((r.integers(3),) * r.integers(0, 6)),
        lambda: np.asfortranarray(array),
    ]
    return change[r.integers(len(change))]()


def _wild_header(r: np.random.Generator, file: Path, name: str) -> None:
    """One member whose header says what its bytes are not, packed in any of zip's ways."""
    with zipfile.ZipFile(file) as old:
        parts = {n: old.read(n) for n in old.namelist()}
    text = str(r.choice(HEADERS)).encode()
    version = bytes(r.integers(0, 5, 2, np.uint8)) if r.random() < 0.3 else b"\1\0"
    length = len(text) if r.random() < 0.8 else int(r.integers(2**16))
    member = b"\x93NUMPY" + version + length.to_bytes(2, "little") + text + b"\0" * 64
    parts[f"{name}.npy"] = member if r.random() < 0.9 else b""
    buffer, ways = io.BytesIO(), (0, 8, 12, 14)
    with zipfile.ZipFile(buffer, "w", int(r.choice(ways))) as new:
        for n, content in parts.items():
            new.writestr(n, content)
    file.write_bytes(buffer.getvalue())


def _bytes(r: np.random.Generator, content: bytes) -> bytes:
    """Bytes changed, cut, taken out, put in or doubled."""
    data = bytearray(content)
    for _ in range(r.integers(1, 4)):
        if not data:
            break
        at, n = int(r.integers(len(data))), int(r.integers(1, 40))
        kind = r.integers(5)
        if kind == 0:
            data[at] ^= 1 << int(r.integers(8))
        elif kind == 1:
            data[at : at + n] = bytes(r.integers(0, 256, n, np.uint8))
        elif kind == 2:
            del data[at : at + n]
        elif kind == 3:
            data[at:at] = data[max(0, at - n) : at]
        elif r.random() < 0.3:
            del data[at:]
    return bytes(data)


def _images(r: np.random.Generator, folder: Path) -> None:
    for place in PLACES:
        (folder / place).parent.mkdir(exist_ok=True)
        Image.fromarray(r.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / place)


def _list(r: np.random.Generator, folder: Path) -> tuple[str, Path]:
    _images(r, folder)
    lines = [f"{place} {k // 2}" for k, place in enumerate(PLACES)]
    (folder / "train.txt").write_bytes(_text(r, lines, " \t,"))
    if r.random() < 0.3:
        (folder / "test.txt").write_bytes(_text(r, lines, " \t,"))
    return "lists", folder


def _table(r: np.random.Generator, folder: Path) -> tuple[str, Path]:
    _images(r, folder)
    separator = str(r.choice(list(",\t;")))
    rows = [["path", "label", "group"], *([p, p[:3], f"g{k}"] for k, p in enumerate(PLACES))]
    if r.random() < 0.3:
        rows = [
            [*row, extra]
            for row, extra in zip(rows, ["split", *["train", "test"] * 2], strict=True)
        ]
    (folder / "x.csv").write_bytes(_text(r, [separator.join(row) for row in rows], separator))
    return "lists", folder / ("x.csv" if r.random() < 0.5 else "")


def _text(r: np.random.Generator, lines: list[str], separators: str) -> bytes:
    """Lines with words, separators and lines changed, in an encoding, and then their bytes."""
    lines = list(lines)
    for _ in range(r.integers(0, 4)):
        k, word = int(r.integers(len(lines))), str(r.choice(WORDS))
        fields = lines[k].split(separators[0])
        fields[int(r.integers(len(fields)))] = word
        change = r.integers(4)
        if change == 0:
            lines[k] = separators[0].join(fields)
        elif change == 1:
            lines.insert(k, lines[int(r.integers(len(lines)))])
        elif change == 2:
            lines[k] = lines[k].replace(separators[0], str(r.choice(list(separators + ";|"))))
        else:
            lines[k] += word
    end = str(r.choice(["\n", "\r\n", "\r", "\n\n"], p=[0.7, 0.1, 0.1, 0.1]))
    encoding = str(r.choice(["utf-8", "utf-8-sig", "utf-16"], p=[0.8, 0.1, 0.1]))
    content = end.join(lines).encode(encoding, "replace")
    return _bytes(r, content) if r.random() < 0.3 else content
