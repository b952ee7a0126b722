import numpy as np
import pytest
import torch
import torch.nn.functional as F

from h2t import encoders
from h2t.base.errors import Error
from h2t.encoders import lite0


def slow(x: torch.Tensor, state: dict) -> torch.Tensor:
    """The network as published: batch norm by itself, TensorFlow's padding written out for every
    convolution.
    """

    def convolve(x, weight, stride=1):
        kernel, pads = weight.shape[-1], []
        for size in (x.shape[3], x.shape[2]):
            out = -(-size // stride)
            total = max((out - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(x, name):
        parts = [state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, training=False, eps=1e-3)

    def act(x):
        return x.clamp(0, 6)

    x = act(norm(convolve(x, state["_conv_stem.weight"], 2), "_bn0"))
    k = 0
    for expansion, _, stride, inputs, outputs, repeats in lite0.STAGES:
        for r in range(repeats):
            at, before, s = f"_blocks.{k}.", x, stride if r == 0 else 1
            if expansion > 1:
                x = act(norm(convolve(x, state[f"{at}_expand_conv.weight"]), f"{at}_bn0"))
            x = act(norm(convolve(x, state[f"{at}_depthwise_conv.weight"], s), f"{at}_bn1"))
            x = norm(convolve(x, state[f"{at}_project_conv.weight"]), f"{at}_bn2")
            if s == 1 and (inputs if r == 0 else outputs) == outputs:
                x = x + before
            k += 1
    return act(norm(convolve(x, state["_conv_head.weight"]), "_bn1")).mean((2, 3))


@pytest.mark.parametrize("shape", [(64, 64), (75, 50)])
def test_the_network_is_the_published_one(shape):
    x = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = lite0.build()(x), slow(x, lite0.published())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_it_knows_real_photographs():
    """scikit-learn's two photographs by the published ImageNet classifier: a temple's roof and a
    flower.
    """
    from sklearn.datasets import load_sample_images

    state, encoder = lite0.published(), encoders.load("lite0")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    found = []
    for image in load_sample_images().images:
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        x = torch.tensor(image[top : top + side, left : left + side]).permute(2, 0, 1) / 255
        x = F.interpolate(x[None], size=(224, 224), mode="bilinear", antialias=True)[0]
        with torch.inference_mode():
            z = encoder.network(((x - mean) / std)[None])
        found.append(int((z @ state["_fc.weight"].T + state["_fc.bias"]).argmax()))
    assert found[0] in (663, 668, 698, 832)  # monastery, mosque, palace, stupa
    assert found[1] in (985, 308, 986, 723, 716)  # daisy, bee, ...


def test_what_is_recorded_names_source_and_hash():
    told = encoders.load("lite0").describe()
    assert told["width"] == 1280 and told["licence"] == "Apache-2.0" and len(told["sha256"]) == 64
    assert told["sha256"] == encoders.load("lite0").sha256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "there is no encoder 'nonsense'; name lite0"),
        ("torchvision:nonsense", "torchvision has no network 'nonsense'"),
        ("onnx:nowhere.onnx", "nowhere.onnx does not exist; name an ONNX network as onnx:FILE"),
    ],
)
def test_an_encoder_that_is_not_there_is_named(name, message):
    with pytest.raises(Error, match=message):
        encoders.load(name)


def test_torchvision_without_weights_says_so_or_gives_pooled_features(monkeypatch):
    from torchvision import models

    made = models.get_model
    monkeypatch.setattr(models, "get_model", lambda name, weights: made(name, weights=None))
    found = encoders.load("torchvision:mobilenet_v3_small")
    assert found.size == 224 and found.width == 1024
    monkeypatch.setattr(models, "get_model", lambda name, weights: 1 / 0)
    with pytest.raises(Error, match="weights of encoder torchvision:resnet18 could not be had"):
        encoders.load("torchvision:resnet18")


def test_onnx_gives_what_the_network_gave(tmp_path):
    pytest.importorskip("onnxruntime")
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()
    file, x = tmp_path / "net.onnx", torch.randn(1, 3, 16, 16)
    torch.onnx.export(network, (x,), file, input_names=["x"], output_names=["z"], verbose=False)
    found = encoders.load(f"onnx:{file}")
    batch = torch.randn(3, 3, 16, 16)
    with torch.inference_mode():
        np.testing.assert_allclose(found.network(batch), network(batch), atol=1e-5)
    assert (found.size, found.width) == (16, 5)
    flat = torch.nn.Conv2d(3, 5, 3).eval()
    torch.onnx.export(flat, (x,), file, output_names=["map"], verbose=False)
    with pytest.raises(
        Error, match=r"no single pooled output .* its outputs are map \(1, 5, 14, 14\)"
    ):
        encoders.load(f"onnx:{file}")
    file.write_bytes(b"nothing")
    with pytest.raises(Error, match="net.onnx is damaged .*; name an ONNX network"):
        encoders.load(f"onnx:{file}")
