"""What others published for the methods that we have, and which of our steps follow the protocol that a number is of.

Top-1 test accuracy in %, ResNet-32, of the best epoch on the test set, one run each as far as is said.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from h2t.data.longtail import class_counts
from h2t.recipes.methods import METHODS
from h2t.recipes.parameters import SHARED, Stage1, Stage2, declared

# Number of classes, then (method of h2t.recipes.methods, what of it): imbalance factor to accuracy.
NUMBERS: dict[int, dict[tuple[str, str], dict[int, float]]] = {
    # CIFAR-100-LT: Li et al., AAAI 2024, slides and the project's README; CMO: Park et al., CVPR 2022.
    100: {
        ("dr", "stage 1"): {200: 36.01, 100: 39.55, 50: 45.40},
        ("dr", "stage 2"): {200: 41.73, 100: 45.68, 50: 50.86},
        ("dr", "H2T"): {200: 43.95, 100: 47.73, 50: 52.95},
        ("ldam_drw", "stage 1"): {200: 38.91, 100: 42.04, 50: 47.62},
        ("mislas", "stage 2"): {200: 43.45, 100: 46.71, 50: 52.31},
        ("mislas", "H2T"): {200: 43.84, 100: 47.62, 50: 52.73},
        ("gcl", "stage 2"): {200: 44.76, 100: 48.61, 50: 53.55},
        ("gcl", "H2T"): {200: 45.24, 100: 48.88, 50: 53.76},
        ("ride", "stage 1"): {200: 45.84, 100: 50.37, 50: 54.99},
        ("ride", "H2T"): {200: 46.64, 100: 51.38, 50: 55.54},
        ("reslt", "stage 1"): {200: 44.26, 100: 48.73, 50: 53.81},
        ("reslt", "H2T"): {200: 46.18, 100: 49.60, 50: 54.39},
        ("ce_cmo", "stage 1"): {100: 43.90, 50: 48.30},
        ("bsce_cmo", "stage 1"): {100: 46.60, 50: 51.40},
    },
    # CIFAR-10-LT: Zhong et al. 2021 (MiSLAS).
    10: {
        ("ce", "stage 1"): {100: 70.4, 50: 74.8, 10: 86.4},
        ("dr", "stage 1"): {100: 73.1, 50: 77.8, 10: 87.1},
        ("dr", "stage 2"): {100: 79.1, 50: 84.2, 10: 89.8},
        ("mislas_cifar10", "stage 2"): {100: 82.1, 50: 85.7, 10: 90.0},
    },
}
MODELS = tuple(
    dict.fromkeys(
        METHODS[m].at(METHODS[m].factors[0])[0].model
        for numbers in NUMBERS.values()
        for m, _ in numbers
    )
)

_FREE = {"seed", "eval_every", "precision"}  # which number they are of does not depend on these
_RATIOS = (0.25, 0.3)  # H2T's released settings, and its paper's
_RECOMMENDED = {
    "dr": 5e-4,
    "ce": 5e-4,
    "mislas": 5e-4,
    "mislas_cifar10": 5e-4,
}  # weight decay of stage 1, beside the released one


def published(step: Mapping[str, Any]) -> float | None:
    """The published number that a step may be held against; None where there is none.

    All its parameters, those of its stage 1 too, must be those of the method's recipe at its imbalance factor, 200 epochs of stage 1 among
    them, except that H2T may fuse at its released ratio or its paper's, and that stage 1 may have the recommended weight decay. What
    the publications leave open (stage 2 of RIDE and ResLT, MiSLAS and ResLT at 200) is as the recipe has it.

    Arguments: ``step`` a row of ``h2t.study.compare.table.table``, with its num_classes, profile, imbalance_factor, stage, cached.
    """
    factor, classes = step.get("imbalance_factor"), step.get("num_classes")
    if (
        step.get("profile") != "exponential"
        or step.get("cached")
        or factor is None
        or factor != round(factor)
    ):
        return None
    for (method, what), by_factor in NUMBERS.get(classes, {}).items():
        if by_factor.get(round(factor)) is not None and _follows(step, method, what, round(factor)):
            return by_factor[round(factor)]
    return None


def _follows(step: Mapping[str, Any], method: str, what: str, factor: int) -> bool:
    if (step.get("stage") == 1) != (what == "stage 1"):
        return False
    stage1, stage2 = METHODS[method].at(factor)
    decays = {stage1.stage1_weight_decay, _RECOMMENDED.get(method, stage1.stage1_weight_decay)}
    if not all(
        _same(
            step,
            f"stage1_{f.name}" if f.name in SHARED else f.name,
            f.name,
            stage1,
            {"stage1_weight_decay": decays},
        )
        for f in dataclasses.fields(Stage1)
    ):
        return False
    if what == "stage 1":
        return True
    if what == "H2T":
        allowed = {"fusion_ratio": set(_RATIOS)}
    else:  # without fusion BN sees the balanced stream, or nothing where the backbone is in eval mode
        allowed = {
            "fusion_ratio": {0.0},
            "bn_statistics": {"none" if stage2.bn_statistics == "none" else "balanced"},
        }
    return all(_same(step, f.name, f.name, stage2, allowed) for f in dataclasses.fields(Stage2))


def _same(
    step: Mapping[str, Any],
    column: str,
    name: str,
    recipe: Stage1 | Stage2,
    allowed: Mapping[str, set],
) -> bool:
    """Whether a step's value of a parameter is the recipe's. Steps older than a parameter have its default; an imported stage 1 has none."""
    if name in _FREE:
        return True
    value, want = step.get(column), recipe.to_dict()[name]
    if value is None or value != value:  # NaN: other rows have it
        value = (
            declared()[name]
            if step.get("loss") == step.get("loss") and step.get("loss") is not None
            else None
        )
    value = list(value) if isinstance(value, tuple) else value
    if isinstance(value, str) and isinstance(want, list):
        value = json.loads(value)
    return value in allowed[name] if name in allowed else value == want


# Li et al., AAAI 2024, slide 10 of the talk: DR + H2T on CIFAR-100-LT, IF 100, one run each
_SLIDE_10 = {
    "all": (45.68, 47.11, 47.58, 47.73, 47.59, 47.17, 46.50, 46.05, 45.52, 44.39, 43.57),
    "many": (63.81, 63.08, 61.86, 62.00, 59.58, 56.31, 53.89, 51.92, 49.36, 47.94, 44.31),
    "medium": (46.37, 48.69, 50.00, 50.17, 50.74, 51.34, 52.06, 50.63, 52.91, 50.46, 51.51),
    "few": (22.35, 25.38, 26.93, 27.07, 28.90, 30.79, 30.62, 33.24, 31.83, 32.66, 33.07),
}


def published_curve(counts=None):
    """The published ratio curve as a table: ratio, group (fixed class ranges), accuracy (%).

    Arguments: ``counts`` (C,) training images of a set, to get None for one that it does not belong
    to: it is of CIFAR-100-LT at an imbalance factor of 100.
    """
    import pandas as pd

    of = class_counts(500, 100, 100)
    if counts is not None and list(counts) != list(of):
        return None
    points = [(k / 10, g, a) for g, row in _SLIDE_10.items() for k, a in enumerate(row)]
    return pd.DataFrame(points, columns=["ratio", "group", "accuracy"])
