"""The parameters of every step: three frozen dataclasses, validated on construction.

A parameter has one name and one meaning everywhere: dataclass field, notebook cell, recipe file, table column. The
defaults are the published protocol on CIFAR-100-LT (Li et al., AAAI 2024, and its released settings).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from h2t.errors import Error
from h2t.losses import LOSSES


def _f(default, *, low=None, high=None, choices=None, above=None):
    if isinstance(default, list):
        default = tuple(default)
    return field(default=default, metadata={"low": low, "high": high, "choices": choices, "above": above})


SOURCES = ("digits", "cifar10", "cifar100", "npz", "folder", "lists")
MODELS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
BRANCHES = ("instance", "balanced", "class_aware", "reversed", "effective_number", "square_root")

_hints = functools.cache(typing.get_type_hints)


class _Config:
    """Type and range checks shared by the three dataclasses."""

    def __post_init__(self):
        hints = _hints(type(self))
        for f in dataclasses.fields(self):
            value = _typed(f.name, getattr(self, f.name), hints[f.name])
            object.__setattr__(self, f.name, value)
            _in_range(f.name, value, f.metadata)

    @classmethod
    def of(cls, parameters: dict[str, Any]):
        """Take this step's fields out of a larger mapping, such as a recipe or a notebook's ``globals()``."""
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in parameters.items() if k in names})

    def to_dict(self) -> dict[str, Any]:
        values = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values}


def _typed(name: str, value, hint):
    def wrong() -> Error:
        return Error(f"{name} is {value!r} ({type(value).__name__}); it must be {_hint_name(hint)}{_hint_mend(value, hint)}")

    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise wrong()
        item = typing.get_args(hint)[0]
        return tuple(_typed(name, v, item) for v in value)
    if isinstance(hint, types.UnionType):
        raise TypeError(hint)
    if isinstance(value, bool) and hint is not bool:
        raise wrong()
    if hint is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, hint):
        raise wrong()
    return value


def _hint_name(hint) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {_hint_name(typing.get_args(hint)[0])[2:]}s"
    return {int: "a whole number", float: "a number", str: "a text", bool: "a boolean (true or false)"}[hint]


def _hint_mend(value, hint) -> str:
    if hint is float and isinstance(value, str):
        try:
            plain = repr(float(value))
            return f"; YAML reads 1e-3 as text, write {plain if '.' in plain else plain.replace('e', '.0e')}"
        except ValueError:
            pass
    return ""


def _in_range(name: str, value, limits) -> None:
    for v in value if isinstance(value, tuple) else (value,):
        if isinstance(v, float) and not math.isfinite(v):
            raise Error(f"{name} is {v}; it must be finite")
        if limits.get("choices") and v not in limits["choices"]:
            raise Error(f"{name} is {v!r}; choose one of {', '.join(map(str, limits['choices']))}")
        low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
        if (low is not None and v < low) or (high is not None and v > high):
            span = f"in [{low}, {high}]" if high is not None else f"at least {low}"
            raise Error(f"{name} is {v}; it must be {span}")
        if above is not None and v <= above:
            raise Error(f"{name} is {v}; it must be greater than {above}")


@dataclass(frozen=True)
class Data(_Config):
    """Which images, and how long a tail: the parameters of notebook 01.

    ``source`` and ``root`` (folder or file) name the images; ``image_size`` (pixels) and ``channels`` resize and
    convert, 0 keeps them; ``profile``, ``imbalance_factor`` (n_max / n_min) and ``n_max`` (0: the largest that the set
    allows) shape the tail; ``split_seed`` draws the subset, and the test part where a set has none, of which
    ``test_fraction`` is the share; ``normalise`` auto (cifar for the CIFARs, else train), cifar, imagenet, train or
    none; ``groups`` field (> 100, 20..100, < 20 images) or reference (classes 0-35, 36-70, 71-99).
    """

    source: str = _f("cifar100", choices=SOURCES)
    root: str = ""
    image_size: int = _f(0, low=0)
    channels: int = _f(0, choices=(0, 1, 3))
    profile: str = _f("exponential", choices=("exponential", "step", "natural"))
    imbalance_factor: float = _f(100.0, low=1)
    n_max: int = _f(0, low=0)
    split_seed: int = _f(0, low=0, high=2**32 - 1)
    test_fraction: float = _f(0.2, low=0.01, high=0.9)
    normalise: str = _f("auto", choices=("auto", "cifar", "imagenet", "train", "none"))
    groups: str = _f("field", choices=("field", "reference"))


@dataclass(frozen=True)
class _Training(_Config):
    """What both stages share."""

    batch_size: int = _f(128, low=2)
    momentum: float = _f(0.9, low=0, high=1)
    crop_padding: int = _f(4, low=0)
    pad_value: str = _f("zero", choices=("zero", "mean"))
    flip: bool = True
    precision: str = _f("auto", choices=("auto", "fp32", "bf16"))
    eval_every: int = _f(5, low=1)
    seed: int = _f(0, low=0)


@dataclass(frozen=True)
class Stage1(_Training):
    """Stage 1, representation learning: the parameters of notebook 02.

    SGD on instance-wise batches; linear warm-up over ``warmup_epochs``, then ``stage1_lr`` times ``lr_factors`` after
    the shares ``decay_at`` of ``stage1_epochs`` (0.8 and 0.9 of 200: after epochs 160 and 180). ``mixup_alpha`` 0 is
    plain training. ``loss`` is a name in ``h2t.losses.LOSSES``; after the share ``drw_from`` of the epochs its classes get
    class-balanced weights (deferred re-weighting; 1: never). ``crop_padding`` in pixels; ``eval_every`` in epochs; ``precision`` auto is bf16 where the device
    computes it natively.
    """

    model: str = _f("resnet32", choices=MODELS)
    head: str = _f("linear", choices=("linear", "cosine"))
    loss: str = _f("ce", choices=tuple(LOSSES))
    drw_from: float = _f(1.0, low=0, high=1)
    mixup_alpha: float = _f(1.0, low=0)
    stage1_epochs: int = _f(200, low=1)
    stage1_lr: float = _f(0.1, above=0)
    stage1_weight_decay: float = _f(2e-4, low=0)
    nesterov: bool = False
    warmup_epochs: int = _f(5, low=0)
    decay_at: tuple[float, ...] = _f([0.8, 0.9], low=0, high=1)
    lr_factors: tuple[float, ...] = _f([0.1, 0.01], above=0)

    def __post_init__(self):
        super().__post_init__()
        if len(self.decay_at) != len(self.lr_factors) or list(self.decay_at) != sorted(self.decay_at):
            raise Error("decay_at and lr_factors must be lists of one length, decay_at ascending")
        if self.loss == "ldam" and self.head != "cosine":
            raise Error("loss ldam sets margins between cosines; use it with head cosine")
        if self.nesterov and not self.momentum:
            raise Error("nesterov needs a momentum above 0")


@dataclass(frozen=True)
class Stage2(_Training):
    """Stage 2, classifier re-training with fusion: the parameters of notebook 03.

    ``fusion_ratio`` p (0 is DR, decoupled re-training); ``fusion`` swap is H2T, mixup blends all channels, noise and
    zeros swap in what is no feature of any image; ``fused_branch`` keeps its labels, ``fusing_branch`` lends its
    channels; ``bn_statistics`` says which streams the frozen backbone's running statistics see: balanced (the fused
    branch), both (shift-BN as in the reference's H2T run), or none (backbone in eval mode). ``reinitialise_head``
    starts from a new head instead of stage 1's.
    """

    fusion_ratio: float = _f(0.25, low=0, high=1)
    fusion: str = _f("swap", choices=("swap", "mixup", "noise", "zeros"))
    fused_branch: str = _f("balanced", choices=BRANCHES)
    fusing_branch: str = _f("instance", choices=BRANCHES)
    bn_statistics: str = _f("both", choices=("balanced", "both", "none"))
    stage2_epochs: int = _f(10, low=1)
    stage2_lr: float = _f(0.02, above=0)
    stage2_weight_decay: float = _f(5e-4, low=0)
    reinitialise_head: bool = False


@dataclass(frozen=True)
class Cached(_Config):
    """The cached stage 2 beside the exact one, at the end of notebook 03: ``views`` of every training image in the
    feature bank; ``compare_seeds`` runs of each kind at each of ``compare_ratios`` (0: do not compare)."""

    compare_ratios: tuple[float, ...] = _f([0.0, 0.3, 0.6], low=0, high=1)
    compare_seeds: int = _f(3, low=0)
    views: int = _f(4, low=1)

    def __post_init__(self):
        super().__post_init__()
        if self.compare_seeds and not self.compare_ratios:
            raise Error("compare_ratios is empty; name at least one ratio, or set compare_seeds to 0")


STEPS = (Data, Stage1, Stage2, Cached)

# The published protocols, CIFAR-100-LT with ResNet-32 (the reference's released settings; 5e-4 is its recommendation).
CE = Stage1(mixup_alpha=0.0)
CE_MIXUP = Stage1()
CE_MIXUP_WD5 = Stage1(stage1_weight_decay=5e-4)
BSCE = Stage1(loss="bsce", mixup_alpha=0.0)
LDAM_DRW = Stage1(loss="ldam", head="cosine", drw_from=0.8, lr_factors=(0.01, 0.0001), mixup_alpha=0.0)
DR = Stage2(fusion_ratio=0.0, bn_statistics="balanced")
DR_H2T = Stage2(fusion_ratio=0.25)
DR_H2T_PAPER = Stage2(fusion_ratio=0.3)


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
                f"unknown parameter {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                + f" Declared are: {', '.join(sorted(known))}"
            )
    for step in STEPS:
        step.of(parameters)


def variants(config: Stage2) -> dict[str, Stage2]:
    """The three stage-2 runs that tell fusion and statistics apart, by name.

    ``dr`` does not fuse and its BN statistics see the balanced stream alone (the published baseline), ``dr-both`` does
    not fuse either but its statistics see both streams (the control), ``h2t`` is ``config`` itself. Where the backbone
    stays in eval mode (``bn_statistics`` none) the control is DR again and is left out.
    """
    plain = {} if config.bn_statistics == "none" else {"bn_statistics": "balanced"}
    chosen = {"dr": dataclasses.replace(config, fusion_ratio=0.0, **plain)}
    if config.bn_statistics == "both":
        chosen["dr-both"] = dataclasses.replace(config, fusion_ratio=0.0)
    return {**chosen, "h2t": config}


def check_notebook(namespace: dict[str, Any], own: typing.Collection[str]) -> None:
    """Check a notebook's parameters right after its parameters cell, as ``check`` does for a recipe.

    Arguments: ``namespace`` the notebook's ``globals()`` before anything else is defined; ``own`` the parameters that
    are the notebook's own and belong to no step.
    """
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    given = {k: v for k, v in namespace.items() if not k.startswith("_") and isinstance(v, plain) and k not in ("In", "Out")}
    check(given, also=own)
