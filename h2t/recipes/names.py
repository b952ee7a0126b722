"""What the field calls a step, from its parameters and those of its stage 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# the steps of a run by their folders
STEPS = {
    "stage1": "stage 1",
    "stage2-dr": "DR",
    "stage2-dr-both": "DR, BN sees both",
    "stage2-h2t-balanced": "DR + H2T, BN sees balanced",
    "stage2-h2t": "DR + H2T",
}
STAGE2 = {"crt": "DR", "lws": "LWS", "tau": "tau-norm", "mislas": "MiSLAS", "gcl": "GCL"}
# what a name may end with, in the order of a run's steps
_ENDS = (", stage 1", "", " + DR", ", BN sees both", " + H2T")
LOSSES = {
    "ce": "CE",
    "focal": "Focal",
    "cb": "CB",
    "bsce": "BSCE",
    "la": "LA",
    "las": "LAS",
    "ldam": "LDAM",
    "gcl": "GCL",
    "ride": "RIDE",
    "reslt": "ResLT",
}


def first_stage(params: Mapping[str, Any]) -> str:
    """The name of a stage 1 by what it does beyond cross entropy, such as LDAM-DRW or BSCE + CMO; empty where that is nothing.

    Arguments: ``params`` of the step; of an imported one there are none.
    """
    loss, drw = (
        params.get("loss", "ce"),
        params.get("drw_from", 1.0) < 1 and params.get("loss") != "ride",
    )  # RIDE has it within
    cmo = bool(params.get("cmo_probability"))
    if loss == "ce" and not drw and not cmo:
        return ""
    return LOSSES.get(loss, loss) + "-DRW" * drw + " + CMO" * cmo


def whole(name: str, stage: int, stage1: Mapping[str, Any]) -> str:
    """The name of a step with its stage 1 in it: RIDE + H2T for DR + H2T on RIDE, LDAM-DRW for stage 1 itself.

    Arguments: ``name`` of what the step does by itself; ``stage1`` parameters of its stage 1.
    """
    first = first_stage(stage1)
    if not first:
        return name
    if stage == 1:
        return f"{first}, stage 1" if first == "GCL" else first  # GCL is the two stages together
    if name.startswith("DR + "):
        return first + name[2:]
    return name if first == "GCL" == name[:3] else f"{first} + {name}"


def method_of(
    stage: int,
    params: Mapping[str, Any],
    cached: bool = False,
    stage1: Mapping[str, Any] | None = None,
) -> str:
    """What a step does, from its parameters, as a sweep may call its variants anything.

    Arguments: ``params`` of the step, ``stage1`` those of its stage 1; ``cached`` whether it is a cached stage 2.
    """
    if stage == 1:
        return whole(STEPS["stage1"], stage, stage1 or {})
    kind, fusion = params.get("stage2_method", "crt"), params.get("fusion", "swap")
    name, seen = STAGE2.get(kind, kind), params.get("bn_statistics")
    if params.get("fusion_ratio"):
        name += " + H2T" if fusion == "swap" else f" + {fusion}"
        name += ", BN sees balanced" if seen == "balanced" else ""
    elif seen == "both":
        name += ", BN sees both"
    return whole(name + (" (cached)" if cached else ""), stage, stage1 or {})


def place(method: str) -> tuple[str, int, str]:
    """Where the name of a step stands among others: its kind (RIDE), which step of it, and the name."""
    step = next((k for k, end in enumerate(_ENDS) if end and method.endswith(end)), _ENDS.index(""))
    return method.removesuffix(_ENDS[step]).removesuffix(" + DR"), step, method


def order(method: str) -> tuple:
    """A key that sorts names: a run's own steps first, H2T after what it is compared with, then each other kind."""
    known = list(STEPS.values())
    return (known.index(method),) if method in known else (len(known), *place(method))
