"""A trained run as files that other software reads: safetensors, a plain state dict, the
reference's checkpoint, ONNX.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import nn

from h2t import models
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic, write_json
from h2t.exchange.reference import read_checkpoint
from h2t.runs import Run
from h2t.train.device import threads_for, to_device
from h2t.train.evaluate import load_model
from h2t.train.rundata import dataset

IMAGES = 64  # test images on which every file is held against the original
CLOSE = 1e-3  # largest difference of logits that rounding may make


def export(run: Run | str, step: str = "", out: str | Path = "", *, onnx: bool = False) -> Path:
    """Write a finished step of a run as ``model.safetensors``, ``model.pt`` and ``model.json``, and
    ``model.onnx`` if asked for.

    The tensors have torchvision's names (conv1.weight, layer1.0.bn1.weight, ..., fc.weight).
    model.json says which network they belong to, the class names, and how images are prepared. A
    network with a linear classifier is also written as ``model.pth.tar``, in the layout of the H2T
    reference, from which its code and ``checkpoint`` here go on. ONNX takes images (N, C, H, W) in
    [0, 1], not normalised, and gives logits. Each file is read back and held against the original
    on test images before it is kept.

    Arguments: ``step`` such as stage1, by default stage2-h2t where it is finished; ``out`` folder,
    by default ``export`` in the run.
    Returns: the folder. Raises: ``h2t.Error`` where the step is not finished, or what ONNX needs is
    not installed.
    """
    run = Run(run, create=False)
    name = step or ("stage2-h2t" if run.step("stage2-h2t").done else "stage1")
    model, result = load_model(run, name, "cpu"), run.step(name).result
    if onnx:
        _import_onnx()
    data = dataset(run, progress=False)
    mean, std, test = data.mean, data.std, data.loader("test", "cpu")
    with torch.inference_mode(), threads_for(test, IMAGES):
        images = next(iter(test.batches(IMAGES)))[0].clone()
        logits = model(images)
    folder = resolve(out) if str(out) else run.path / "export"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_plain(k): v.contiguous() for k, v in model.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    blobs = {"model.safetensors": save(tensors), "model.pt": buffer.getvalue()}
    read_back = {
        "model.safetensors": load(blobs["model.safetensors"]),
        "model.pt": torch.load(io.BytesIO(blobs["model.pt"]), weights_only=True),
    }
    for file, again in read_back.items():
        copy = models.build(
            result["model"],
            result["num_classes"],
            head=result["head"],
            in_channels=result["in_channels"],
        )
        copy.load_state_dict({k: again[_plain(k)] for k in copy.state_dict()})
        with torch.inference_mode():
            _same(to_device(copy, torch.device("cpu")).eval()(images), logits, file)
        write_atomic(folder / file, blobs[file])
    if result["head"] == "linear" and {k for k in tensors if k.startswith("fc.")} == {
        "fc.weight",
        "fc.bias",
    }:
        _write_checkpoint(folder / "model.pth.tar", model, result)
    height, width = data.train.images.shape[1:3]
    write_json(
        folder / "model.json",
        {
            "model": result["model"],
            "head": result["head"],
            "num_classes": result["num_classes"],
            "classes": list(data.classes),
            "in_channels": result["in_channels"],
            "height": height,
            "width": width,
            "image_fit": run.params.get("image_fit", "stretch"),
            "mean": mean,
            "std": std,
            "parameters": models.num_parameters(model),
            "scale": getattr(model.head, "scale", None),
            "run": run.path.name,
            "step": name,
            "weights_sha256": result["weights_sha256"],
            "test_accuracy": result["last"],
        },
    )
    if onnx:
        _write_onnx(
            folder / "model.onnx", model, images, torch.tensor(mean), torch.tensor(std), logits
        )
    return folder


def _plain(name: str) -> str:
    """A tensor's name as torchvision has it: the head is fc, the backbone has no name of its own."""
    return (
        "fc." + name.removeprefix("head.")
        if name.startswith("head.")
        else name.removeprefix("backbone.")
    )


def _write_checkpoint(path: Path, model: nn.Module, result: dict) -> None:
    """Write the reference's layout, with the names of its parallel models, and hold it against the
    original.
    """
    parts = {"state_dict_model": "backbone.", "state_dict_classifier": "head."}
    state = {
        part: {
            f"module.{_plain(k)}": v.contiguous()
            for k, v in model.state_dict().items()
            if k.startswith(own)
        }
        for part, own in parts.items()
    }
    buffer = io.BytesIO()
    torch.save(
        {
            "epoch": result.get("epochs", 0),
            **state,
            "best_acc1": torch.tensor(result["last"]["all"]),
            "its_ece": result["last"]["ece"],
        },
        buffer,
    )
    write_atomic(path, buffer.getvalue())
    again = read_checkpoint(path)["weights"]
    if again.keys() != model.state_dict().keys() or not all(
        torch.equal(again[k], v) for k, v in model.state_dict().items()
    ):
        path.unlink()
        raise Error(
            f"{path.name} reads back as other weights than the run's; it was not written. This is a mistake of the export: please report it"
        )


class _Whole(nn.Module):
    """From images in [0, 1] to logits."""

    def __init__(self, model: nn.Module, mean: torch.Tensor, std: torch.Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images - self.mean) / self.std)


def _import_onnx():
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as e:
        raise Error(
            f"ONNX needs a package that is not installed ({e}); use `uv run --extra onnx h2t export RUN --onnx`"
        ) from None
    return onnx, onnxruntime


def _write_onnx(
    path: Path,
    model: nn.Module,
    images: torch.Tensor,
    mean: torch.Tensor,
    std: torch.Tensor,
    logits: torch.Tensor,
) -> None:
    """Write ONNX for any number of images and hold it against the original with another runtime."""
    import contextlib
    import warnings

    onnx, runtime = _import_onnx()
    whole = _Whole(model.to(memory_format=torch.contiguous_format), mean, std).eval()
    raw = (images * whole.std + whole.mean).contiguous()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            whole,
            (raw[:2],),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    proto = program.model_proto
    onnx.checker.check_model(proto)
    blob = proto.SerializeToString()
    found = runtime.InferenceSession(blob, providers=["CPUExecutionProvider"]).run(
        None, {"images": raw.numpy()}
    )[0]
    _same(torch.from_numpy(found), logits, path.name)
    write_atomic(path, blob)


def _same(found: torch.Tensor, wanted: torch.Tensor, file: str) -> None:
    apart = (found - wanted).abs().max().item()
    if not apart <= CLOSE * max(1.0, wanted.abs().max().item()):
        raise Error(
            f"{file} gives other logits than the run, by up to {apart:.3g}; it was not written. This is a mistake of the export: please report it"
        )


def describe(folder: Path) -> str:
    """What was exported, in a line."""
    about = json.loads((folder / "model.json").read_text())
    files = ", ".join(f.name for f in sorted(folder.glob("model.*")))
    return f"{about['model']}, {about['num_classes']} classes, {about['step']} ({about['test_accuracy']['all']:.2f} % test accuracy): {files} in {folder}"
