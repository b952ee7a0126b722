"""A trained run as files that other software reads: safetensors, the reference's checkpoint, ONNX,
and what one must know of them."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from h2t import models
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic, write_json
from h2t.base.readers import read_json
from h2t.exchange.used import chosen, inputs
from h2t.runs import Run
from h2t.train.evaluate import load_model

CLOSE = 1e-3  # largest difference of logits that rounding may make


def export(run: Run | str, step: str = "", out: str | Path = "", *, onnx: bool = False) -> Path:
    """Write a finished step of a run for other software; the images of the run are not needed.

    ``model.safetensors`` holds the tensors under torchvision's names (conv1.weight,
    layer1.0.bn1.weight, ..., fc.weight). ``model.json`` says which network they belong to, the
    class names, and to the letter how images are prepared. A network with a linear classifier is
    also written as ``model.pth.tar``, in the layout of the H2T reference, from which its code and
    ``checkpoint`` here go on; ``model.onnx``, if asked for, takes images (N, C, H, W) in [0, 1],
    not normalised, and gives logits; it is held against the original in another runtime.

    Arguments: ``step`` such as stage1, by default as ``chosen``; ``out`` folder, by default
    ``export`` in the run. Returns: the folder. Raises: ``h2t.Error`` where the step is not
    finished, or what ONNX needs is not installed.
    """
    run = Run(run, create=False)
    used = chosen(run, step)
    model, result, about = load_model(run, used.name, "cpu"), used.result, inputs(run)
    if "last" not in result:
        raise Error(f"{used.name} has no measures yet; make them with `h2t evaluate {run.path}`")
    if onnx:
        _import_onnx()
        if result["model"].startswith("onnx:"):
            network = result["model"].removeprefix("onnx:").partition("@")[0]
            use = "put a linear layer with fc.weight and fc.bias of model.safetensors behind it"
            raise Error(f"{network} is a network in ONNX already; {use}")
    folder = resolve(out) if str(out) else run.path / "export"
    folder.mkdir(parents=True, exist_ok=True)
    plain = {_plain(k): v.contiguous() for k, v in model.state_dict().items()}
    write_atomic(folder / "model.safetensors", save(plain))
    # neither a cosine head nor an encoder is the reference's
    if result["head"] == "linear" and result["model"] in models.BACKBONES:
        content = _checkpoint(plain, result)
        write_atomic(folder / "model.pth.tar", lambda file: torch.save(content, file))
    if onnx:
        _write_onnx(folder / "model.onnx", _Whole(model, about), about)
    record = {
        **{k: result[k] for k in ("model", "head", "num_classes", "weights_sha256")},
        **about,
        "parameters": models.num_parameters(model),
        "scale": getattr(model.head, "scale", None),
        "run": run.path.name,
        "step": used.name,
        "test_accuracy": result["last"],
    }
    write_json(folder / "model.json", record)
    return folder


def _plain(name: str) -> str:
    """A tensor's name as torchvision has it: the head is fc, the backbone has no name."""
    if name.startswith("head."):
        return "fc." + name.removeprefix("head.")
    return name.removeprefix("backbone.")


def _checkpoint(plain: dict[str, torch.Tensor], result: dict[str, Any]) -> dict[str, Any]:
    """The reference's layout, with the names of its parallel models."""
    head = {f"module.{k}": v for k, v in plain.items() if k.startswith("fc.")}
    backbone = {f"module.{k}": v for k, v in plain.items() if not k.startswith("fc.")}
    return {
        "epoch": result.get("epochs", 0),
        "state_dict_model": backbone,
        "state_dict_classifier": head,
        "best_acc1": torch.tensor(result["last"]["all"]),
        "its_ece": result["last"]["ece"],
    }


class _Whole(nn.Module):
    """From images in [0, 1] to logits."""

    def __init__(self, model: nn.Module, about: dict[str, Any]):
        super().__init__()
        self.model = model.to(memory_format=torch.contiguous_format)
        self.register_buffer("mean", torch.tensor(about["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(about["std"]).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images - self.mean) / self.std)


def _import_onnx():
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as e:
        use = "use `uv run --extra onnx h2t export RUN --onnx`"
        raise Error(f"ONNX needs a package that is not installed ({e}); {use}") from None
    return onnx, onnxruntime


def _write_onnx(path: Path, whole: _Whole, about: dict[str, Any]) -> None:
    """Write ONNX for any number of images and hold it against the original."""
    onnx, runtime = _import_onnx()
    shape = 16, about["in_channels"], about["height"], about["width"]
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))  # (N, C, H, W)
    with torch.inference_mode():  # before it is traced, which hides what a network refuses
        wanted = whole.eval()(images)
    names = dict(input_names=["images"], output_names=["logits"])
    sizes = {"images": {0: torch.export.Dim("n")}}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        how = dict(dynamo=True, dynamic_shapes=sizes, verbose=False, **names)
        proto = torch.onnx.export(whole, (images[:2],), **how).model_proto
    onnx.checker.check_model(proto)
    blob = proto.SerializeToString()
    session = runtime.InferenceSession(blob, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    apart = (found - wanted).abs().max().item()
    if not apart <= CLOSE * max(1.0, wanted.abs().max().item()):
        fault = "it was not written. This is a mistake of the export: please report it"
        raise Error(f"{path.name} gives other logits than the run, by {apart:.3g}; {fault}")
    write_atomic(path, blob)


def describe(folder: Path) -> str:
    """What was exported, in a line."""
    about = read_json(folder / "model.json")
    written = ", ".join(f.name for f in sorted(folder.glob("model.*")))
    what = f"{about['model']}, {about['num_classes']} classes, {about['step']}"
    return f"{what} ({about['test_accuracy']['all']:.2f} % test accuracy): {written} in {folder}"
