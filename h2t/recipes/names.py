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
LOSSES = {"focal": "Focal", "ride": "RIDE", "reslt": "ResLT"}
LOSSES |= {name: name.upper() for name in ("ce", "cb", "bsce", "la", "las", "ldam", "gcl")}


def first_stage(params: Mapping[str, Any]) -> str:
    """The name of a stage 1 by what it does beyond cross entropy: LDAM-DRW, BSCE + CMO, or nothing.

    Arguments: ``params`` of the step; of an imported one there are none.
    """
    loss = params.get("loss", "ce")
    late = params.get("drw_from", 1.0) < 1 and loss != "ride"  # which has it within
    pasted = bool(params.get("cmo_probability"))
    if loss == "ce" and not late and not pasted:
        return ""
    return LOSSES.get(loss, loss) + "-DRW" * late + " + CMO" * pasted


def method_of(
    stage: int,
    params: Mapping[str, Any],
    cached: bool = False,
    stage1: Mapping[str, Any] | None = None,
) -> str:
    """What a step does, from its parameters, as a sweep may call its variants anything.

    The stage 1 is in the name: RIDE + H2T for DR + H2T on RIDE, LDAM-DRW for stage 1 itself.

    Arguments: ``params`` of the step, ``stage1`` those of its stage 1.
    """
    first = first_stage(stage1 or {})
    if stage == 1:
        whole = "GCL, stage 1"  # GCL is the two stages together
        return whole if first == "GCL" else first or STEPS["stage1"]
    kind, fused = params.get("stage2_method", "crt"), bool(params.get("fusion_ratio"))
    own = STAGE2.get(kind, kind)
    parts = [] if own == first or (own == "DR" and first and fused) else [own]
    if fused:
        fusion = params.get("fusion", "swap")
        parts.append("H2T" if fusion == "swap" else fusion)
    name = " + ".join([first, *parts] if first else parts)
    # of which streams BN sees, only what is not the method's own way is said
    unusual = "balanced" if fused else "both"
    if params.get("bn_statistics") == unusual:
        name += f", BN sees {unusual}"
    return name + (" (cached)" if cached else "")


def place(method: str) -> tuple[str, int, str]:
    """Where the name of a step stands: its kind (RIDE), which step of it, and the name."""
    step = next((k for k, end in enumerate(_ENDS) if end and method.endswith(end)), _ENDS.index(""))
    return method.removesuffix(_ENDS[step]).removesuffix(" + DR"), step, method


def order(method: str) -> tuple:
    """A key that sorts names: a run's own steps first, in their order, then each other kind."""
    known = list(STEPS.values())
    return (known.index(method),) if method in known else (len(known), *place(method))
