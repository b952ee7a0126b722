"""Small runs that tests share, and processes that train them and are killed."""

import multiprocessing as mp
import os
import signal
from pathlib import Path

import numpy as np

from h2t import Data, Stage1, Stage2, prepare, train_stage1, train_stage2
from h2t.study.sweep.job import PRELOAD
from h2t.train.cached.bank import build_bank
from h2t.train.cached.fit import fit
from h2t.train.cached.steps import save_variant

ROOT = Path(__file__).parent.parent
# fp32: the references that they are held against are, and a processor with native bf16 would train
# in that
TINY1 = dict(
    precision="fp32",
    model="resnet20",
    stage1_epochs=4,
    warmup_epochs=1,
    batch_size=64,
    crop_padding=1,
    flip=False,
    eval_every=2,
)
TINY2 = dict(
    precision="fp32", stage2_epochs=3, batch_size=64, crop_padding=1, flip=False, eval_every=1
)
DIGITS = dict(source="digits", imbalance_factor=20.0, test_fraction=0.4)


def digits_run(path: Path, **data):
    """A prepared digits run. Returns: its directory and its data."""
    return path, prepare(path, Data(**{**DIGITS, **data}), progress=False)


def stage1_config(**changes) -> Stage1:
    return Stage1(**{**TINY1, **changes})


def stage2_config(**changes) -> Stage2:
    return Stage2(**{**TINY2, **changes})


def train_cached(run, config: Stage2, variant: str = "cached", *, views: int = 2, **how):
    """The cached stage 2 of one recipe, saved as a step of the run. Returns: its result."""
    bank = build_bank(run, config, views, progress=False)
    fits = fit(bank, [config.fusion_ratio], [config.seed], config)
    classifier = fits.weight[0, 0], fits.bias[0, 0]
    return save_variant(run, bank, classifier, config, variant, **how)


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


def processes():
    """A context whose processes are forked from one that has imported torch, as the jobs of a sweep
    are: they begin at once.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    return context


def train_and_tell(kind: str, run: Path, pipe, wait: bool) -> None:
    """Train a stage and send each epoch's number through ``pipe``; with ``wait`` go no further than
    the first.
    """

    def say(rows):
        pipe.send(rows[-1]["epoch"])
        if wait:
            pipe.recv()  # nothing comes: killed here, whatever the machine is busy with

    if kind == "stage1":
        train_stage1(run, stage1_config(), progress=False, on_epoch=say)
    else:
        train_stage2(run, stage2_config(), "h2t", progress=False, on_epoch=say)


def die_in_the_third_checkpoint(run: Path, moment: str) -> None:
    """Train stage 1 and be killed while the third checkpoint is written: half way through
    ("torch.save") or before it gets its name ("os.replace").
    """
    import torch

    module, function = {"torch.save": (torch, "save"), "os.replace": (os, "replace")}[moment]
    real, calls = getattr(module, function), [0]

    def dying(*arguments, **how):
        if module is torch or "checkpoint" in str(arguments):
            calls[0] += 1
            if calls[0] == 3:
                if module is torch:
                    arguments[1].write(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **how)

    setattr(module, function, dying)
    train_stage1(run, stage1_config(), progress=False)


def execute_inline(run: Path, books: list[Path], parameters: dict) -> None:
    """Execute notebooks with the engine of the jobs of a sweep, which may have this process to
    themselves.
    """
    from h2t import Run
    from h2t.lab.books import execute as notebooks

    for book in books:
        notebooks.execute(Run(run), book, parameters)
