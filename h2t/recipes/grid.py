"""From a recipe with lists and ranges to the points of a grid; reads no file, starts nothing."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from typing import Any

from h2t.base.errors import Error, quoted

MODES = ("product", "zip")
POINTS = 100_000  # of a grid, and values of a range


def merge(recipe: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A recipe with some parameters replaced; these depend on nothing any more (``settle``)."""
    merged = {**recipe, **overrides}
    if "by" in recipe and "by" not in overrides:
        merged["by"] = {
            k: {
                v: {n: x for n, x in case.items() if n not in overrides}
                for v, case in cases.items()
            }
            for k, cases in _by(recipe).items()
        }
    return merged


def settle(recipe: dict[str, Any], declared) -> dict[str, Any]:
    """A recipe without its ``by``, which says what other parameters are at certain values of one::

        imbalance_factor: 100.0
        stage2_weight_decay: 5.0e-4
        by:
          imbalance_factor:
            50: {stage2_weight_decay: 2.0e-4}

    Arguments: ``declared`` names of parameters.
    Returns: the parameters, with those of the cases that apply in place of the recipe's own.
    Raises: ``h2t.Error`` for a ``by`` of another form, with an unknown name, or that depends on
    what it sets.
    """
    by, settled = _by(recipe), {k: v for k, v in recipe.items() if k != "by"}
    sets = _set_by(by)
    if unknown := [n for n in (*by, *sets) if n not in declared]:
        raise Error(f"unknown parameter {unknown[0]!r} under by")
    if both := [n for n in sets if n in by]:
        raise Error(f"by sets {both[0]} and depends on it; give it a value of its own")
    for name, cases in by.items():
        value = settled.get(name)
        if isinstance(value, str | int | float):
            settled |= cases.get(value, {})
    return settled


def _by(recipe: dict[str, Any]) -> dict[str, dict[Any, dict[str, Any]]]:
    by = recipe.get("by") or {}
    cases = list(by.values()) if isinstance(by, dict) else [None]
    if not all(isinstance(c, dict) and all(isinstance(s, dict) for s in c.values()) for c in cases):
        raise Error(
            "by must say, for values of a parameter, what others are: "
            "`by: {imbalance_factor: {50: {stage2_weight_decay: 2.0e-4}}}`"
        )
    return by


def _set_by(by) -> list[str]:
    return [name for cases in by.values() for case in cases.values() for name in case]


def expand(
    recipe: dict[str, Any], declared: dict[str, tuple[Any, str]]
) -> dict[str, dict[str, Any]]:
    """The points of a grid: name to parameters.

    A parameter that is declared as one value is an axis of the grid where the recipe gives it a
    list, or a range ``{from: a, to: b, step: c}`` with both ends; one that is declared as a list is
    an axis where it is given a list of lists. ``sweep: product`` (the default) combines all axes,
    ``sweep: zip`` goes through them side by side, and a list of mappings, ``sweep: [{model:
    resnet20, seed: 3}, ...]``, is an explicit table, combined with the axes if there are any. Each
    point is settled (``settle``) by itself.

    Arguments: ``recipe`` parameters; ``declared`` name to (default, type) of the notebooks.
    Returns: points in the order of the recipe, the last axis fastest, each named by its values.
    Raises: ``h2t.Error`` for no axes, an empty axis or range, axes of different lengths under zip,
    a table that is no list of mappings or fixes what is an axis too, two points of one name, and
    more than ``POINTS``.
    """
    by, fixed = _by(recipe), {k: v for k, v in recipe.items() if k not in ("sweep", "by")}
    mode, table = recipe.get("sweep", "product"), [{}]
    if isinstance(mode, list):
        mode, table = "product", _table(mode)
    elif mode not in MODES:
        raise Error(
            f"sweep is {quoted(mode)}; write product, zip, or a list of mappings, one for each run"
        )
    axes = {k: _axis(k, v) for k, v in fixed.items() if _is_axis(v, declared.get(k, (None, ""))[1])}
    fixed = {k: v for k, v in fixed.items() if k not in axes}
    tabled = list(dict.fromkeys(k for row in table for k in row))
    _check_axes(axes, tabled, _set_by(by), mode)
    points: dict[str, dict[str, Any]] = {}
    for row, values in itertools.product(table, _combined(axes, mode, len(table))):
        given = settle({**fixed, **row, **values, "by": by}, declared)
        # a row may leave a column to its default
        name = _name({k: given[k] for k in (*tabled, *axes) if k in given})
        if name in points:
            same = "one row or value is there twice"
            apart = "their values differ only in what a folder's name cannot hold"
            why = same if points[name] == given else apart
            raise Error(f"two points of the grid would share the run {name!r}; {why}")
        points[name] = given
    return points


def _check_axes(axes, tabled: list[str], dependent: list[str], mode: str) -> None:
    if both := [k for k in (*axes, *tabled) if k in dependent]:
        raise Error(
            f"{both[0]} is an axis of the grid and is set by another parameter under by; keep one "
            f"of them, such as with `-p {both[0]} VALUE`"
        )
    if both := [k for k in tabled if k in axes]:
        raise Error(
            f"{both[0]} is an axis of the grid and a column of the table under sweep; keep one"
        )
    if not axes and not tabled:
        raise Error(
            "the recipe has one point only: give a parameter a list of values, such as "
            "`seed: [0, 1, 2]`, or use `h2t run`"
        )
    if mode == "zip" and len({len(v) for v in axes.values()}) > 1:
        lengths = ", ".join(f"{k} has {len(v)}" for k, v in axes.items())
        raise Error(
            "sweep: zip goes through the lists side by side, so they must be of one length; "
            f"{lengths}"
        )


def _combined(axes: dict[str, list[Any]], mode: str, rows: int) -> list[dict[str, Any]]:
    """The values of the axes, a mapping each point."""
    lengths = [len(v) for v in axes.values()]
    number = rows * (lengths[0] if mode == "zip" and lengths else math.prod(lengths))
    if number > POINTS:
        raise Error(f"the grid has {number:,} runs; that is more than one can want")
    combine = zip if mode == "zip" else itertools.product
    combined = combine(*axes.values()) if axes else [()]
    return [dict(zip(axes, values, strict=True)) for values in combined]


def _is_axis(value: Any, kind: str) -> bool:
    if isinstance(value, dict):
        return True
    if kind.startswith("list"):
        return isinstance(value, list) and any(isinstance(v, list) for v in value)
    return isinstance(value, list)


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
        raise Error(
            f"{name} is {quoted(value)}; a range is {{from: A, to: B}} or "
            "{from: A, to: B, step: C} of numbers, A <= B, C > 0"
        )
    steps = (high - low) / step + 1e-9
    if steps >= POINTS:  # also where it is infinite
        raise Error(f"{name} has {steps:,.0f} values; that is more runs than one can want")
    values = (low + k * step for k in range(math.floor(steps) + 1))
    whole = isinstance(low, int) and isinstance(step, int)
    return list(values) if whole else [round(v, 10) for v in values]


def _table(rows: list[Any]) -> list[dict[str, Any]]:
    if not rows or not all(
        isinstance(r, dict) and r and all(isinstance(k, str) for k in r) for r in rows
    ):
        raise Error(
            "sweep is a list, so each of its entries must be a mapping such as "
            "{model: resnet20, seed: 3}"
        )
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
