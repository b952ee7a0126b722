"""Images a second of lite0 as a run encodes with it, beside timm's own network and onnxruntime."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
import warnings

import torch

from h2t import models
from h2t.base.progress import bar
from h2t.train.cached.encode import BATCH
from h2t.train.device import autocast, precision_of, to_device
from tests.bench.harness import Rows

SIZE, IMAGES, ROUNDS = 224, 128, 5


def bench_encoders(found: Rows, *, device, images: int = IMAGES, rounds: int = ROUNDS) -> None:
    """Time each way to encode ``images`` of 224 pixels a side, in turns; the median of ``rounds``.

    What is not installed is left out. The run's own way is to be as fast as the fastest other one.
    """
    x = torch.randn(images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    ways = {k: w for k, make in WAYS.items() if (w := make(device)) is not None}
    seconds = {name: [] for name in ways}
    with bar(total=len(ways) * (rounds + 1), desc="encoders", unit="way") as progress:
        for turn in range(rounds + 1):  # the first warms up
            for name, encode in ways.items():
                start = time.perf_counter()
                for part in x.split(BATCH):
                    encode(part)
                if turn:
                    seconds[name].append(time.perf_counter() - start)
                progress.update()
    speed = {name: images / statistics.median(s) for name, s in seconds.items()}
    for name, rate in speed.items():
        found.add(way=name, images_per_s=round(rate, 1), ratio=round(rate / speed["h2t"], 3))
    others = [rate for name, rate in speed.items() if name != "h2t" and "resnet" not in name]
    found.judge(
        "h2t against the fastest other way, times", speed["h2t"] / max(others), 1.0, least=True
    )


def _in_torch(network, device, precision: str):
    network = to_device(network, device).eval()

    def encode(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), autocast(device, precision):
            return network(x.to(device)).float().cpu()

    return encode


def _own(precision: str):
    def make(device):
        if precision == "fp32" and precision_of(device, "auto") == "fp32":
            return None  # the same as the run's own way
        return _in_torch(models.build(f"lite0@{SIZE}", 2).backbone, device, precision)

    return make


def _timm(precision: str):
    def make(device):
        try:
            import timm
        except ImportError:
            return None
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        return _in_torch(network, device, precision)

    return make


def _onnx(device):
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        return None
    if device.type != "cpu":
        return None
    network, buffer = models.build(f"lite0@{SIZE}", 2).backbone.network, io.BytesIO()
    images = torch.zeros(2, 3, SIZE, SIZE)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("n")},)
        program = torch.onnx.export(network, (images,), dynamo=True, dynamic_shapes=shapes)
        program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x.numpy()})[0]


def _resnet50(device):
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.fc = torch.nn.Identity()
    return _in_torch(network, device, "auto")


WAYS = {
    "h2t": _own("auto"),
    "h2t, fp32": _own("fp32"),
    "timm, as it is": _timm("fp32"),
    "timm, autocast": _timm("auto"),
    "onnxruntime": _onnx,
    "resnet50 of torchvision": _resnet50,
}
