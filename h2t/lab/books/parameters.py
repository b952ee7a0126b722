"""A notebook's parameters: those of its tagged cell, whatever its other cells have named since."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from h2t.recipes import parameters as config

NAMED = re.compile(r"^([a-zA-Z]\w*) *(:[^=\n]+)?=(?!=)", re.MULTILINE)  # name: kind = value


def read(namespace: dict[str, Any], *steps: type, own: Sequence[str] = ()) -> dict[str, Any]:
    """The notebook's parameters, name to value, checked as those of a recipe are.

    Only what the notebook declares is looked at, so that it may be called again when later cells
    have named other things. Right after the parameters cell an unknown name in it is found too.

    Arguments: ``namespace`` the notebook's ``globals()``; ``steps`` the dataclasses whose fields
    its parameters cell holds; ``own`` those that belong to no step.
    """
    declared = [*own, *(f.name for step in steps for f in dataclasses.fields(step))]
    # In is IPython's list of the cells that have run, this one last
    typed = _typed(namespace.get("In", [])[:-1])
    given = {n: namespace[n] for n in [*declared, *typed] if n in namespace}
    config.check(given, also=own)
    return {n: given[n] for n in declared if n in given}


def _typed(cells: list[str]) -> list[str]:
    """What the parameters cell names: the last of ``cells``, but for what papermill injects below.

    Nothing where another cell has run since: which cell it was is not known then.
    """
    names = []
    for source in reversed(cells):
        found = NAMED.findall(source)
        annotated = any(kind for _, kind in found)
        if not annotated and not source.startswith("# Parameters"):  # papermill's first line
            return []
        names += [name for name, _ in found]
        if annotated:
            return names
    return []
