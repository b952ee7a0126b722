"""The parameters of a run, each with its one default, its limits and its text.

A parameter has one name and one meaning everywhere: field here, notebook cell, recipe file, table
column, `h2t parameters`. The defaults are those of the notebooks: a run on scikit-learn's digits
that takes seconds. What is published for other images stands in the recipes and in methods.yaml.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from h2t.base import choices
from h2t.base.choices import MODELS
from h2t.base.errors import Error
from h2t.data import CROPS, PAD_VALUES, SAMPLERS
from h2t.losses import LOSSES
from h2t.recipes import combinations
from h2t.recipes.images import Data
from h2t.recipes.validation import (
    SEED,
    Described,
    Parameters,
    block,
    described,
    step,
    unknown,
)

SHARE = {"ge": 0, "le": 1}
EPOCHS = {"ge": 1, "le": 5000}
RATE = {"gt": 0, "le": 100}
DECAY = {"ge": 0, "le": 10}
ALPHA = {"ge": 0, "le": 100}
Shares = tuple[Annotated[float, Field(strict=True, **SHARE)], ...]
Factors = tuple[Annotated[float, Field(strict=True, **RATE)], ...]
Losses = Literal[tuple(LOSSES)]

NETWORK, LOSS, OPTIMISER = map(block, ("network", "loss", "optimiser"))
STAGE2, FUSION, CONTROL = map(block, ("stage 2", "fusion", "control"))
AUGMENTATION, MACHINE = map(block, ("augmentation", "this machine"))


@step
class Shared(Parameters):
    """What both stages have."""

    momentum: ClassVar[float] = 0.9  # of SGD, in every published setting

    batch_size: int = OPTIMISER(
        64,
        "images a step (128 on CIFAR)\n"
        "In stage 2 of each branch; where several processes train, of all of them together.",
        ge=2,
        le=65536,
    )
    crop: Literal[CROPS] = AUGMENTATION(
        "padded",
        "padded, or resized: a random part of the file\n"
        "padded shifts the image within a border of crop_padding pixels; resized takes 8 to 100 % "
        "of the image file and brings it to the image size (loader streamed; no border).",
    )
    crop_padding: int = AUGMENTATION(
        1, "pixels of the border for the random crop (4 on CIFAR)", ge=0, le=512
    )
    pad_value: Literal[PAD_VALUES] = AUGMENTATION(
        "zero", "the border: zero (black), or the mean colour"
    )
    flip: bool = AUGMENTATION(False, "mirror half of the images (digits do not survive it)")
    color_jitter: float = AUGMENTATION(
        0.0,
        "of brightness, contrast, saturation (0.4 on large sets)\n"
        "The strength of random changes; 0 turns them off.",
        ge=0,
        le=5,
    )
    precision: Literal["auto", "fp32", "bf16"] = MACHINE(
        "auto", "auto (bf16 where the device computes it natively), fp32, bf16"
    )
    eval_every: int = MACHINE(5, "epochs between evaluations", ge=1, le=5000)
    seed: int = MACHINE(0, "of every random draw, but for which images are taken", **SEED)


@step
class Stage1(Shared):
    """Stage 1, representation learning: the parameters of notebook 02."""

    checkpoint: str = NETWORK("", "a stage 1 of the H2T reference (.pth.tar), in place of training")
    model: Literal[MODELS] = NETWORK(
        "resnet20", "resnet20 to 110 (CIFAR: 32); resnet10 to 152, resnext50; ride, reslt"
    )
    pretrained: str = NETWORK("", "weights to begin with: torchvision's (IMAGENET1K_V1), or a file")
    trainable: Literal["all", "last_block", "new_last_block"] = NETWORK(
        "all",
        "all, last_block, or new_last_block (begun anew)\n"
        "last_block keeps the backbone before its last residual block as it is, its BN in eval "
        "mode, in both stages; new_last_block begins that block anew. Both need pretrained.",
    )
    head: Literal[choices.HEADS] = NETWORK("linear", "classifier: linear or cosine")
    loss: Losses = LOSS(
        "ce",
        "ce, focal, cb, bsce, la, las; ldam, gcl (head cosine); ride, reslt\n"
        "ldam and gcl go with head cosine, ride and reslt with models of that name.",
    )
    drw_from: float = LOSS(
        1.0, "share of the epochs after which classes are re-weighted; 1: never", **SHARE
    )
    ride_diversity: float = LOSS(
        -0.2, "loss ride: below 0 drives experts apart (narrow: -0.45)", ge=-10, le=0
    )
    reslt_beta: float = LOSS(
        0.995, "loss reslt: share of the branches (0.99 at imbalance factor 50)", **SHARE
    )
    reslt_from: Shares = LOSS(
        [0.35, 0.7], "loss reslt: shares of classes at which branch 2 and 3 begin"
    )
    mixup_alpha: float = AUGMENTATION(1.0, "Beta(alpha, alpha) of mixup; 0 turns it off", **ALPHA)
    cmo_probability: float = AUGMENTATION(
        0.0,
        "share of batches that get CMO's patches (mixup_alpha 0)\n"
        "Except in the first 4 and the last 3 epochs.",
        **SHARE,
    )
    cmo_branch: Literal[SAMPLERS] = AUGMENTATION("reversed", "sampler of the patches")
    rotation: float = AUGMENTATION(0.0, "turn by up to so many degrees (RIDE: 15)", ge=0, le=180)
    stage1_epochs: int = OPTIMISER(60, "passes over the long tail (200 on CIFAR)", **EPOCHS)
    stage1_lr: float = OPTIMISER(0.1, "peak learning rate", **RATE)
    stage1_weight_decay: float = OPTIMISER(5e-4, "L2 penalty on all weights", **DECAY)
    nesterov: bool = OPTIMISER(False, "Nesterov momentum")
    warmup_epochs: int = OPTIMISER(5, "epochs of linear warm-up", ge=0, le=5000)
    stage1_schedule: Literal["step", "cosine"] = OPTIMISER(
        "step", "step: drops of the rate, as below; cosine: a half-wave to 0"
    )
    decay_at: Shares = OPTIMISER([0.8, 0.9], "shares of the epochs after which the rate drops")
    lr_factors: Factors = OPTIMISER([0.1, 0.01], "to these factors of the peak")

    def __post_init__(self):
        combinations.check_schedule(self)
        combinations.check_network(self)


@step
class Stage2(Shared):
    """Stage 2, classifier re-training with fusion: the parameters of notebook 03."""

    stage2_method: Literal[choices.METHODS] = STAGE2(
        "crt",
        "crt (the classifier), lws, mislas, gcl, tau\n"
        "lws trains a factor per class alone, mislas both, by softened labels, gcl a cosine head "
        "by Gaussian clouded logits; tau divides each row by its length to the power tau and "
        "trains nothing, so that it has no ratio, epochs or BN streams.",
    )
    stage2_epochs: int = STAGE2(10, "passes over the long tail", **EPOCHS)
    stage2_lr: float = STAGE2(0.02, "start of the cosine", **RATE)
    stage2_weight_decay: float = STAGE2(5e-4, "L2 penalty on the classifier", **DECAY)
    reinitialise_head: bool = STAGE2(False, "begin with a new classifier, not with stage 1's")
    stage2_mixup_alpha: float = STAGE2(
        0.0, "mixup of the fused branch's images; 0 turns it off", **ALPHA
    )
    tau: float = STAGE2(1.0, "method tau: rows are divided by length ** tau", ge=0, le=10)
    smooth_head: float = STAGE2(
        0.4, "method mislas: share taken from the largest class's labels", **SHARE
    )
    smooth_tail: float = STAGE2(0.1, "method mislas: and from the smallest's", **SHARE)
    scale_lr: float = STAGE2(0.1, "methods lws and mislas: start of the factors' cosine", **RATE)
    fusion_ratio: float = FUSION(
        0.3,
        "p, the share of channels taken from the fusing branch\n"
        "0 is DR, decoupled re-training; 0.25 H2T's released setting, 0.3 its paper's.",
        **SHARE,
    )
    fusion: Literal[choices.FUSIONS] = FUSION(
        "swap",
        "swap (H2T), mixup, soft, or noise or zeros in place\n"
        "mixup blends all channels, soft the swapped ones, by each image's distance to its class; "
        "noise and zeros swap in what is no feature of any image.",
    )
    fused_branch: Literal[SAMPLERS] = FUSION(
        "balanced", "sampler of the branch that keeps its labels"
    )
    fusing_branch: Literal[SAMPLERS] = FUSION(
        "instance", "sampler of the branch that lends its channels"
    )
    bn_statistics: Literal["balanced", "both", "none"] = FUSION(
        "both",
        "streams that BN statistics see: balanced, both or none\n"
        "balanced is the fused branch alone, both is shift-BN as in the reference's H2T run; with "
        "none the frozen backbone stays in eval mode.",
    )

    def __post_init__(self):
        combinations.check_stage2(self)


@step
class Beside(Parameters):
    """What notebook 03 trains beside the stage 2 that was asked for."""

    control: bool = CONTROL(
        False,
        "all four of fusion (off, on) by BN statistics\n"
        "Without it those three that tell the published H2T from the published DR.",
    )
    compare_ratios: Shares = CONTROL([0.0, 0.3, 0.6], "exact beside cached stage 2, at these")
    compare_seeds: int = CONTROL(
        5, "seeds of every stage 2; 0: one, and no comparison", ge=0, le=100
    )
    views: int = CONTROL(4, "augmented views of each image in the feature bank", ge=1, le=64)

    objective: str = CONTROL(
        "",
        "with an encoder: choose a head for it; empty: do not\n"
        "balanced, the mean over classes, natural, a world as skewed as the training images, or a "
        "file of class,prior lines. All heads are cross-validated within the training images.",
    )

    def __post_init__(self):
        if self.compare_seeds and not self.compare_ratios:
            raise Error(
                "compare_ratios is empty; name at least one ratio, or set compare_seeds to 0"
            )


STEPS = (Data, Stage1, Stage2, Beside)
SHARED = tuple(described(Shared))  # what both stages have


def described_parameters() -> dict[str, Described]:
    """Every parameter of a run, by name, in the order of the steps."""
    return {name: it for each in STEPS for name, it in described(each).items()}


def check(parameters: Mapping[str, Any], also: Collection[str] = ()) -> None:
    """Refuse unknown names, wrong types and values out of range, before any work.

    Arguments: ``parameters`` name to value; ``also`` further names that are declared elsewhere (a
    notebook's own). Raises: ``h2t.Error`` naming the parameter and what it must be.
    """
    known = {*described_parameters(), *also}
    for name in parameters:
        if name not in known:
            raise Error(unknown(name, known))
    for each in STEPS:
        each.of(parameters)
    combinations.check_together(parameters)


def variants(config: Stage2, control: bool = False) -> dict[str, Stage2]:
    """The stage-2 runs that tell fusion and statistics apart, by name.

    ``dr`` does not fuse and its BN statistics see the balanced stream alone (the published
    baseline), ``dr-both`` does not fuse either but its statistics see both streams (the control;
    with ``bn_statistics`` none it would be DR again and is left out), ``h2t`` is ``config`` itself.
    With ``control`` there is also ``h2t-balanced`` (or ``h2t-both`` beside an ``h2t`` whose
    statistics are balanced): all four cells of the two by two.
    """
    plain = dataclasses.replace(config, fusion_ratio=0.0)
    if config.bn_statistics == "none":
        return {"dr": plain, "h2t": config}
    chosen = {"dr": dataclasses.replace(plain, bn_statistics="balanced")}
    if config.bn_statistics == "both" or control:
        chosen["dr-both"] = dataclasses.replace(plain, bn_statistics="both")
    if control:
        other = "balanced" if config.bn_statistics == "both" else "both"
        chosen[f"h2t-{other}"] = dataclasses.replace(config, bn_statistics=other)
    return {**chosen, "h2t": config}
