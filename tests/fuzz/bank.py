"""The files of a feature bank, and those of its run that say which bank it is."""

from pathlib import Path

import torch

from h2t.base.errors import Error
from h2t.recipes.parameters import Stage2
from h2t.runs import Run
from h2t.train.cached.bank import build_bank, open_bank
from h2t.train.cached.fit import fit
from h2t.train.cached.steps import save_variant
from h2t.train.evaluate import load_model
from tests.fuzz import runs
from tests.fuzz.damage import kind

CONFIG = Stage2(stage2_epochs=1, batch_size=12, precision="fp32")
FILES = ["run/params.yaml", "run/split.json", "run/stage1/result.json"]


def make(folder: Path) -> None:
    runs.make(folder)
    bank = build_bank(str(folder / "run"), CONFIG, 2, device="cpu", progress=False)
    place = bank.folder.relative_to(folder).as_posix()
    FILES.extend(f"{place}/{file.name}" for file in bank.folder.iterdir())
    FILES.extend([f"{place}/bank.json", f"{place}/backbone.safetensors"] * 3)


def use(folder: Path) -> str:
    """Open it, train on it and save that, as the explorer does; and use what was saved."""
    try:
        run = Run(folder / "run", create=False)
        bank = open_bank(run, CONFIG, 2)
        fits = fit(bank, [0.3], [0], CONFIG, progress=False)
        save_variant(run, bank, (fits.weight[0, 0], fits.bias[0, 0]), CONFIG, "tried")
        load_model(run, "stage2-tried", "cpu")(torch.zeros(1, 1, 8, 8))
    except Error as e:
        assert len(str(e)) < 1000 and "\n" not in str(e), e
        return str(e)
    return ""


run = kind(make, use, FILES)
