"""The published protocols: each stage as a named constant, and each method, a stage 1 with the stage 2 that goes with it, by name.

CIFAR-100-LT with ResNet-32 unless said. A method's name in place of parameters, ``method: mislas`` in a recipe or ``-p method mislas``
on the command line, stands for its settings at the recipe's imbalance factor.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from h2t.base.errors import Error
from h2t.recipes import combinations
from h2t.recipes import parameters as config
from h2t.recipes.parameters import Data

# what the published settings on CIFAR have in common beside the defaults
_BASE = dict(batch_size=128, crop_padding=4, flip=True)
Stage1 = functools.partial(
    config.Stage1, model="resnet32", stage1_epochs=200, stage1_weight_decay=2e-4, **_BASE
)
Stage2 = functools.partial(config.Stage2, fusion_ratio=0.25, **_BASE)

# The data, by imbalance factor. The recipe files cifar100.yaml and cifar10.yaml are these with CE_MIXUP_WD5 and H2T, 10 as 50.
FACTORS = (200, 100, 50, 10)
CIFAR100_LT = {
    k: Data(source="cifar100", root="data", normalise="cifar", imbalance_factor=k, n_max=500)
    for k in FACTORS
}
CIFAR10_LT = {
    k: Data(source="cifar10", root="data", normalise="cifar", imbalance_factor=k, n_max=5000)
    for k in FACTORS
}

# Stage 1, the reference's released settings (5e-4 is its recommendation).
CE = Stage1(mixup_alpha=0.0)
CE_MIXUP = Stage1()
CE_MIXUP_WD5 = Stage1(stage1_weight_decay=5e-4)
FOCAL = Stage1(loss="focal", mixup_alpha=0.0)
CLASS_BALANCED = Stage1(loss="cb", mixup_alpha=0.0)
BSCE = Stage1(loss="bsce", mixup_alpha=0.0)
LOGIT_ADJUSTMENT = Stage1(loss="la", mixup_alpha=0.0)
LDAM_DRW = Stage1(
    loss="ldam", head="cosine", drw_from=0.8, lr_factors=(0.01, 0.0001), mixup_alpha=0.0
)
GCL = Stage1(loss="gcl", head="cosine", batch_size=64)
# The patches as CMO's released code draws them, images by 1/n_c of their class and so classes alike; its paper says classes by 1/n_c.
_CMO = dict(mixup_alpha=0.0, cmo_probability=0.5, cmo_branch="balanced", lr_factors=(0.01, 0.0001))
CE_CMO = Stage1(**_CMO)
BSCE_CMO = Stage1(loss="bsce", **_CMO)
# Narrow is RIDE's reduced width, of which its paper reports; the other is that of H2T's comparison.
_RIDE = dict(
    head="cosine",
    loss="ride",
    drw_from=0.8,
    lr_factors=(0.01, 0.0001),
    mixup_alpha=0.0,
    nesterov=True,
    rotation=15.0,
    stage1_weight_decay=5e-4,
)
RIDE = Stage1(model="ride3_resnet32", ride_diversity=-0.2, **_RIDE)
RIDE_NARROW = Stage1(model="ride3_resnet32_narrow", ride_diversity=-0.45, **_RIDE)
# By imbalance factor. Deviations: its warm-up begins at a third of the rate, and it drops each epoch's last, short batch.
_RESLT = dict(
    model="reslt_resnet32", loss="reslt", mixup_alpha=0.0, nesterov=True, stage1_weight_decay=5e-4
)
RESLT = {k: Stage1(reslt_beta=beta, **_RESLT) for k, beta in ((100, 0.995), (50, 0.99), (10, 0.72))}
RESLT_CIFAR10 = {
    k: Stage1(reslt_beta=beta, reslt_from=(0.2, 0.4), **_RESLT)
    for k, beta in ((100, 0.998), (50, 0.998), (10, 0.96))
}

# Stage 2. Each can be had with H2T: set fusion_ratio, and bn_statistics to both.
DR = Stage2(fusion_ratio=0.0, bn_statistics="balanced")
DR_H2T = Stage2(fusion_ratio=0.25)
DR_H2T_PAPER = Stage2(fusion_ratio=0.3)
# By imbalance factor: the reference's released settings.
H2T = {
    k: Stage2(fusion_ratio=0.25, stage2_weight_decay=wd)
    for k, wd in ((200, 2e-4), (100, 5e-4), (50, 2e-4))
}
LWS = Stage2(stage2_method="lws", fusion_ratio=0.0, bn_statistics="balanced")
LWS_H2T = Stage2(stage2_method="lws")
TAU_NORM = Stage2(stage2_method="tau", fusion_ratio=0.0, bn_statistics="none")
# Batch size and weight decay as in its stage 1. The effective numbers of its paper and the balanced classes of its released code
# differ by less than 3 % in how often they draw a class of at most 500 images.
GCL_STAGE2 = Stage2(
    stage2_method="gcl",
    fusion_ratio=0.0,
    fused_branch="effective_number",
    bn_statistics="none",
    stage2_mixup_alpha=1.0,
    stage2_epochs=30,
    stage2_lr=0.002,
    stage2_weight_decay=2e-4,
    batch_size=64,
)


def _mislas(smooth_head: float, smooth_tail: float, factor: float, bn_statistics: str) -> Stage2:
    """MiSLAS (Zhong et al. 2021): the classifier's rate is 0.1 times ``factor``; its stage 1 is ``CE_MIXUP``, and like H2T it recommends
    a weight decay of 5e-4 over the 2e-4 that it released."""
    return Stage2(
        stage2_method="mislas",
        smooth_head=smooth_head,
        smooth_tail=smooth_tail,
        stage2_lr=round(0.1 * factor, 6),
        scale_lr=0.1,
        fused_branch="class_aware",
        bn_statistics=bn_statistics,
        fusion_ratio=0.0,
        stage2_weight_decay=2e-4,
    )


# by imbalance factor
MISLAS = {
    100: _mislas(0.4, 0.1, 0.2, "balanced"),
    50: _mislas(0.3, 0.0, 0.1, "balanced"),
    10: _mislas(0.2, 0.0, 0.1, "balanced"),
}
MISLAS_CIFAR10 = {
    100: _mislas(0.3, 0.0, 0.5, "none"),
    50: _mislas(0.2, 0.0, 0.2, "none"),
    10: _mislas(0.1, 0.0, 0.2, "none"),
}


@dataclass(frozen=True)
class Method:
    """A stage 1 and the stage 2 that goes with it.

    ``title``; ``source``; ``stage1`` and ``stage2``, the same at every imbalance factor or by factor. Where a comparison of the field has a
    factor at which nobody published settings, ``borrows`` says from which factor they are. ``factors`` are those it can be had at.
    """

    title: str
    source: str
    stage1: Stage1 | Mapping[int, Stage1]
    stage2: Stage2 | Mapping[int, Stage2]
    borrows: Mapping[int, int] = dataclasses.field(default_factory=dict)
    factors: tuple[int, ...] = (200, 100, 50, 10)

    def at(self, factor: int) -> tuple[Stage1, Stage2]:
        """Both stages at an imbalance factor."""
        return tuple(
            s if not isinstance(s, Mapping) else s[factor if factor in s else self.borrows[factor]]
            for s in (self.stage1, self.stage2)
        )


def _fused(stage2: Stage2, bn_statistics: str = "both") -> Stage2:
    return dataclasses.replace(stage2, fusion_ratio=0.25, bn_statistics=bn_statistics)


_LAST = {10: 50}  # H2T publishes its stage 2 at 200, 100 and 50
_MISLAS_H2T = {k: _fused(m) for k, m in MISLAS.items()}

# Every stage 2 is fused at H2T's released ratio: `h2t run` trains each without fusion as well, and with its control. RIDE and ResLT
# end with stage 1, and nobody published settings of their stage 2: it is that of DR and H2T.
METHODS = {
    "dr": Method("DR (CE + mixup)", "Li et al. 2024; Kang et al. 2020", CE_MIXUP, H2T, _LAST),
    "lws": Method("LWS (CE + mixup)", "Kang et al. 2020", CE_MIXUP, LWS_H2T),
    "tau_norm": Method(
        "tau-norm (CE + mixup), trains nothing", "Kang et al. 2020", CE_MIXUP, TAU_NORM
    ),
    "mislas": Method("MiSLAS (CE + mixup)", "Zhong et al. 2021", CE_MIXUP, _MISLAS_H2T, {200: 100}),
    "gcl": Method("GCL", "Li et al. 2022", GCL, _fused(GCL_STAGE2, "none")),
    "ce": Method("CE", "", CE, H2T, _LAST),
    "focal": Method("focal loss", "Lin et al. 2017", FOCAL, H2T, _LAST),
    "cb": Method("class-balanced weights", "Cui et al. 2019", CLASS_BALANCED, H2T, _LAST),
    "bsce": Method("BSCE", "Ren et al. 2020", BSCE, H2T, _LAST),
    "la": Method("logit adjustment", "Menon et al. 2021", LOGIT_ADJUSTMENT, H2T, _LAST),
    "ldam_drw": Method("LDAM-DRW", "Cao et al. 2019", LDAM_DRW, H2T, _LAST),
    "ce_cmo": Method("CE + CMO", "Park et al. 2022", CE_CMO, H2T, _LAST),
    "bsce_cmo": Method("BSCE + CMO", "Park et al. 2022", BSCE_CMO, H2T, _LAST),
    "ride": Method("RIDE, 3 experts", "Wang et al. 2021", RIDE, H2T, _LAST),
    "ride_narrow": Method(
        "RIDE, 3 experts of reduced width", "Wang et al. 2021", RIDE_NARROW, H2T, _LAST
    ),
    "reslt": Method("ResLT", "Cui et al. 2022", RESLT, H2T, {200: 100, **_LAST}),
    "mislas_cifar10": Method(
        "MiSLAS (CE + mixup), on CIFAR-10",
        "Zhong et al. 2021",
        CE_MIXUP,
        {k: _fused(m, "none") for k, m in MISLAS_CIFAR10.items()},
        factors=(100, 50, 10),
    ),
    "reslt_cifar10": Method(
        "ResLT, on CIFAR-10", "Cui et al. 2022", RESLT_CIFAR10, H2T, _LAST, (100, 50, 10)
    ),
}

# What a method sets; the others (epochs of stage 1, rate, crop, flip, seed, ...) are the base that all share.
SETS = (
    "model",
    "head",
    "loss",
    "ride_diversity",
    "reslt_beta",
    "reslt_from",
    "drw_from",
    "mixup_alpha",
    "cmo_probability",
    "cmo_branch",
    "stage1_weight_decay",
    "nesterov",
    "rotation",
    "stage1_schedule",
    "lr_factors",
    "batch_size",
    "stage2_method",
    "tau",
    "smooth_head",
    "smooth_tail",
    "scale_lr",
    "fusion_ratio",
    "fusion",
    "fused_branch",
    "fusing_branch",
    "bn_statistics",
    "stage2_mixup_alpha",
    "stage2_epochs",
    "stage2_lr",
    "stage2_weight_decay",
    "reinitialise_head",
)


def settings(method: str, imbalance_factor: float, source: str = "") -> dict[str, Any]:
    """The parameters that a method's name stands for at an imbalance factor.

    Arguments: ``method`` one of ``METHODS``; ``source`` of the images, where it is known. Returns: a value for each of ``SETS``.
    Raises: ``h2t.Error`` for an unknown name, an imbalance factor without settings, or those of another data set.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, 1, 0.5)
        raise Error(
            f"method is {method!r}; "
            + (f"did you mean {near[0]!r}? Known" if near else "known")
            + f" are {', '.join(METHODS)}; `h2t methods` says what they are"
        )
    recipe = METHODS[method]
    if imbalance_factor not in recipe.factors:
        *others, last = map(str, recipe.factors)
        raise Error(
            f"there are no settings of method {method} at imbalance_factor {imbalance_factor:g}, only at {', '.join(others)} and {last}; set imbalance_factor to "
            f"one of these, or give the parameters that `h2t methods {method}` lists one by one"
        )
    if source == "cifar10" and f"{method}_cifar10" in METHODS:
        raise Error(
            f"method {method} has its settings for CIFAR-100; on source cifar10 use method {method}_cifar10"
        )
    if source == "cifar100" and method.endswith("_cifar10"):
        raise Error(
            f"method {method} has its settings for CIFAR-10; on source cifar100 use method {method.removesuffix('_cifar10')}"
        )
    stage1, stage2 = recipe.at(int(imbalance_factor))
    found = {**stage2.to_dict(), **stage1.to_dict()}
    return {k: found[k] for k in SETS}


