"""Learning rate as a pure function of the epoch."""

from __future__ import annotations

import math

from h2t.recipes.parameters import Stage1, Stage2


def stage1_lr(epoch: int, config: Stage1) -> float:
    """Linear warm-up lr * e / warm-up epochs, then steps: times each factor after its share of all
    epochs. Or, after the warm-up, a cosine from the full rate towards 0 over what is left.

    Sources: the reference's schedule (after Cao et al. 2019); Loshchilov and Hutter 2017, without
    restarts.
    Arguments: ``epoch`` counted from 1.
    """
    if epoch <= config.warmup_epochs:
        return config.stage1_lr * epoch / config.warmup_epochs
    if config.stage1_schedule == "cosine":
        done = (epoch - 1 - config.warmup_epochs) / (config.stage1_epochs - config.warmup_epochs)
        return config.stage1_lr * 0.5 * (1 + math.cos(math.pi * done))
    factor = 1.0
    for share, f in zip(config.decay_at, config.lr_factors, strict=True):
        if epoch > round(share * config.stage1_epochs):
            factor = f
    return config.stage1_lr * factor


def stage2_lr(epoch: int, config: Stage2, peak: float | None = None) -> float:
    """Cosine from the full rate towards 0, by epoch: lr * (1 + cos(pi * (e - 1) / epochs)) / 2,
    ``epoch`` from 1.

    Arguments: ``peak`` the full rate, by default ``stage2_lr``.
    """
    return (
        (config.stage2_lr if peak is None else peak)
        * 0.5
        * (1 + math.cos(math.pi * (epoch - 1) / config.stage2_epochs))
    )
