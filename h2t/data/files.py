"""File-backed sets: class folders and list files, decoded once into a memory-mapped cache."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from h2t.data.split import Split
from h2t.errors import Error

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


class Paths:
    """A million relative paths as one buffer and their offsets: 16 bytes each beside the text, sliced like an array.

    Arguments: ``text`` UTF-8 bytes; ``start`` and ``end`` (N,) int64 offsets of each path.
    """

    def __init__(self, text: bytes, start: np.ndarray, end: np.ndarray):
        self.text, self.start, self.end = text, start, end

    @classmethod
    def of(cls, paths: list[str]) -> Paths:
        encoded = [p.encode("utf-8", "surrogateescape") for p in paths]
        end = np.cumsum([len(p) for p in encoded])
        return cls(b"".join(encoded), np.concatenate([[0], end[:-1]]).astype(np.int64), end)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, k):
        if isinstance(k, int | np.integer):
            return self.text[self.start[k] : self.end[k]].decode("utf-8", "surrogateescape")
        return Paths(self.text, self.start[k], self.end[k])

    def __iter__(self):
        return (self[k] for k in range(len(self)))


def read_list(file: str | Path) -> tuple[Paths, np.ndarray]:
    """Read a list file of the field, ``relative/path label`` a line, separated by one space; paths may contain spaces.

    Works on the bytes as one array, so that lists of millions cost no Python object a line.

    Returns: paths (N,) and labels (N,) int64. Raises: ``h2t.Error`` naming file and line for a malformed line or a path
    that leaves the image root.
    """
    try:
        text = Path(file).read_bytes()
    except FileNotFoundError:
        raise Error(f"list file {file} does not exist") from None
    except OSError as e:
        raise Error(f"list file {file} cannot be read: {e.strerror}") from None
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip() + b"\n"
    if text == b"\n":
        raise Error(f"list file {file} is empty")
    raw = np.frombuffer(text, np.uint8)
    line_end = np.flatnonzero(raw == 10)
    line_start = np.concatenate([[0], line_end[:-1] + 1])
    spaces = np.concatenate([[-1], np.flatnonzero(raw == 32)])
    cut = spaces[np.searchsorted(spaces, line_end) - 1]  # the last space before each line's end
    digits = line_end - cut - 1
    bad = (cut <= line_start) | (digits < 1) | (digits > 18)
    labels = np.zeros(len(line_end), np.int64)
    for k in range(int(np.where(bad, 0, digits).max(initial=0))):
        here = ~bad & (digits > k)
        value = raw[np.where(here, cut + 1 + k, 0)].astype(np.int64) - 48
        bad |= here & ((value < 0) | (value > 9))
        labels = np.where(here, labels * 10 + value, labels)
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        line = text[line_start[k] : line_end[k]].decode("utf-8", "replace")
        raise Error(f"{file}, line {k + 1}: {line!r} is not `relative/path label` with a whole number from 0 as label")
    paths = Paths(text, line_start, cut)
    if b".." in text or b"\\" in text or b":" in text or text.startswith(b"/") or b"\n/" in text:
        _refuse_escapes(file, paths)
    return paths, labels


def _refuse_escapes(file, paths: Paths) -> None:
    for k, path in enumerate(paths):
        parts = PurePosixPath(path.replace("\\", "/")).parts
        if ".." in parts or path.startswith(("/", "\\")) or path[1:2] == ":":
            raise Error(f"{file}, line {k + 1}: the path {path!r} leaves the image root; write it relative to the root, without '..'")


def list_folder(folder: Path, classes: tuple[str, ...] | None = None) -> tuple[Paths, np.ndarray, tuple[str, ...]]:
    """Images of ``folder/<class>/**``, classes and images in sorted order.

    Arguments: ``classes`` the names that are expected, or None to take those that are there. Returns: paths (N,)
    relative to ``folder``, labels (N,), class names. Raises: ``h2t.Error`` for a missing or empty folder, a class without
    images, or class folders that differ from those expected.
    """
    if not folder.is_dir():
        raise Error(f"folder {folder} does not exist; it must hold one folder of images per class")
    found = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not found:
        raise Error(f"folder {folder} holds no class folders; put the images in {folder}/<class>/")
    if classes is not None and (odd := sorted(set(found) - set(classes))):
        raise Error(f"{folder} has a class {odd[0]!r} that the training part does not have")
    paths, labels = [], []
    for label, name in enumerate(classes or found):
        images = sorted(
            p.relative_to(folder).as_posix() for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()
        )
        if not images and classes is None:
            raise Error(f"class folder {folder / name} holds no images (known endings: {', '.join(sorted(SUFFIXES))})")
        paths += images
        labels += [label] * len(images)
    return Paths.of(paths), np.array(labels, dtype=np.int64), classes or found


def decode(
    root: Path, paths: Paths, labels: np.ndarray, classes: tuple[str, ...], *, image_size: int, channels: int,
    cache: Path | None, progress: bool, where: str,
) -> Split:  # fmt: skip
    """Decode images once, in parallel, into a memory-mapped cache, and give them as a split.

    The cache is keyed by the paths, the labels, each file's size and time of change, the image size and the channels.

    Arguments: ``root`` of the relative ``paths`` (N,); ``image_size`` pixels a side, 0 for images that already agree;
    ``channels`` 1 or 3, 0 for what the first image has; ``where`` names the part in messages.
    Raises: ``h2t.Error`` naming the image that is missing, unreadable, truncated, outside the root or of another size.
    """
    digest = hashlib.sha256(f"h2t-2 {image_size} {channels}\n".encode())
    top = os.path.realpath(root)
    for path in paths:
        full = os.path.join(root, path)
        try:
            info = os.stat(full)
        except OSError:
            raise Error(f"image {full} ({where}) does not exist; check the image root and the list") from None
        real = os.path.realpath(full)
        if not real.startswith(top + os.sep):
            raise Error(f"image {full} ({where}) leads outside the image root {root}; copy it into the root")
        digest.update(f"{path}\0{info.st_size}\0{info.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    file = (cache or cache_folder()) / f"{digest.hexdigest()[:32]}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _fill(file, root, paths, image_size, channels, progress, where)
    return Split(np.load(file, mmap_mode="r"), labels, classes, paths)


def cache_folder() -> Path:
    """Where decoded images are kept: ``$H2T_CACHE``, else ``$XDG_CACHE_HOME/h2t``, else ``~/.cache/h2t``."""
    if given := os.environ.get("H2T_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "h2t"


def _fill(file: Path, root: Path, paths, image_size: int, channels: int, progress: bool, where: str) -> None:
    from tqdm.auto import tqdm

    first = read_image(root / paths[0], image_size, channels)
    partial = file.with_name(f"{file.name}.{os.getpid()}.h2t-tmp")

    def decode_all() -> None:  # a scope of its own: the map is closed before the file is renamed
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(len(paths), *first.shape))

        def one(k: int) -> None:
            image = read_image(root / paths[k], image_size, channels or first.shape[2])
            if image.shape != first.shape:
                size, other = ("x".join(map(str, s[1::-1])) for s in (image.shape, first.shape))
                raise Error(f"image {root / paths[k]} is {size} pixels, {root / paths[0]} is {other}; set image_size to bring all to one size")
            images[k] = image

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in tqdm(pool.map(one, range(len(paths))), f"decoding {where}", len(paths), unit="image", disable=not progress):
                pass
        images.flush()

    try:
        decode_all()
        os.replace(partial, file)
    except OSError as e:
        raise Error(f"cannot write the image cache {file}: {e.strerror}; free some disk space or set H2T_CACHE to another folder") from None
    finally:
        partial.unlink(missing_ok=True)


def read_image(path: Path, image_size: int = 0, channels: int = 0) -> np.ndarray:
    """Decode one image, upright by its EXIF orientation, transparent parts on white. Returns: (H, W, C) uint8, C 1 or 3.

    Raises: ``h2t.Error`` naming the image that is unreadable or truncated.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):  # 16 or 32 bits deep
                values = np.asarray(image, np.float64)
                top = 65535 if image.mode.startswith("I") else max(values.max(), 1e-9)
                image = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
            grey = image.mode in ("1", "L")
            image = image.convert("L" if channels == 1 or (grey and not channels) else "RGB")
            if image_size:
                image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
            array = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as e:
        raise Error(f"image {path} cannot be decoded ({' '.join(str(e).split())}); replace or remove it") from None
    return array[:, :, None] if array.ndim == 2 else array
