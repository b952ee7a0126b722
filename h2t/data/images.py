"""One image file as pixels: decoded, upright, in colour or grey, at the size a network sees."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np

from h2t.base.errors import Error

FITS = ("stretch", "crop")
MARGIN = (
    8 / 7
)  # for fit crop the shorter side comes to 8/7 of the image size before the middle is cut out: 256 for 224
KEEP = 2  # a JPEG is decoded at 1/2, 1/4 or 1/8 only where that leaves this many times the pixels a side that are wanted


def read_image(
    path: str | Path,
    image_size: int = 0,
    channels: int = 0,
    fit: str = "stretch",
    crop: tuple[int, bool] | None = None,
) -> np.ndarray:
    """Decode one image, upright by its EXIF orientation, transparent parts on white. Returns: (H, W, C) uint8, C 1 or 3.

    All resizing is Pillow's antialiased bilinear, as in torchvision's transforms of PIL images, which most of the field uses: for
    a colour image, ``crop`` gives what Resize(256) and CenterCrop(224) give, and a random ``crop`` what RandomResizedCrop gives, to
    the bit. Deviations: images are turned upright and transparency becomes white, which plain PIL code does not do; and of a
    JPEG so large that it would be shrunk to less than half, a quarter or an eighth anyway, the decoder leaves that factor
    out, which changes pixels by a level or two.

    Arguments: ``image_size`` pixels a side, 0 as it is; ``channels`` 1 or 3, 0 for 3 unless the image is grey; ``fit``
    stretch resizes both sides, crop resizes the shorter one and cuts the middle out; ``crop`` the seed of a random one
    instead, and whether it is mirrored.
    Raises: ``h2t.Error`` naming the image that is unreadable or truncated.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) > 4:  # lies on its side
                width, height = height, width
            if not image_size:
                box, scaled = (0, 0, width, height), None
            elif crop:
                box, scaled = (
                    random_box(width, height, random.Random(crop[0])),
                    (image_size, image_size),
                )
            elif fit == "crop":
                box, scaled = (
                    (0, 0, width, height),
                    short_side(width, height, round(MARGIN * image_size)),
                )
            else:
                box, scaled = (0, 0, width, height), (image_size, image_size)
            if scaled:
                factor = min((box[2] - box[0]) / scaled[0], (box[3] - box[1]) / scaled[1]) / KEEP
                if (shrink := next((k for k in (8, 4, 2) if factor >= k), 1)) > 1:
                    image.draft(
                        None, (image.size[0] // shrink, image.size[1] // shrink)
                    )  # does nothing but to JPEGs
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            image = _converted(image, channels)
            if scaled:
                image = _resized(image, box, scaled, (width, height))
                if scaled != (image_size, image_size):
                    left, top = (round((side - image_size) / 2) for side in scaled)
                    image = image.crop((left, top, left + image_size, top + image_size))
            if crop and crop[1]:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            array = np.asarray(image)
    except Exception as e:  # decoders raise nearly anything on damaged files
        raise Error(
            f"image {path} cannot be decoded ({' '.join(str(e).split())}); replace or remove it"
        ) from None
    return array[:, :, None] if array.ndim == 2 else array


def _converted(image, channels: int):
    """An image of any mode as RGB or grey."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 or 32 bits deep
        values = np.asarray(image, np.float64)
        top = 65535 if image.mode.startswith("I") else max(values.max(), 1e-9)
        image = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    mode = "L" if channels == 1 or (image.mode in ("1", "L") and not channels) else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _resized(image, box: tuple[int, int, int, int], size: tuple[int, int], whole: tuple[int, int]):
    """The part ``box`` of an image that was ``whole`` pixels large before the decoder shrank it, at another ``size``."""
    from PIL import Image

    if image.size != whole:
        across, down = image.size[0] / whole[0], image.size[1] / whole[1]
        return image.resize(
            size,
            Image.Resampling.BILINEAR,
            (box[0] * across, box[1] * down, box[2] * across, box[3] * down),
        )
    if box != (0, 0, *whole):
        image = image.crop(box)  # resizing with a box would look at pixels outside it
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def short_side(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height with the shorter of them at ``side`` pixels, the other rounded down, as torchvision's Resize does."""
    return (
        (side, int(side * height / width))
        if width <= height
        else (int(side * width / height), side)
    )


def random_box(width: int, height: int, draws: random.Random) -> tuple[int, int, int, int]:
    """A random part of an image: left, top, right, bottom in pixels.

    Source: Szegedy et al. 2015, as torchvision's RandomResizedCrop has it: 8 to 100 % of the area, sides at a ratio from 3:4
    to 4:3, log-uniform; after ten parts that do not fit in, the largest middle part of an allowed ratio.
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
