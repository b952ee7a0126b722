"""features:FILE, which another program computed: nothing is left to encode."""

import zipfile

from numpy.lib import format as npy
from torch import nn

from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.base.readers import reading, sha256
from h2t.encoders import Encoder


class Elsewhere(nn.Module):
    """In place of the network that computed the features, which is not here: it sees no images."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x):
        raise Error(
            f"the features of {self.name} were computed elsewhere, so that no image can be looked "
            "at here; a step's classifier is head.weight and head.bias of its weights.safetensors"
        )


def load(name: str) -> Encoder:
    """The file as an encoder of its features' width, without a network.

    Raises: ``h2t.Error`` for a file that is not there or holds no train_features.
    """
    file = resolve(name)
    with reading(file, "name an npz file with train_features (N, D)"):
        with zipfile.ZipFile(file) as archive, archive.open("train_features.npy") as f:
            old = npy.read_magic(f) == (1, 0)
            read = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
            shape = read(f)[0]  # without the numbers, which may be many
        if len(shape) != 2:
            raise ValueError(f"train_features has shape {shape}")
    colours = (0.0,) * 3, (1.0,) * 3
    about = file.name, "", sha256(file), True
    network = Elsewhere(file.name)
    return Encoder(f"features:{name}", network, shape[1], 8, "stretch", *colours, *about)
