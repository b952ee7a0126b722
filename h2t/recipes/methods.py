"""Methods by name, each a stage 1 with the stage 2 that goes with it: the reader of methods.yaml.

A method's name in place of parameters, ``method: mislas`` in a recipe or ``-p method mislas`` on
the command line, stands for its settings at the recipe's imbalance factor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from h2t.base.errors import Error, nearest, quoted
from h2t.base.readers import parse_yaml
from h2t.recipes import combinations
from h2t.recipes.parameters import Data, Stage1, Stage2

FACTORS = (200, 100, 50, 10)
_FILE = parse_yaml((resources.files("h2t.recipes") / "methods.yaml").read_text(encoding="utf-8"))
COMMON, SETTINGS = _FILE["common"], _FILE["settings"]
SETS = tuple(SETTINGS)  # what a method sets; the rest (epochs of stage 1, rate, ...) all share
ONE_BY_ONE = "give the parameters that `h2t methods NAME` lists one by one"


@dataclass(frozen=True)
class Method:
    """A method: what it is, where from, and at which imbalance factors it can be had.

    ``borrowed`` are factors at which nobody published the settings of one of its stages.
    """

    title: str
    source: str
    given: Mapping[str, Any]
    by_factor: Mapping[int, Mapping[str, Any]]
    factors: tuple[int, ...]
    borrowed: tuple[int, ...]

    def settings(self, factor: int) -> dict[str, Any]:
        """A value for each of ``SETS`` at an imbalance factor."""
        return {**SETTINGS, **self.given, **self.by_factor.get(factor, {})}

    def at(self, factor: int) -> tuple[Stage1, Stage2]:
        """Both stages of the published protocol at an imbalance factor."""
        whole = {**COMMON, **self.settings(factor)}
        return Stage1.of(whole), Stage2.of(whole)


def _method(entry: Mapping[str, Any]) -> Method:
    given = {name: value for name, value in entry.items() if name in SETS}
    factors, borrowed = entry.get("factors", FACTORS), entry.get("borrowed", ())
    by_factor = entry.get("by_factor", {})
    about = entry["title"], entry["source"]
    return Method(*about, given, by_factor, tuple(factors), tuple(borrowed))


METHODS = {name: _method(entry) for name, entry in _FILE["methods"].items()}


def settings(method: str, imbalance_factor: float, source: str = "") -> dict[str, Any]:
    """The parameters that a method's name stands for at an imbalance factor: all of ``SETS``.

    Arguments: ``source`` of the images, where it is known. Raises: ``h2t.Error`` for an unknown
    name, an imbalance factor without settings, or the settings of another data set.
    """
    if not isinstance(method, str) or method not in METHODS:
        near = nearest(quoted(method).strip("'"), METHODS)
        raise Error(f"method is {quoted(method)};{near} `h2t methods` lists those that are known")
    found = METHODS[method]
    if imbalance_factor not in found.factors:
        raise Error(
            f"there are no settings of method {method} at imbalance_factor {imbalance_factor:g}, "
            f"only at {', '.join(map(str, found.factors))}; take one of these, or {ONE_BY_ONE}"
        )
    base = method.removesuffix("_cifar10")
    own = {"cifar10": f"{base}_cifar10", "cifar100": base}.get(source, method)
    if method != own and own in METHODS:
        raise Error(f"method {method} is not for source {source}; use method {own}")
    return found.settings(int(imbalance_factor))


def spelt_out(
    given: Mapping[str, Any], defaults: Mapping[str, Any], yielding: Collection[str] = ()
) -> dict[str, Any]:
    """Parameters with a method's settings in place of its name, which is dropped.

    What is given beside a method wins over its settings, except the names in ``yielding``.

    Arguments: ``defaults`` of parameters that are not given. Raises: ``h2t.Error`` as ``settings``.
    """
    if "method" not in given:
        return combinations.settled(given)
    names = ("imbalance_factor", "source", "profile")
    factor, source, profile = (given.get(k, defaults[k]) for k in names)
    if profile == "natural":
        raise Error(
            f"method {quoted(given['method'])} has its settings by imbalance factor, which profile "
            f"natural leaves as it is; {ONE_BY_ONE}"
        )
    own = settings(given["method"], Data(imbalance_factor=factor).imbalance_factor, source)
    dropped = {"method", *(set(yielding) & set(own))}
    beside = {name: value for name, value in given.items() if name not in dropped}
    return combinations.settled({**own, **beside})


def merged(
    recipe: Mapping[str, Any], overrides: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """A recipe with overrides, methods spelt out: theirs wins over the rest of the recipe."""
    low = set(recipe) - set(overrides) if "method" in overrides else ()
    return spelt_out({**recipe, **overrides}, defaults, low)


def table() -> list[tuple[str, ...]]:
    """What methods there are, a row each under a header; a star marks a factor as borrowed."""
    rows = [("name", "method", "source", "imbalance factors")]
    for name, it in METHODS.items():
        factors = (f"{k}{'*' if k in it.borrowed else ''}" for k in it.factors)
        rows.append((name, it.title, it.source, ", ".join(factors)))
    return rows
