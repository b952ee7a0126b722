"""An ONNX file as an encoder: any network that was exported with a pooled output, run by
onnxruntime.
"""

from __future__ import annotations

import torch
from torch import nn

from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.base.readers import sha256
from h2t.encoders import Encoder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, where a file does not say


class Session(nn.Module):
    """An onnxruntime session as a module: images (B, 3, H, W) to its output ``output`` (B, D)."""

    def __init__(self, session, output: str, fixed: bool):
        super().__init__()
        self.session, self.input = session, session.get_inputs()[0].name
        self.output, self.fixed = output, fixed

    def __deepcopy__(self, memo) -> Session:  # nothing of it changes, and a session has no copy
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.split(1) if self.fixed else (x,)  # exported for one image at a time
        run = self.session.run
        out = [run([self.output], {self.input: p.float().cpu().numpy()})[0] for p in parts]
        return torch.cat([torch.from_numpy(o) for o in out])


def load(name: str) -> Encoder:
    """``onnx:FILE`` or ``onnx:FILE#OUTPUT``. Raises ``h2t.Error`` for a file that is none, or
    without a pooled output.
    """
    try:
        import onnxruntime
    except ImportError:
        raise Error("encoder onnx needs onnxruntime: `pip install onnxruntime`") from None
    path, _, wanted = name.partition("#")
    file = resolve(path)
    if not file.is_file():
        raise Error(f"there is no ONNX file {path}; name it as onnx:FILE")
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as e:
        why = " ".join(str(e).split())[:200]
        raise Error(f"{path} cannot be read as an ONNX network: {why}") from None
    shapes = {o.name: o.shape for o in session.get_outputs()}
    pooled = [n for n, shape in shapes.items() if len(shape) == 2]
    output = wanted or (pooled[0] if len(pooled) == 1 else "")
    listed = ", ".join(f"{n} {tuple(s)}" for n, s in shapes.items())
    if output not in shapes or len(shapes[output]) != 2:
        raise Error(
            f"{path} has no single pooled output (B, D) to take; its outputs are {listed}; "
            "name one as onnx:FILE#OUTPUT"
        )
    batch, channels, height, _ = [*session.get_inputs()[0].shape, *[None] * 4][:4]
    if channels != 3:
        raise Error(
            f"{path} takes inputs of {session.get_inputs()[0].shape}, not images (B, 3, H, W)"
        )
    size = height if isinstance(height, int) else 224
    network = Session(session, output, fixed=batch == 1)
    width = network(torch.zeros(1, 3, size, size)).shape[1]
    about = MEAN, STD, file.name, "", sha256(file), isinstance(height, int)
    return Encoder(f"onnx:{file.name}", network, width, size, "stretch", *about)
