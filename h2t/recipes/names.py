"""What the field calls a step, from its parameters and those of its stage 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
