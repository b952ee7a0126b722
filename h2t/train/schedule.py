"""Learning rate as a pure function of the epoch."""

from __future__ import annotations

import math

from h2t.recipes.parameters import Stage1, Stage2


def stage1_lr(epoch: int, config: Stage1) -> float:
    """Linear warm-up lr * e / warm-up epochs, ``epoch`` e from 1; then steps, each factor after its
    share of all epochs, or a cosine towards 0.

    Sources: the reference (after Cao et al. 2019); Loshchilov and Hutter 2017, without restarts.
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


def stage2_lr(epoch: int, config: Stage2, peak: float) -> float:
    """Cosine from ``peak`` towards 0: peak * (1 + cos(pi * (e - 1) / epochs)) / 2."""
    return peak * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / config.stage2_epochs))
