"""The parameters of every step: three frozen dataclasses, validated on construction.

A parameter has one name and one meaning everywhere: dataclass field, notebook cell, recipe file, table column. The
defaults are the published protocol on CIFAR-100-LT (Li et al., AAAI 2024, and its released settings).
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from dataclasses import dataclass
from typing import Any

from h2t.base.errors import Error
from h2t.data import CROPS, PAD_VALUES, SAMPLERS
from h2t.data.images import FITS
from h2t.data.longtail import PROFILES
from h2t.data.sources import LOADERS, SOURCES
from h2t.losses import EXPERT_LOSSES, LOSSES
from h2t.recipes.fields import Config, limited

RESNETS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
IMAGENET_RESNETS = (
    "resnet10",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50",
)
RIDES = tuple(
    f"ride{k}_resnet{depth}{width}"
    for depth in (20, 32)
    for k in (2, 3, 4)
    for width in ("", "_narrow")
)
MODELS = (*RESNETS, *IMAGENET_RESNETS, *RIDES, "reslt_resnet20", "reslt_resnet32")
METHODS = ("crt", "lws", "tau", "mislas", "gcl")
LEARNED_SCALE = ("lws", "mislas")  # methods of stage 2 with a learned factor per class
COSINE_LOSSES = ("ldam", "gcl", "ride")


@dataclass(frozen=True)
class Data(Config):
    """Which images, and how long a tail: the parameters of notebook 01.

    ``source`` and ``root`` (folder or file) name the images; ``image_size`` (pixels) and ``channels`` resize and
    convert, 0 keeps them; ``profile``, ``imbalance_factor`` (n_max / n_min) and ``n_max`` (0: the largest that the set
    allows) shape the tail; ``split_seed`` draws the subset, and the test part where a set has none, of which
    ``test_fraction`` is the share; ``val_fraction`` of every class's training images, drawn from the long-tailed set by ``val_seed``,
    are held out to choose by (``h2t.data.longtail.hold_out``); ``normalise`` auto (cifar for the CIFARs, else train), cifar, imagenet, inaturalist, train or
    none; ``groups`` field (> 100, 20..100, < 20 images) or reference (classes 0-35, 36-70, 71-99).

    Of image files ``loader`` resident decodes all once, into a cache and onto the device, streamed decodes each whenever it is
    used, by worker processes, and auto streams sets that would take more than 4 GiB decoded. ``image_fit`` stretch brings both sides
    to ``image_size``, crop the shorter side to 8/7 of it, of which the middle is cut out (256 and 224).
    ``white_level`` is the value of white in files of more than 8 bits (0: 65535); ``follow_links`` lets links of source folder lead
    out of it; ``skip_damaged`` leaves out images that cannot be decoded, ``drop_identical`` training images that are also in the test
    part; ``keep_together`` keeps images of one folder below their class on one side of every split.
    """

    source: str = limited("cifar100", choices=SOURCES)
    root: str = ""
    image_size: int = limited(0, low=0)
    channels: int = limited(0, choices=(0, 1, 3))
    profile: str = limited("exponential", choices=PROFILES)
    imbalance_factor: float = limited(100.0, low=1)
    n_max: int = limited(0, low=0)
    split_seed: int = limited(0, low=0, high=2**32 - 1)
    test_fraction: float = limited(0.2, low=0.01, high=0.9)
    val_fraction: float = limited(0.0, low=0, high=0.9)
    val_seed: int = limited(0, low=0, high=2**32 - 1)
    normalise: str = limited(
        "auto", choices=("auto", "cifar", "imagenet", "inaturalist", "train", "none")
    )
    groups: str = limited("field", choices=("field", "reference"))
    loader: str = limited("auto", choices=LOADERS)
    image_fit: str = limited("stretch", choices=FITS)
    white_level: int = limited(0, low=0, high=2**32 - 1)
    follow_links: bool = False
    skip_damaged: bool = False
    drop_identical: bool = False
    keep_together: bool = False


@dataclass(frozen=True)
class _Training(Config):
    """What both stages share.

    ``batch_size`` is that of all processes together, where several train (torchrun); ``sync_bn`` lets batch normalisation see
    the whole batch, so that the result is that of one process, where without it each process normalises by its share.

    Training images are cut by ``crop``: padded shifts them within a border of ``crop_padding`` pixels; resized takes 8 to 100 % of the
    image file and brings it to the image size (loader streamed; it has no border). ``color_jitter`` is the strength of random changes
    of brightness, contrast and saturation.
    """

    batch_size: int = limited(128, low=2)
    momentum: float = limited(0.9, low=0, high=1)
    crop_padding: int = limited(4, low=0)
    pad_value: str = limited("zero", choices=PAD_VALUES)
    flip: bool = True
    crop: str = limited("padded", choices=CROPS)
    color_jitter: float = limited(0.0, low=0)
    precision: str = limited("auto", choices=("auto", "fp32", "bf16"))
    eval_every: int = limited(5, low=1)
    sync_bn: bool = True
    seed: int = limited(0, low=0)


@dataclass(frozen=True)
class Stage1(_Training):
    """Stage 1, representation learning: the parameters of notebook 02.

    SGD on instance-wise batches; linear warm-up over ``warmup_epochs``, then ``stage1_lr`` times ``lr_factors`` after
    the shares ``decay_at`` of ``stage1_epochs`` (0.8 and 0.9 of 200: after epochs 160 and 180), or with ``stage1_schedule``
    cosine a half-wave down to 0. A ``checkpoint`` in the layout of the H2T reference stands in for training. ``pretrained`` names weights
    to begin with, of torchvision (IMAGENET1K_V1) or a file; ``trainable`` all, last_block (the backbone before its last residual block
    stays as it is, its BN in eval mode, in both stages) or new_last_block (and that block begins anew). ``mixup_alpha`` 0 is
    plain training. ``loss`` is a name in ``h2t.losses.LOSSES``; after the share ``drw_from`` of the epochs its classes get
    class-balanced weights (deferred re-weighting; 1: never). ``cmo_probability`` is the share of batches into which CMO pastes
    patches of other images, drawn by ``cmo_branch`` (reversed: class probability ~ 1/n_c), except in the first 4 and the last
    3 epochs. ``ride_diversity`` is lambda of loss ride, ``reslt_beta`` the branches' share of loss reslt,
    ``reslt_from`` where its second and third begin, in shares of the classes by size. ``rotation`` turns images by up to so many
    degrees, in stage 1 alone; ``crop_padding`` in pixels; ``eval_every`` in epochs; ``precision`` auto is bf16 where the device computes it natively.
    """

    checkpoint: str = ""
    model: str = limited("resnet32", choices=MODELS)
    pretrained: str = ""
    trainable: str = limited("all", choices=("all", "last_block", "new_last_block"))
    head: str = limited("linear", choices=("linear", "cosine"))
    loss: str = limited("ce", choices=tuple(LOSSES))
    ride_diversity: float = limited(-0.2, high=0, low=-10)
    reslt_beta: float = limited(0.995, low=0, high=1)
    reslt_from: tuple[float, ...] = limited([0.35, 0.7], low=0, high=1)
    drw_from: float = limited(1.0, low=0, high=1)
    mixup_alpha: float = limited(1.0, low=0)
    cmo_probability: float = limited(0.0, low=0, high=1)
    cmo_branch: str = limited("reversed", choices=SAMPLERS)
    stage1_epochs: int = limited(200, low=1)
    stage1_lr: float = limited(0.1, above=0)
    stage1_weight_decay: float = limited(2e-4, low=0)
    nesterov: bool = False
    rotation: float = limited(0.0, low=0, high=180)
    warmup_epochs: int = limited(5, low=0)
    stage1_schedule: str = limited("step", choices=("step", "cosine"))
    decay_at: tuple[float, ...] = limited([0.8, 0.9], low=0, high=1)
    lr_factors: tuple[float, ...] = limited([0.1, 0.01], above=0)

    def __post_init__(self):
        super().__post_init__()
        if len(self.decay_at) != len(self.lr_factors) or list(self.decay_at) != sorted(
            self.decay_at
        ):
            raise Error("decay_at and lr_factors must be lists of one length, decay_at ascending")
        if self.loss in COSINE_LOSSES and self.head != "cosine":
            raise Error(f"loss {self.loss} sets margins between cosines; use it with head cosine")
        if self.loss in EXPERT_LOSSES and not self.model.startswith(self.loss):
            like = next(m for m in MODELS if m.startswith(self.loss) and m.endswith("resnet32"))
            raise Error(
                f"loss {self.loss} is of several experts, which model {self.model} has not; use it with a model such as {like}"
            )
        if self.model.startswith("reslt") and self.head != "linear":
            raise Error(
                f"model {self.model} has one linear classifier for all branches; use it with head linear, not {self.head}"
            )
        if self.cmo_probability and self.mixup_alpha:
            raise Error(
                "CMO and mixup both mix every image; set mixup_alpha to 0, or cmo_probability to 0"
            )
        if len(self.reslt_from) != 2 or list(self.reslt_from) != sorted(self.reslt_from):
            raise Error(
                f"reslt_from is {list(self.reslt_from)}; it must be two shares of the classes, ascending, for the second and the third branch"
            )
        if self.trainable != "all" and not self.pretrained:
            raise Error(
                f"trainable {self.trainable} leaves most of the backbone as it begins; name weights to begin with as pretrained, or set trainable to all"
            )
        if self.trainable != "all" and self.model not in (*RESNETS, *IMAGENET_RESNETS):
            raise Error(
                f"trainable {self.trainable} is for backbones with one last block, which {self.model} has not; set trainable to all"
            )
        if self.nesterov and not self.momentum:
            raise Error("nesterov needs a momentum above 0")


@dataclass(frozen=True)
class Stage2(_Training):
    """Stage 2, classifier re-training with fusion: the parameters of notebook 03.

    ``fusion_ratio`` p (0 is DR, decoupled re-training); ``fusion`` swap is H2T, mixup blends all channels, noise and
    zeros swap in what is no feature of any image, soft blends the swapped channels, by each image's distance to its class; ``fused_branch`` keeps its labels, ``fusing_branch`` lends its
    channels; ``bn_statistics`` says which streams the frozen backbone's running statistics see: balanced (the fused
    branch), both (shift-BN as in the reference's H2T run), or none (backbone in eval mode). ``reinitialise_head``
    starts from a new head instead of stage 1's. ``bn_reestimate`` sets the test set's BN statistics once more when the classifier
    is trained, as plain means over the streams named there: balanced
    (the fused branch), instance (the fusing branch) or both (none: the running ones stay). ``heads`` above 1 are as many classifiers, each
    trained by itself with its own draws, at ``head_ratios`` in turn if they are given, of which the mean of the weights is kept.

    ``stage2_method`` crt trains the classifier by cross entropy; lws only a factor per class, at rate ``scale_lr``; mislas both, by
    label-aware smoothing that takes ``smooth_head`` from the largest class's labels and ``smooth_tail`` from the smallest's;
    gcl trains a cosine head by Gaussian clouded logits; tau divides each row by its length to the power ``tau`` and trains
    nothing, so that it has no ratio, epochs or BN streams. ``stage2_mixup_alpha`` above 0 mixes the fused branch's images.
    """

    stage2_method: str = limited("crt", choices=METHODS)
    tau: float = limited(1.0, low=0)
    smooth_head: float = limited(0.4, low=0, high=1)
    smooth_tail: float = limited(0.1, low=0, high=1)
    scale_lr: float = limited(0.1, above=0)
    fusion_ratio: float = limited(0.25, low=0, high=1)
    fusion: str = limited("swap", choices=("swap", "mixup", "noise", "zeros", "soft"))
    fused_branch: str = limited("balanced", choices=SAMPLERS)
    fusing_branch: str = limited("instance", choices=SAMPLERS)
    bn_statistics: str = limited("both", choices=("balanced", "both", "none"))
    stage2_mixup_alpha: float = limited(0.0, low=0)
    stage2_epochs: int = limited(10, low=1)
    stage2_lr: float = limited(0.02, above=0)
    stage2_weight_decay: float = limited(5e-4, low=0)
    reinitialise_head: bool = False
    bn_reestimate: str = limited("none", choices=("none", "balanced", "instance", "both"))
    heads: int = limited(1, low=1)
    head_ratios: tuple[float, ...] = limited([], low=0, high=1)

    def __post_init__(self):
        super().__post_init__()
        if len(self.head_ratios) > self.heads:
            raise Error(
                f"head_ratios names {len(self.head_ratios)} ratios, one for each head, but heads is {self.heads}; set heads to {len(self.head_ratios)} or more"
            )
        if self.head_ratios and not self.fusion_ratio:
            raise Error(
                "head_ratios are fusion ratios, but fusion_ratio is 0; leave head_ratios empty, or set fusion_ratio to their mean"
            )
        if self.stage2_method == "tau" and self.heads > 1:
            raise Error(
                "method tau trains nothing, so that there are no heads to average; set heads to 1"
            )
        if self.stage2_method == "tau" and self.fusion_ratio:
            raise Error(
                f"method tau trains nothing, so there is nothing to fuse at ratio {self.fusion_ratio:g}; set fusion_ratio to 0"
            )
        if self.stage2_method in ("tau", "lws") and self.reinitialise_head:
            raise Error(
                f"method {self.stage2_method} keeps the classifier of stage 1; set reinitialise_head to false, or stage2_method to crt"
            )


@dataclass(frozen=True)
class Cached(Config):
    """The cached stage 2 beside the exact one, at the end of notebook 03: ``views`` of every training image in the
    feature bank; ``compare_seeds`` runs of each kind at each of ``compare_ratios`` (0: do not compare)."""

    compare_ratios: tuple[float, ...] = limited([0.0, 0.3, 0.6], low=0, high=1)
    compare_seeds: int = limited(3, low=0)
    views: int = limited(4, low=1)

    def __post_init__(self):
        super().__post_init__()
        if self.compare_seeds and not self.compare_ratios:
            raise Error(
                "compare_ratios is empty; name at least one ratio, or set compare_seeds to 0"
            )


@dataclass(frozen=True)
class Control(Config):
    """Which stage 2s a run holds beside its own: with ``control`` all four cells of fusion (off, on) by BN statistics (of the
    balanced stream, of both), without it those three that tell the published H2T from the published DR."""

    control: bool = False


STEPS = (Data, Stage1, Stage2, Cached, Control)


def declared() -> dict[str, Any]:
    """Every parameter of the steps with its default."""
    return {f.name: f.default for step in STEPS for f in dataclasses.fields(step)}


def check(parameters: dict[str, Any], also: typing.Collection[str] = ()) -> None:
    """Refuse unknown names, wrong types and values out of range, before any work.

    Arguments: ``parameters`` name to value; ``also`` further names that are declared elsewhere (a notebook's own).
    Raises: ``h2t.Error`` naming the parameter and, for an unknown one, the nearest known name.
    """
    known = {*declared(), *also}
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise Error(
                f"unknown parameter {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
                + f" Declared are: {', '.join(sorted(known))}"
            )
    for step in STEPS:
        step.of(parameters)
    _check_together(parameters)


def _check_together(parameters: dict[str, Any]) -> None:
    """Refuse parameters of different steps that do not go together, before the first step is trained."""
    if "head" in parameters:
        check_method(parameters.get("stage2_method", "crt"), parameters["head"])
        check_heads(parameters.get("heads", 1), parameters["head"])
    if parameters.get("crop") == "resized" and parameters.get("loader") == "resident":
        raise Error(
            "crop resized cuts from the image files, which loader resident decodes beforehand; set loader to streamed, or crop to padded"
        )
    if parameters.get("control") and parameters.get("bn_statistics") == "none":
        raise Error(
            "control compares BN statistics of the balanced stream and of both, but bn_statistics is none; set control to false, or bn_statistics to both"
        )


def check_heads(heads: int, head: str) -> None:
    """Refuse to average heads that are no averages of anything. Raises ``h2t.Error``."""
    if heads > 1 and head == "cosine":
        raise Error(
            "heads are averaged by their weights, which for a cosine head is no average of their answers; set heads to 1, or use a stage 1 with head linear"
        )


def check_method(method: str, head: str) -> None:
    """Refuse a method of stage 2 that makes no sense on stage 1's kind of head. Raises ``h2t.Error``."""
    if method == "gcl" and head != "cosine":
        raise Error("method gcl lowers cosines; use a stage 1 with head cosine (and loss gcl)")
    if head == "cosine" and method in (*LEARNED_SCALE, "tau"):
        raise Error(
            f"method {method} changes the lengths of the classifier's rows, which a cosine head ignores; "
            f"use stage2_method crt, or a stage 1 with head linear"
        )


def variants(config: Stage2, control: bool = False) -> dict[str, Stage2]:
    """The stage-2 runs that tell fusion and statistics apart, by name.

    ``dr`` does not fuse and its BN statistics see the balanced stream alone (the published baseline), ``dr-both`` does
    not fuse either but its statistics see both streams (the control), ``h2t`` is ``config`` itself. Where the backbone
    stays in eval mode (``bn_statistics`` none) the control is DR again and is left out. With ``control`` there is also
    ``h2t-balanced`` (or ``h2t-both`` beside an ``h2t`` whose statistics are balanced): all four cells of the two by two.
    """
    plain = dataclasses.replace(config, fusion_ratio=0.0, head_ratios=())
    if config.bn_statistics == "none":
        return {"dr": plain, "h2t": config}
    chosen = {"dr": dataclasses.replace(plain, bn_statistics="balanced")}
    if config.bn_statistics == "both" or control:
        chosen["dr-both"] = dataclasses.replace(plain, bn_statistics="both")
    if control:
        other = "balanced" if config.bn_statistics == "both" else "both"
        chosen[f"h2t-{other}"] = dataclasses.replace(config, bn_statistics=other)
    return {**chosen, "h2t": config}


def check_notebook(namespace: dict[str, Any], own: typing.Collection[str]) -> None:
    """Check a notebook's parameters right after its parameters cell, as ``check`` does for a recipe.

    Arguments: ``namespace`` the notebook's ``globals()`` before anything else is defined; ``own`` the parameters that
    are the notebook's own and belong to no step.
    """
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    given = {
        k: v
        for k, v in namespace.items()
        if not k.startswith("_") and isinstance(v, plain) and k not in ("In", "Out")
    }
    check(given, also=own)
