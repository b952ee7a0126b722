"""Trained networks of others: files that come from anywhere."""

from pathlib import Path

import numpy as np
import torch

from h2t import models
from h2t.base.errors import Error
from h2t.exchange.reference import read_checkpoint
from tests.fuzz.damage import kind

FILES = ["h2t.pth.tar", "plain.pth.tar", "w.safetensors"]


def make(folder: Path) -> None:
    from safetensors.torch import save_file

    network = models.build("resnet20", 3, in_channels=1)
    state = {k: v.contiguous() for k, v in network.backbone.state_dict().items()}
    head = {f"fc.{k}": v.contiguous() for k, v in network.head.state_dict().items()}
    parts = {"state_dict_model": state, "state_dict_classifier": head}
    beside = {"epoch": 1, "best_acc1": torch.tensor(1.0), "its_ece": np.float64(1)}
    torch.save({**parts, **beside}, folder / "h2t.pth.tar")
    torch.save({"state_dict": {**state, **head}, "epoch": 1}, folder / "plain.pth.tar")
    save_file({**state, **head}, folder / "w.safetensors")


def use(folder: Path) -> str:
    said = []
    for name in FILES:
        try:
            read_checkpoint(folder / name)
            backbone = models.build("resnet20", 2, in_channels=1).backbone
            models.load_pretrained(backbone, "resnet20", str(folder / name))
        except Error as e:
            said.append(str(e))
            assert name in said[-1] and len(said[-1]) < 1000, said[-1]
    return " | ".join(said)


run = kind(make, use, FILES)
