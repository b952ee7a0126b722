"""The door of the parameters: pydantic checks, and what it refuses is said in one sentence."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from h2t.base.errors import Error, nearest, quoted

SEED = {"ge": 0, "le": 2**32 - 1}
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid", str_max_length=4096)
step = dataclass(frozen=True, config=_STRICT)
# JSON schema's kinds, in words
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "a boolean (true or false)",
    "array": "a list of numbers",
}


def block(group: str):
    """A function that makes the fields of one headed block.

    It takes a field's default, its text (the first line is what notebooks show beside it, the
    others are further explanation) and its limits, as ``pydantic.Field`` names them.
    """

    def made(default: Any, text: str, **limits: Any) -> Any:
        extra = {"group": group}
        if isinstance(default, list):  # a list in notebooks and recipes, a tuple once it is checked
            default, limits = tuple(default), {"strict": False, "max_length": 20, **limits}
        return Field(default=default, description=text, json_schema_extra=extra, **limits)

    return made


class Parameters:
    """A step's parameters: a frozen dataclass that refuses wrong values with ``h2t.Error``."""

    @model_validator(mode="wrap")
    @classmethod
    def _door(cls, given, check):
        try:
            return check(given)
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
        raise Error(_sentence(described(cls), first))

    @classmethod
    def of(cls, parameters: Mapping[str, Any]):
        """Take this step's parameters out of a larger mapping, such as a recipe."""
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in parameters.items() if k in names})

    def to_dict(self) -> dict[str, Any]:
        values = vars(self).items()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values if k[0] != "_"}


@dataclasses.dataclass(frozen=True)
class Described:
    """What is known of a parameter."""

    name: str
    group: str
    default: Any
    kind: str
    text: str
    more: str
    choices: tuple
    low: float | None
    high: float | None
    above: float | None

    @property
    def limits(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        each = "each " if self.kind == "array" else ""
        if self.above is not None:
            return f"{each}above {self.above:g}, at most {self.high:g}"
        if self.high is not None:
            return f"{each}in [{self.low:.10g}, {self.high:.10g}]"
        return "true or false" if self.kind == "boolean" else _KINDS[self.kind]


@functools.cache
def described(cls: type[Parameters]) -> dict[str, Described]:
    """What a step's parameters are, by name."""
    schema = TypeAdapter(cls).json_schema()["properties"]
    return {name: _described(name, of) for name, of in schema.items()}


def _described(name: str, schema: dict[str, Any]) -> Described:
    text, _, more = schema["description"].partition("\n")
    one = schema.get("items", schema)
    limits = (one.get(k) for k in ("minimum", "maximum", "exclusiveMinimum"))
    kind, choices = schema["type"], tuple(schema.get("enum", ()))
    return Described(name, schema["group"], schema["default"], kind, text, more, choices, *limits)


def _sentence(known: Mapping[str, Described], error: Mapping[str, Any]) -> str:
    """pydantic's error as a sentence with the parameter, the value and what it must be."""
    name, *inside = map(str, error["loc"])
    if name not in known:
        return unknown(name, known)
    value, it, kind = error["input"], known[name], error["type"]
    said = f"{name} is {quoted(value)}"
    if kind == "literal_error":
        near = nearest(value, it.choices)
        return f"{said}; choose {it.limits}" + (f";{near}" if near else "")
    if kind == "finite_number":
        return f"{said}; it must be finite"
    if kind in ("greater_than", "greater_than_equal", "less_than_equal"):
        return f"{said}; it must be {it.limits.removeprefix('each ')}"
    if kind in ("too_long", "string_too_long"):
        what = "characters" if it.kind == "string" else "entries"
        return f"{said}; it must have at most {error['ctx']['max_length']} {what}"
    wanted = _KINDS["number" if inside else it.kind]
    return f"{said} ({type(value).__name__}); it must be {wanted}{_written(value, it)}"


def _written(value: Any, of: Described) -> str:
    """How a number is written that YAML takes for a text."""
    if of.kind in ("number", "array") and isinstance(value, str):
        try:
            plain = repr(float(value))
        except ValueError:
            return ""
        plain = plain if "." in plain else plain.replace("e", ".0e")
        return f"; YAML reads 1e-3 as text, write {plain}"
    return ""


def unknown(name: str, known: Collection[str]) -> str:
    """The sentence for a name that nothing declares: the nearest ones, and where all are."""
    return f"unknown parameter {quoted(name)};{nearest(name, known)} `h2t parameters` lists all"
