"""An encoder of torchvision or timm sees a photograph as that library prepares it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from torchvision import models

from h2t import Data, Error, encoders, prepare
from h2t.data.images import fitting, read_image
from h2t.data.sources import load
from h2t.exchange.used import inputs


class Tiny(nn.Module):
    """In place of a network whose weights are not here: its images are what matters."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "set" / "a" / "1.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(load_sample_images().images[1]).save(path)  # 640 x 427
    return path


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_torchvisions_images_are_its_transforms_to_the_bit(name, photograph, monkeypatch):
    monkeypatch.setattr(models, "get_model", lambda *_, **__: Tiny())
    found, how = encoders.load(f"torchvision:{name}"), models.get_model_weights(name).DEFAULT
    theirs = how.transforms()(Image.open(photograph))
    ours = torch.tensor(read_image(photograph, found.size, 3, found.fit)).permute(2, 0, 1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (found.mean, found.std))
    assert torch.allclose((ours / 255 - mean) / std, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("crop", "mode", "fit", "short"),
    [
        (0.875, "center", "crop 0.875 bicubic", 256),
        (0.9, "center", "crop 0.9032 bicubic", 248),
        (1.0, "center", "crop 1 bicubic", 224),
        (0.9, "squash", "stretch bicubic", 224),
    ],
)
def test_timms_crop_is_rounded_as_timm_does(crop, mode, fit, short, monkeypatch):
    how = {"input_size": (3, 224, 224), "crop_pct": crop, "crop_mode": mode}
    how |= {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
    library = SimpleNamespace(
        is_model=lambda name: True,
        create_model=lambda *_, **__: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        data=SimpleNamespace(resolve_model_data_config=lambda network: how),
    )
    monkeypatch.setitem(sys.modules, "timm", library)
    found = encoders.load("timm:some")
    assert (found.fit, found.width) == (fit, 3)
    assert round(224 / (fitting(found.fit)[0] or 1)) == short
    how["input_size"] = (3, 320, 224)
    with pytest.raises(Error, match="timm:some sees 224 x 320 pixels; take an encoder of square"):
        encoders.load("timm:some")


def test_a_run_records_what_its_encoder_wants_and_says_it(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "get_model", lambda *_, **__: Tiny())
    for k in range(6):
        path = photograph.parent.parent / "ab"[k % 2] / f"more{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.open(photograph).rotate(k).save(path)
    config = {"source": "folder", "root": str(tmp_path / "set"), "profile": "natural"}
    config |= {"encoder": "torchvision:efficientnet_b3"}  # 300 of 320 pixels, bicubic
    data = prepare(tmp_path / "run", Data(**config), progress=False)
    assert data.run.params["image_fit"] == "crop 0.9375 bicubic"
    told = inputs(data.run)["preprocessing"][2]
    assert "shorter side to 320" in told and "300 x 300" in told and "BICUBIC" in told
    again = prepare(tmp_path / "run", Data(**config), progress=False)
    assert np.array_equal(data.train.images[0], again.train.images[0])
    other = prepare(
        tmp_path / "other", Data(**config, image_fit="stretch bilinear"), progress=False
    )
    assert not np.array_equal(data.train.images[0], other.train.images[0])
    assert other.run.params["image_fit"] == "stretch"
    with pytest.raises(Error, match="image_fit = 'crop 0.9375 bicubic', not 'stretch'"):
        prepare(tmp_path / "run", Data(**config, image_fit="stretch bilinear"), progress=False)


@pytest.mark.parametrize("fit", ["pad", "crop 2", "crop 0.01", "crop 0.9 best"])
def test_a_fit_that_is_none_is_named(fit):
    with pytest.raises(Error, match=f"image_fit is '{fit}'; choose stretch, crop, or"):
        fitting(fit)
    with pytest.raises(Error, match=f"image_fit is '{fit}'"):
        Data(image_fit=fit)


@pytest.mark.parametrize("fit", ["crop", "stretch bicubic"])
def test_arrays_are_resized_one_way_alone_and_another_is_refused(fit):
    with pytest.raises(Error, match="image_fit are for image files, which source 'digits'"):
        load("digits", image_size=16, image_fit=fit)
    assert load("digits", image_fit="stretch bilinear").train.images.shape[1:] == (8, 8, 1)
