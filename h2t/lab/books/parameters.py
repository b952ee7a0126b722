"""A notebook's parameters: those of its tagged cell, whatever its other cells have named since."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from typing import Any

from h2t.recipes import parameters as config


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
        try:
            body = ast.parse(source).body
        except SyntaxError:
            return []
        annotated = [n.target for n in body if isinstance(n, ast.AnnAssign)]
        if not annotated and not source.startswith("# Parameters"):  # papermill's first line
            return []
        plain = [t for n in body if isinstance(n, ast.Assign) for t in n.targets]
        names += [t.id for t in [*annotated, *plain] if isinstance(t, ast.Name)]
        if annotated:
            return [n for n in names if not n.startswith("_")]
    return []
