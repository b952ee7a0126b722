"""An ONNX file as an encoder: any network exported with a pooled output, run by onnxruntime."""

import torch
from torch import nn

from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.base.readers import reading, regular, sha256
from h2t.encoders import Encoder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, where a file does not say


class Session(nn.Module):
    """An onnxruntime session as a module: images (B, 3, H, W) to its output ``output`` (B, D);
    ``one`` where it takes one image at a time.
    """

    def __init__(self, session, output: str, one: bool):
        super().__init__()
        self.session, self.input = session, session.get_inputs()[0].name
        self.output, self.one = output, one

    def __deepcopy__(self, memo):  # nothing of it changes, and a session has no copy
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.split(1) if self.one else (x,)
        run = self.session.run
        out = [run([self.output], {self.input: p.float().cpu().numpy()})[0] for p in parts]
        return torch.cat([torch.from_numpy(o) for o in out])


def load(name: str) -> Encoder:
    """``onnx:FILE`` or ``onnx:FILE#OUTPUT``."""
    try:
        import onnxruntime
    except ImportError:
        raise Error("encoder onnx needs onnxruntime: `pip install onnxruntime`") from None
    path, _, wanted = name.partition("#")
    file = resolve(path)
    with reading(file, "name an ONNX network as onnx:FILE"):
        regular(file)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    shapes = {o.name: tuple(o.shape) for o in session.get_outputs()}
    pooled = [n for n, shape in shapes.items() if len(shape) == 2 and wanted in ("", n)]
    if len(pooled) != 1:
        listed = ", ".join(f"{n} {shape}" for n, shape in shapes.items())
        raise Error(
            f"{path} has no single pooled output (B, D) to take; its outputs are {listed}; "
            "name one as onnx:FILE#OUTPUT"
        )
    takes = session.get_inputs()[0].shape
    if len(takes) != 4 or takes[1] != 3:
        raise Error(f"{path} takes inputs of {takes}, not images (B, 3, H, W)")
    fixed = isinstance(takes[2], int)
    size = takes[2] if fixed else 224
    network = Session(session, pooled[0], one=takes[0] == 1)
    width = network(torch.zeros(1, 3, size, size)).shape[1]
    about = MEAN, STD, file.name, "", sha256(file), fixed
    return Encoder(f"onnx:{file.name}", network, width, size, "stretch", *about)
