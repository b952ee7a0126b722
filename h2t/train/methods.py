"""The methods of stage 2: what is trained of the classifier, at which rate, by which loss.

Each works on whatever features it is shown, fused or not, and ends as a plain head of stage 1's
kind, which is what everything downstream reads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from h2t.base.choices import LEARNED_SCALE
from h2t.losses.gcl import gcl
from h2t.losses.label_aware_smoothing import label_aware_smoothing
from h2t.models.heads import ScaledHead, tau_normalised
from h2t.recipes.parameters import Stage2

CACHED = ("crt", "lws", "tau", "mislas")  # methods that the cached stage 2 knows


def cannot_cache(config: Stage2) -> str:
    """Why the cached stage 2 cannot follow a recipe; empty where it can."""
    if config.stage2_method not in CACHED:
        return (
            f"the cached stage 2 does not know method {config.stage2_method}; "
            f"use {', '.join(CACHED)}, or the exact one (notebook 03)"
        )
    if config.stage2_mixup_alpha:
        return (
            "the cached stage 2 cannot mix images, only features; "
            "set stage2_mixup_alpha to 0, or use the exact one (notebook 03)"
        )
    return ""


def begin(model: nn.Module, config: Stage2) -> tuple[list[dict], list[float]]:
    """Make a model's head ready. Returns: the parameter groups to train, and each one's peak
    rate."""
    rows = {"params": list(model.head.parameters())}
    if config.stage2_method not in LEARNED_SCALE:
        return [rows], [config.stage2_lr]
    linear, model.head = model.head, ScaledHead(model.head)
    factors = {"params": [model.head.scale]}
    if config.stage2_method == "lws":
        linear.requires_grad_(False)
        return [factors], [config.scale_lr]
    return [rows, factors], [config.stage2_lr, config.scale_lr]


def loss_of(config: Stage2, counts: torch.Tensor, drawn) -> Callable[..., torch.Tensor]:
    """The loss of a method as a function of logits (B, C) and labels (B,); ``drawn`` is what it
    draws, as of ``rng.normal``."""
    if config.stage2_method == "gcl":
        # the head's own scale stays 30, which moves confidences but no decision
        own = {"generator": drawn, "scale": 20.0, "margin": 0.1, "gamma": 1.0}
        return lambda logits, labels: gcl(logits, labels, counts, **own)
    if config.stage2_method != "mislas":
        return F.cross_entropy
    soft = {"smooth_head": config.smooth_head, "smooth_tail": config.smooth_tail}
    return lambda logits, labels: label_aware_smoothing(logits, labels, counts, **soft)


@torch.no_grad()
def end(model: nn.Module, config: Stage2) -> None:
    """Leave a plain head behind: factors folded in, or with tau the rows normalised."""
    if config.stage2_method in LEARNED_SCALE:
        model.head = model.head.folded()
    elif config.stage2_method == "tau":
        model.head.weight.copy_(tau_normalised(model.head.weight, config.tau))
        model.head.bias.zero_()  # as Kang et al. do: the biases belong to rows of the old lengths
