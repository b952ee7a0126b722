"""A trained run as files that other software reads.

safetensors, a plain state dict, the reference's checkpoint, ONNX, and what one must know of them.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from h2t import models
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic, write_json
from h2t.base.readers import read_json
from h2t.exchange.reference import read_checkpoint
from h2t.exchange.used import chosen, inputs
from h2t.runs import Run
from h2t.train.evaluate import load_model

IMAGES = 16  # random ones, on which every file is held against the original
CLOSE = 1e-3  # largest difference of logits that rounding may make
REPORT = "it was not written. This is a mistake of the export: please report it"


def export(run: Run | str, step: str = "", out: str | Path = "", *, onnx: bool = False) -> Path:
    """Write a finished step of a run for other software; the images of the run are not needed.

    ``model.safetensors`` and ``model.pt`` hold the tensors under torchvision's names (conv1.weight,
    layer1.0.bn1.weight, ..., fc.weight). ``model.json`` says which network they belong to, the
    class names, and to the letter how images are prepared. A network with a linear classifier is
    also written as ``model.pth.tar``, in the layout of the H2T reference, from which its code and
    ``checkpoint`` here go on; ``model.onnx``, if asked for, takes images (N, C, H, W) in [0, 1],
    not normalised, and gives logits. Each file is read back and held against the original.

    Arguments: ``step`` such as stage1, by default as ``chosen``; ``out`` folder, by default
    ``export`` in the run. Returns: the folder. Raises: ``h2t.Error`` where the step is not
    finished, or what ONNX needs is not installed.
    """
    run = Run(run, create=False)
    used = chosen(run, step)
    model, result, about = load_model(run, used.name, "cpu"), used.result, inputs(run)
    if onnx:
        _import_onnx()
    mean, std = (torch.tensor(about[k]).view(1, -1, 1, 1) for k in ("mean", "std"))
    shape = IMAGES, about["in_channels"], about["height"], about["width"]
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))  # (N, C, H, W)
    with torch.inference_mode():
        logits = model((images - mean) / std)
    folder = resolve(out) if str(out) else run.path / "export"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_plain(k): v.contiguous() for k, v in model.state_dict().items()}
    blobs = {"model.safetensors": save(tensors), "model.pt": _saved(tensors)}
    read_back = {
        "model.safetensors": load(blobs["model.safetensors"]),
        "model.pt": torch.load(io.BytesIO(blobs["model.pt"]), weights_only=True),
    }
    kind = {k: result[k] for k in ("head", "in_channels")}
    for file, again in read_back.items():
        copy = models.build(result["model"], result["num_classes"], **kind).eval()
        copy.load_state_dict({k: again[_plain(k)] for k in copy.state_dict()})
        with torch.inference_mode():
            _same(copy((images - mean) / std), logits, file)
        write_atomic(folder / file, blobs[file])
    linear = {k for k in tensors if k.startswith("fc.")} == {"fc.weight", "fc.bias"}
    if linear and result["model"] in models.BACKBONES:  # an encoder is not the reference's
        _write_checkpoint(folder / "model.pth.tar", model, result)
    if onnx:
        _write_onnx(folder / "model.onnx", _Whole(model, mean, std), images, logits)
    record = {
        **{k: result[k] for k in ("model", "head", "num_classes")},
        **about,
        "parameters": models.num_parameters(model),
        "scale": getattr(model.head, "scale", None),
        "run": run.path.name,
        "step": used.name,
        "weights_sha256": result["weights_sha256"],
        "test_accuracy": result["last"],
    }
    write_json(folder / "model.json", record)
    return folder


def _plain(name: str) -> str:
    """A tensor's name as torchvision has it: the head is fc, the backbone has no name."""
    if name.startswith("head."):
        return "fc." + name.removeprefix("head.")
    return name.removeprefix("backbone.")


def _saved(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _write_checkpoint(path: Path, model: nn.Module, result: dict) -> None:
    """Write the reference's layout, with the names of its parallel models, and read it back."""
    state, content = model.state_dict(), {"epoch": result.get("epochs", 0)}
    for part, own in (("state_dict_model", "backbone."), ("state_dict_classifier", "head.")):
        named = {k: v.contiguous() for k, v in state.items() if k.startswith(own)}
        content[part] = {f"module.{_plain(k)}": v for k, v in named.items()}
    content["best_acc1"] = torch.tensor(result["last"]["all"])
    content["its_ece"] = result["last"]["ece"]
    write_atomic(path, _saved(content))
    again = read_checkpoint(path)["weights"]
    if again.keys() != state.keys() or not all(torch.equal(again[k], state[k]) for k in state):
        path.unlink()
        raise Error(f"{path.name} reads back as other weights than the run's; {REPORT}")


class _Whole(nn.Module):
    """From images in [0, 1] to logits."""

    def __init__(self, model: nn.Module, mean: torch.Tensor, std: torch.Tensor):
        super().__init__()
        self.model = model.to(memory_format=torch.contiguous_format)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images - self.mean) / self.std)


def _import_onnx():
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as e:
        raise Error(
            f"ONNX needs a package that is not installed ({e}); use "
            "`uv run --extra onnx h2t export RUN --onnx`"
        ) from None
    return onnx, onnxruntime


def _write_onnx(path: Path, whole: _Whole, images: torch.Tensor, logits: torch.Tensor) -> None:
    """Write ONNX for any number of images and hold it against the original in another runtime."""
    onnx, runtime = _import_onnx()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            whole.eval(),
            (images[:2],),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("n")}},
            verbose=False,
        )
    proto = program.model_proto
    onnx.checker.check_model(proto)
    blob = proto.SerializeToString()
    session = runtime.InferenceSession(blob, providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": images.numpy()})[0]
    _same(torch.from_numpy(found), logits, path.name)
    write_atomic(path, blob)


def _same(found: torch.Tensor, wanted: torch.Tensor, file: str) -> None:
    apart = (found - wanted).abs().max().item()
    if not apart <= CLOSE * max(1.0, wanted.abs().max().item()):
        raise Error(f"{file} gives other logits than the run, by up to {apart:.3g}; {REPORT}")


def describe(folder: Path) -> str:
    """What was exported, in a line."""
    about = read_json(folder / "model.json")
    written = ", ".join(f.name for f in sorted(folder.glob("model.*")))
    what = f"{about['model']}, {about['num_classes']} classes, {about['step']}"
    return f"{what} ({about['test_accuracy']['all']:.2f} % test accuracy): {written} in {folder}"