def spelt_out(
    given: Mapping[str, Any], defaults: Mapping[str, Any], yielding: Collection[str] = ()
) -> dict[str, Any]:
    """Parameters with a method's settings in place of its name, which is dropped.

    What is given beside a method wins over its settings, except the names in ``yielding``. Arguments: ``defaults`` of parameters that
    are not given. Raises: ``h2t.Error`` as ``settings`` does.
    """
    if "method" not in given:
        return combinations.settled(given)
    factor, source, profile = (
        given.get(k, defaults[k]) for k in ("imbalance_factor", "source", "profile")
    )
    if profile == "natural":
        raise Error(
            f"method {given['method']} has its settings by imbalance factor, which profile natural leaves as it is; give the parameters that `h2t methods NAME` lists one by one"
        )
    own = settings(given["method"], Data(imbalance_factor=factor).imbalance_factor, source)
    beside = {k: v for k, v in given.items() if k != "method" and not (k in yielding and k in own)}
    return combinations.settled({**own, **beside})


def merged(
    recipe: Mapping[str, Any], overrides: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """A recipe with overrides, methods spelt out: one that the overrides name replaces what the recipe says otherwise."""
    low = set(recipe) - set(overrides) if "method" in overrides else ()
    return spelt_out({**recipe, **overrides}, defaults, low)


def table():
    """What methods there are, a row each: name, what it is, source, imbalance factors (a star: settings of another), as texts."""
    rows = [("name", "method", "source", "imbalance factors")]
    for name, method in METHODS.items():
        rows.append(
            (
                name,
                method.title,
                method.source,
                ", ".join(
                    f"{k}{'*' if k in method.borrows and k in method.factors else ''}"
                    for k in method.factors
                ),
            )
        )
    return rows
