"""Reading one image as the field's transforms do."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images
from torchvision import transforms
from torchvision.transforms import functional as F

from h2t.data.images import random_box, read_image

BILINEAR = Image.Resampling.BILINEAR
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
@pytest.mark.parametrize("size", [(1200, 900), (2001, 1499), (4203, 3001), (1037, 2500)])
def test_a_jpeg_that_the_decoder_shrinks_differs_by_a_level_or_two(tmp_path, size, photograph):
    """By the true factor, whatever the decoder rounds its size to: nothing is displaced."""
    path = saved(tmp_path / "x.jpg", size, photograph, quality=92)
    plain = Image.open(path).convert("RGB")
    middle = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    pairs = [(read_image(path, 224, 3, "crop"), middle(plain))]
    for side in (32, 64, 224):
        pairs.append((read_image(path, side, 3), plain.resize((side, side), BILINEAR)))
    for s in range(3):
        left, top, right, bottom = random_box(*size, random.Random(s))
        theirs = F.resized_crop(plain, top, left, bottom - top, right - left, [224, 224])
        pairs.append((read_image(path, 224, 3, "crop", (s, False)), theirs))
    for ours, theirs in pairs:
        off = np.abs(ours.astype(int) - np.asarray(theirs).astype(int))
        assert off.mean() < 1.0 and np.quantile(off, 0.999) <= 10 and off.max() <= 20


def test_a_network_gives_large_jpegs_the_labels_that_it_gives_after_plain_pil(tmp_path):
    """By a random convolutional network, whose classes lie close together."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 5, 2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 5, 2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(10),
    )
    generator, r = torch.Generator().manual_seed(0), np.random.default_rng(0)
    pairs = []
    for k in range(80):
        left, top = r.integers(0, 340), r.integers(0, 130)
        part = PHOTOGRAPHS[k % 2].crop((left, top, left + 300, top + 297))
        size = (int(r.integers(700, 1900)), int(r.integers(700, 1500)))
        part.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "x.jpg", quality=90)
        plain = Image.open(tmp_path / "x.jpg").resize((32, 32), BILINEAR)
        pairs.append((read_image(tmp_path / "x.jpg", 32, 3), np.asarray(plain)))
    ours, theirs = (np.stack(side).astype(np.float32) / 255 for side in zip(*pairs, strict=True))
    ours, theirs = (
        torch.from_numpy(x - theirs.mean(0)).permute(0, 3, 1, 2) for x in (ours, theirs)
    )
    net(ours[:1])
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1, generator=generator)
    a, b = (net(x) for x in (ours, theirs))
    a, b = ((y - b.mean(0)).argmax(1) for y in (a, b))
    assert len(b.unique()) > 5 and (a == b).float().mean() >= 0.98


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
