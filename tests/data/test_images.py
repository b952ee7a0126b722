"""Reading one image as the field's transforms do."""

import random

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images
from torchvision import transforms
from torchvision.transforms import functional as F

from h2t.data.images import random_box, read_image

PHOTOGRAPHS = [Image.fromarray(p) for p in load_sample_images().images]  # 640 x 427


def saved(path, size, photograph=0, **how):
    PHOTOGRAPHS[photograph].resize(size, Image.Resampling.BICUBIC).save(path, **how)
    return path


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (300, 223), (100, 80)])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_the_middle_is_that_of_resize_and_centre_crop_to_the_bit(tmp_path, size, ending):
    path = saved(tmp_path / f"x.{ending}", size)
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(
        Image.open(path).convert("RGB")
    )
    assert np.array_equal(read_image(path, 224, 3, "crop"), np.asarray(theirs))


@pytest.mark.parametrize("seed", range(5))
def test_a_random_crop_is_torchvisions_resized_crop_to_the_bit(tmp_path, seed):
    path = saved(tmp_path / "x.jpg", (500, 375), quality=90)
    left, top, right, bottom = random_box(500, 375, random.Random(seed))
    theirs = F.resized_crop(Image.open(path), top, left, bottom - top, right - left, [224, 224])
    for mirrored in (False, True):
        assert np.array_equal(
            read_image(path, 224, 3, "crop", (seed, mirrored)),
            np.asarray(F.hflip(theirs) if mirrored else theirs),
        )


@pytest.mark.parametrize("size", [(500, 375), (60, 400)])
def test_random_boxes_are_distributed_as_torchvisions(size):
    n, draws = 3000, random.Random(0)
    ours = np.array([random_box(*size, draws) for _ in range(n)], float)
    image = Image.new("L", size)
    theirs = np.array(
        [
            transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
            for _ in range(n)
        ],
        float,
    )  # top, left, h, w
    assert (
        (ours[:, :2] >= 0).all() and (ours[:, 2] <= size[0]).all() and (ours[:, 3] <= size[1]).all()
    )
    for a, b in (
        (ours[:, 1], theirs[:, 0]),
        (ours[:, 0], theirs[:, 1]),
        (ours[:, 3] - ours[:, 1], theirs[:, 2]),
        (ours[:, 2] - ours[:, 0], theirs[:, 3]),
    ):
        assert stats.ks_2samp(a, b).pvalue > 1e-4
    ratio = (ours[:, 2] - ours[:, 0]) / (ours[:, 3] - ours[:, 1])
    assert ratio.min() > 0.7 and ratio.max() < 1.4


@pytest.mark.parametrize("photograph", [0, 1])
@pytest.mark.parametrize("size", [(1200, 900), (2000, 1500), (4200, 3000)])
def test_a_jpeg_that_the_decoder_shrinks_differs_by_a_level_or_two(tmp_path, size, photograph):
    path = saved(tmp_path / "x.jpg", size, photograph, quality=92)
    plain = Image.open(path).convert("RGB")
    whole = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])(plain)
    for seed, theirs in (
        (None, whole),
        *(
            (s, F.resized_crop(plain, b[1], b[0], b[3] - b[1], b[2] - b[0], [224, 224]))
            for s in range(3)
            for b in [random_box(*size, random.Random(s))]
        ),
    ):
        ours = read_image(path, 224, 3, "crop", None if seed is None else (seed, False))
        off = np.abs(ours.astype(int) - np.asarray(theirs).astype(int))
        assert off.mean() < 1.0 and np.quantile(off, 0.99) <= 5


def test_only_what_is_much_too_large_is_shrunk_by_the_decoder(tmp_path, monkeypatch):
    """So that ImageNet, Places and iNaturalist are read to the bit as with plain PIL code."""
    shrunk = []
    monkeypatch.setattr(
        "PIL.JpegImagePlugin.JpegImageFile.draft", lambda self, mode, size: shrunk.append(size)
    )
    for size in ((800, 600), (500, 375), (1020, 1500)):
        read_image(saved(tmp_path / "x.jpg", size), 224, 3, "crop")
        read_image(tmp_path / "x.jpg", 224, 3, "crop", (0, False))
    assert not shrunk
    read_image(saved(tmp_path / "x.jpg", (1100, 1200)), 224, 3, "crop")
    assert shrunk == [(550, 600)]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(60, 40), (1600, 1200)])
def test_images_are_upright_also_where_the_decoder_shrinks_them(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 255  # white in the upper left of what the sensor saw
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "x.jpg", 16, 3, "crop")[..., 0].astype(int)
    corners = {
        (0, 0): image[:6, :6],
        (0, 1): image[:6, 10:],
        (1, 0): image[10:, :6],
        (1, 1): image[10:, 10:],
    }
    white = {1: (0, 0), 3: (1, 1), 6: (0, 1), 8: (1, 0)}[orientation]
    assert {k for k, v in corners.items() if v.mean() > 200} == {white}


def test_grey_alpha_and_palette_images_are_cropped_as_colour_ones(tmp_path):
    for mode, name in (
        ("L", "x.png"),
        ("P", "x.gif"),
        ("RGBA", "y.png"),
        ("CMYK", "x.jpg"),
        ("1", "z.png"),
    ):
        PHOTOGRAPHS[0].resize((50, 40)).convert(mode).save(tmp_path / name)
        assert read_image(tmp_path / name, 16, 3, "crop", (1, True)).shape == (16, 16, 3)
        assert read_image(tmp_path / name, 16, 1, "crop").shape == (16, 16, 1)
