"""Encoders of every kind go through a run as lite0 does: both stages, an answer, an export."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

import h2t
from h2t import Data, Error, Stage1, Stage2
from h2t.exchange.export import export
from h2t.exchange.predict import predict
from h2t.train.evaluate import load_model
from tests.train.test_encoded import AUGMENT, pictures


class Small(nn.Module):
    """In place of a library's network: six channels of a convolution, pooled."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, 2)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(self.convolution(x).relu().mean((2, 3)))


def of_torchvision(folder, monkeypatch) -> str:
    monkeypatch.setattr(models, "get_model", lambda *_, **__: seeded())
    return "torchvision:resnet18"


def of_timm(folder, monkeypatch) -> str:
    how = {"input_size": (3, 224, 224), "crop_pct": 0.95, "crop_mode": "center"}
    how |= {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
    data = SimpleNamespace(resolve_model_data_config=lambda network: how)
    made = {"is_model": lambda name: True, "create_model": lambda *_, **__: pooled(), "data": data}
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(**made))
    return "timm:some"


def of_onnx(folder, monkeypatch) -> str:
    pytest.importorskip("onnxruntime")
    how = {"input_names": ["x"], "output_names": ["z"], "verbose": False}
    torch.onnx.export(pooled(), (torch.randn(1, 3, 32, 32),), folder / "net.onnx", **how)
    return f"onnx:{folder / 'net.onnx'}"


def seeded() -> Small:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().eval()


def pooled() -> nn.Module:
    network = seeded()
    network.fc = nn.Identity()
    return network


@pytest.mark.parametrize("kind", [of_torchvision, of_timm, of_onnx])
def test_both_stages_and_an_answer(kind, tmp_path, monkeypatch):
    pictures(tmp_path / "own")
    encoder = kind(tmp_path, monkeypatch)
    where = dict(source="folder", root=str(tmp_path / "own"), profile="natural")
    data = h2t.prepare(tmp_path / "run", Data(**where, encoder=encoder, image_size=32))
    h2t.train_stage1(data, Stage1(**AUGMENT), progress=False)
    h2t.train_stage2(data, Stage2(**AUGMENT, fusion_ratio=0.3), progress=False)
    images = next(data.loader("test", torch.device("cpu")).batches(12))[0]
    for name, result in data.run.results().items():
        logits, labels = data.run.step(name).outputs()
        with torch.inference_mode():
            np.testing.assert_allclose(load_model(data.run, name)(images), logits, atol=1e-3)
        assert result["model"] == f"{encoder}@32"
        assert len(logits) == 12 and result["last"]["all"] >= 100 / 3
    found = predict(data.run, tmp_path / "own" / "test" / "class0", name)
    assert len(found) == 4 and (found["error"] == "").all()


def test_an_encoder_that_is_an_onnx_file_is_not_exported_as_one(tmp_path, monkeypatch):
    pictures(tmp_path / "own")
    where = dict(source="folder", root=str(tmp_path / "own"), profile="natural")
    where["encoder"] = of_onnx(tmp_path, monkeypatch)
    data = h2t.prepare(tmp_path / "run", Data(**where))
    h2t.train_stage1(data, Stage1(**AUGMENT), progress=False)
    folder = export(data.run)
    assert (folder / "model.safetensors").exists()
    with pytest.raises(Error, match=r"net\.onnx is a network in ONNX already"):
        export(data.run, out=tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()
