"""One image file as pixels: decoded, upright, in colour or grey, at the size a network sees."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path

import numpy as np

from h2t.base.errors import Error, quoted

SEEN = 7 / 8  # what crop leaves of the shorter side: 224 of 256
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
KEEP = 2  # a JPEG is decoded smaller where that leaves this many times the pixels that are wanted


def read_image(
    path: str | Path,
    image_size: int = 0,
    channels: int = 3,
    fit: str = "stretch",
    crop: tuple[int, bool] | None = None,
    white_level: int = 0,
) -> np.ndarray:
    """Decode one image, upright by its EXIF orientation, transparent parts on white.

    Resizing is Pillow's, antialiased: ``fit`` crop gives what torchvision's Resize(256) and
    CenterCrop(224) give, and a random ``crop`` what its RandomResizedCrop gives, to the bit.
    Deviation: of a JPEG that would be shrunk to less than half, a quarter or an eighth, the decoder
    leaves that factor out, which changes pixels by a level or two.

    Arguments: ``image_size`` pixels a side, 0 as it is; ``channels`` C, 1 or 3; ``fit`` as
    of ``fitting``; ``crop`` the seed of a random one, and whether it is mirrored; ``white_level``
    the value of white in files deeper than 8 bits, 0 for 65535.
    Returns: (H, W, C) uint8. Raises: ``h2t.Error`` naming an image that is damaged.
    """
    from PIL import Image, ImageOps

    share, filtered = fitting(fit)
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) > 4:  # lies on its side
                width, height = height, width
            box, scaled = _cut((width, height), image_size, share, crop)
            factor = min((box[2] - box[0]) / scaled[0], (box[3] - box[1]) / scaled[1]) / KEEP
            shrink = next((k for k in (8, 4, 2) if factor >= k), 1)
            if shrink > 1:  # Pillow says by how much a JPEG is shrunk, and does nothing to others
                asked = image.size[0] // shrink, image.size[1] // shrink
                before, told = image.size, image.draft(None, asked)
                shrink = before[0] / told[1][2] if told else 1
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            image = _converted(image, channels, white_level)
            image, box = _cropped(image, tuple(edge / shrink for edge in box))
            if image.size != scaled or shrink > 1:
                image = image.resize(scaled, Image.Resampling[filtered.upper()], box)
            if image_size and scaled != (image_size, image_size):
                left, top = (round((side - image_size) / 2) for side in scaled)
                image = image.crop((left, top, left + image_size, top + image_size))
            if crop and crop[1]:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            array = np.asarray(image)
    except Exception as e:  # decoders raise nearly anything on damaged files
        why = f"{' '.join(str(e).split()):.200}"
        raise Error(f"image {path} cannot be decoded ({why}); replace or remove it") from None
    return array[:, :, None] if array.ndim == 2 else array


def fitting(fit: str) -> tuple[float, str]:
    """How an image comes to its size, by the words of ``image_fit``.

    ``stretch`` resizes both sides, ``crop`` the shorter one, and cuts the middle out; ``crop 0.95
    bicubic`` says the share of the shorter side that is seen, and one of Pillow's filters.
    Returns: the share, 0 for both sides stretched, and the filter.
    """
    found = re.fullmatch(r"(?:stretch|crop(?: (1|0\.\d+))?)(?: (\w+))?", fit)
    filtered = (found and found[2]) or "bilinear"
    share = float((found and found[1]) or SEEN)
    if not found or filtered not in FILTERS or share < 0.1:
        raise Error(f"image_fit is {quoted(fit)}; choose stretch, crop, or e.g. crop 0.95 bicubic")
    return share * fit.startswith("crop"), filtered


def _cut(whole: tuple[int, int], image_size: int, share: float, crop):
    """Which part of an image is taken, left, top, right, bottom, and to what size it is brought."""
    if image_size and crop:
        return random_box(*whole, random.Random(crop[0])), (image_size, image_size)
    if image_size and share:
        return (0, 0, *whole), _short_side(*whole, round(image_size / share))
    scaled = (image_size, image_size) if image_size else whole
    return (0, 0, *whole), scaled


def _cropped(image, box: tuple[float, ...]):
    """The whole pixels that a box lies in, and where: resizing would look at others outside it."""
    if box == (0, 0, *image.size):
        return image, box
    left, top = math.floor(box[0]), math.floor(box[1])
    image = image.crop((left, top, math.ceil(box[2]), math.ceil(box[3])))
    return image, (box[0] - left, box[1] - top, box[2] - left, box[3] - top)


def deepest(path: str | Path) -> int:
    """The largest value of a file that is deeper than 8 bits; of another, or a damaged one, 0."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return int(np.asarray(image).max()) if image.mode.startswith("I") else 0
    except Exception:  # it is named when it is read
        return 0


def is_grey(path: str | Path) -> bool:
    """Whether a file holds no colours; one that is damaged is named when it is read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            plain = image.mode in ("1", "L") and "transparency" not in image.info
            return plain or image.mode.startswith(("I", "F"))
    except Exception:
        return True


def _converted(image, channels: int, white_level: int):
    """An image of any mode as RGB or grey."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 or 32 bits deep
        values = np.asarray(image, np.float64)
        top = white_level or (65535 if image.mode.startswith("I") else max(values.max(), 1e-9))
        image = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _short_side(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height, the shorter at ``side`` pixels, as torchvision's Resize rounds them."""
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def random_box(width: int, height: int, draws: random.Random) -> tuple[int, int, int, int]:
    """A random part of an image: left, top, right, bottom in pixels.

    Source: Szegedy et al. 2015, as torchvision's RandomResizedCrop has it: 8 to 100 % of the area,
    sides at a ratio from 3:4 to 4:3, log-uniform; after ten parts that do not fit in, the largest
    middle part of an allowed ratio.
    """
    for _ in range(10):
        area = width * height * draws.uniform(0.08, 1.0)
        ratio = math.exp(draws.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = draws.randint(0, width - w), draws.randint(0, height - h)
            return left, top, left + w, top + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
