"""Small runs that tests share."""

from pathlib import Path

import numpy as np

from h2t import Data, Stage1, Stage2, prepare

ROOT = Path(__file__).parent.parent
TINY1 = dict(model="resnet20", stage1_epochs=4, warmup_epochs=1, batch_size=64, crop_padding=1, flip=False, eval_every=2)
TINY2 = dict(stage2_epochs=3, batch_size=64, crop_padding=1, flip=False, eval_every=1)
DIGITS = dict(source="digits", imbalance_factor=20.0, test_fraction=0.4)


def digits_run(path: Path, **data):
    """A prepared digits run. Returns: its directory and its data."""
    return path, prepare(path, Data(**{**DIGITS, **data}), progress=False)


def stage1_config(**changes) -> Stage1:
    return Stage1(**{**TINY1, **changes})


def stage2_config(**changes) -> Stage2:
    return Stage2(**{**TINY2, **changes})


def stop_after(epochs: int):
    """An ``on_epoch`` callback that interrupts training once so many epochs are done."""

    def stop(rows):
        if len(rows) == epochs:
            raise KeyboardInterrupt

    return stop


def same_weights(a, b) -> bool:
    """Whether two steps hold bit-for-bit equal tensors."""
    x, y = a.weights(), b.weights()
    return x.keys() == y.keys() and all(np.array_equal(x[k].numpy(), y[k].numpy()) for k in x)
