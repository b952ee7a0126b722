"""From a recipe with lists and ranges to the points of a grid; reads no file, starts nothing."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from typing import Any

from h2t.base.errors import Error, quoted
from h2t.recipes.parameters import described_parameters

POINTS = 100_000  # of a grid, and values of a range
ROWS = "sweep must be a list of mappings, one for each run: `sweep: [{seed: 0}, {seed: 3}]`"


def expand(recipe: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The points of a grid: name to parameters.

    A parameter that has one value is an axis of the grid where the recipe gives it a list, or a
    range ``{from: a, to: b, step: c}`` with both ends; one that is a list by itself is an axis
    where it is given a list of lists. All axes are combined. A list of mappings, ``sweep:
    [{model: resnet20, seed: 3}, ...]``, is an explicit table, combined with the axes if there are
    any.

    Returns: points in the order of the recipe, the last axis fastest, each named by its values.
    Raises: ``h2t.Error`` for what makes no grid, two points of one name, and more than ``POINTS``.
    """
    fixed = {k: v for k, v in recipe.items() if k != "sweep"}
    table = _table(recipe["sweep"]) if "sweep" in recipe else [{}]
    axes = {k: _axis(k, v) for k, v in fixed.items() if _is_axis(k, v)}
    tabled = list(dict.fromkeys(k for row in table for k in row))
    if both := [k for k in tabled if k in axes]:
        raise Error(f"{both[0]} is an axis of the grid and a column of its table; keep one")
    if not axes and not tabled:
        raise Error(
            "the recipe has one point only: give a parameter a list of values, such as "
            "`seed: [0, 1, 2]`, or use `h2t run`"
        )
    if (number := len(table) * math.prod(map(len, axes.values()))) > POINTS:
        raise Error(f"the grid has {number:,} runs; that is more than one can want")
    points: dict[str, dict[str, Any]] = {}
    for row, *values in itertools.product(table, *axes.values()):
        given = {**fixed, **row, **dict(zip(axes, values, strict=True))}
        # a row may leave a column to its default
        name = _name({k: given[k] for k in (*tabled, *axes) if k in given})
        if name in points:
            same = "one row or value is there twice"
            apart = "their values differ only in what a folder's name cannot hold"
            why = same if points[name] == given else apart
            raise Error(f"two points of the grid would share the run {name!r}; {why}")
        points[name] = given
    return points


def _is_axis(name: str, value: Any) -> bool:
    known = described_parameters().get(name)
    if isinstance(value, list) and known and known.kind == "array":
        return any(isinstance(v, list) for v in value)
    return isinstance(value, list | dict)


def _axis(name: str, value: Any) -> list[Any]:
    if isinstance(value, dict):
        return _range(name, value)
    if not value:
        raise Error(f"{name} is an empty list; give at least one value")
    return value


def _range(name: str, value: dict[str, Any]) -> list[Any]:
    """Both ends included, as far as the step reaches; whole numbers stay whole."""
    numbers = {k: v for k, v in value.items() if type(v) in (int, float) and abs(v) < 1e300}
    known = {"from", "to"} <= set(numbers) <= {"from", "to", "step"}
    low, high, step = numbers.get("from", 0), numbers.get("to", 0), numbers.get("step", 1)
    if not known or len(numbers) != len(value) or high < low or step <= 0:
        form = "a range is {from: A, to: B} or {from: A, to: B, step: C}, A <= B, C > 0"
        raise Error(f"{name} is {quoted(value)}; {form}")
    steps = (high - low) / step + 1e-9
    if steps >= POINTS:  # also where it is infinite
        raise Error(f"{name} has {steps:,.0f} values; that is more runs than one can want")
    values = [low + k * step for k in range(math.floor(steps) + 1)]
    whole = isinstance(low, int) and isinstance(step, int)
    return values if whole else [round(v, 10) for v in values]


def _table(rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not rows:
        raise Error(ROWS)
    if not all(isinstance(r, dict) and r and all(isinstance(k, str) for k in r) for r in rows):
        raise Error(ROWS)
    return rows


def _name(values: dict[str, Any]) -> str:
    parts = (f"{k}-{re.sub('[^A-Za-z0-9.+-]+', '.', _text(v))}" for k, v in values.items())
    name = "_".join(parts)
    if len(name) <= 200:
        return name
    return f"{name[:180]}.{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_text, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)
