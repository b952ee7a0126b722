"""What others published, in published.csv, and how a step differs from the protocol of a method.

Top-1 test accuracy in %, ResNet-32, of the best epoch on the test set, one run each as far as
is said. The slides and the readme are those of H2T (Li et al., AAAI 2024): of its paper's fusion
ratio, 0.3, and of the released one, 0.25. A row of H2T without a ratio does not say which it is.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from h2t.data.longtail import class_counts
from h2t.recipes.methods import METHODS
from h2t.recipes.parameters import SHARED, Parameters
from h2t.recipes.validation import described

FREE = ("seed", "eval_every", "precision")  # no part of any protocol
RATIOS = (0.25, 0.3)  # H2T's released settings, and its paper's


@dataclass(frozen=True)
class Number:
    """A published accuracy: a row of the file."""

    classes: int
    method: str
    stage: int
    imbalance_factor: int
    fusion_ratio: float | None
    group: str
    accuracy: float
    source: str

    @property
    def fused(self) -> bool:
        return self.stage == 2 and self.fusion_ratio != 0


def _read() -> Iterator[Number]:
    text = (resources.files("h2t.recipes") / "published.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        yield Number(
            classes=int(row["classes"]),
            method=row["method"],
            stage=int(row["step"].removeprefix("stage ")),
            imbalance_factor=int(row["imbalance_factor"]),
            fusion_ratio=float(row["fusion_ratio"]) if row["fusion_ratio"] else None,
            group=row["group"],
            accuracy=float(row["accuracy"]),
            source=row["source"],
        )


NUMBERS = tuple(_read())
MODELS = tuple({METHODS[n.method].at(50)[0].model: None for n in NUMBERS})


def published(step: Mapping[str, Any]) -> float | None:
    """The published number that a step may be held against; None where there is none.

    All its parameters, those of its stage 1 too, must be those of the method's protocol at its
    imbalance factor; the weight decay of stage 1 is the released one, of which the published rows
    are. What the publications leave open (stage 2 of RIDE and ResLT, MiSLAS and ResLT at 200) is
    as the method has it.

    Arguments: ``step`` a row of ``h2t.table``.
    """
    if step.get("profile") != "exponential" or step.get("cached"):
        return None
    of = (step.get("num_classes"), step.get("imbalance_factor"), step.get("stage"), "all")
    near = [n for n in NUMBERS if of == (n.classes, n.imbalance_factor, n.stage, n.group)]
    for n in near:
        if not differences(step, n.method, n.imbalance_factor, _as_in(n, step)):
            return n.accuracy
    return None


def _as_in(number: Number, step: Mapping[str, Any]) -> dict[str, Any]:
    """What a published row has otherwise than its method, which fuses at the released ratio."""
    if number.stage == 1:
        return {}
    if number.fused:
        ratio, own = number.fusion_ratio, step.get("fusion_ratio")
        return {"fusion_ratio": own if ratio is None and own in RATIOS else ratio}
    # without fusion BN sees the balanced stream, or nothing where the backbone is in eval mode
    statistics = METHODS[number.method].at(number.imbalance_factor)[1].bn_statistics
    plain = "none" if statistics == "none" else "balanced"
    return {"fusion_ratio": 0.0, "bn_statistics": plain}


def differences(
    step: Mapping[str, Any],
    method: str,
    factor: int,
    instead: Mapping[str, Any] | None = None,
    free: Collection[str] = FREE,
) -> list[tuple[str, Any, int]]:
    """What a step and its stage 1 have otherwise than the protocol of a method.

    Arguments: ``step`` a row of ``h2t.table``; ``factor`` imbalance factor; ``instead`` values in
    place of the method's own for the step; ``free`` names that may differ.
    Returns: name, value and stage of each; of an imported stage 1, whose training is not known, the
    name is ``imported``.
    """
    first, second = METHODS[method].at(factor)

    def differ(row: Mapping[str, Any], stage: Parameters, number: int):
        want = {**stage.to_dict(), **(instead or {})}
        for name, it in described(type(stage)).items():
            value = row.get(name)
            if it.kind == "array":  # JSON in the table
                value = json.loads(value)
            if name not in free and value != want[name]:
                yield name, value, number

    found = list(differ(step, second, 2)) if step.get("stage") == 2 else []
    if not isinstance(step.get("loss"), str):
        return [*found, ("imported", True, 1)]
    own = {**step, **{k: step.get(f"stage1_{k}") for k in SHARED}}
    return [*found, *differ(own, first, 1)]


def published_curve(counts=None, model: str = "resnet32"):
    """Accuracy of DR + H2T against the fusion ratio, by slide 10 (CIFAR-100-LT, IF 100).

    Arguments: ``counts`` (C,) training images of a set, and ``model``: for others than it is of the
    curve is None.
    Returns: a DataFrame: ratio, group (the reference's fixed class ranges), accuracy (%).
    """
    import pandas as pd

    if model != "resnet32":
        return None
    if counts is not None and list(counts) != list(class_counts(500, 100, 100)):
        return None
    rows = [(n.fusion_ratio, n.group, n.accuracy) for n in NUMBERS if n.source == "slide 10"]
    return pd.DataFrame(rows, columns=["ratio", "group", "accuracy"])
