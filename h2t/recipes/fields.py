"""Fields of the parameter dataclasses: their limits, and the checks of type and range on construction."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import field
from typing import Any

from h2t.base.errors import Error


def limited(default, *, low=None, high=None, choices=None, above=None):
    """A dataclass field with a default and limits: at least ``low``, at most ``high``, greater than ``above``, one of ``choices``."""
    if isinstance(default, list):
        default = tuple(default)
    return field(
        default=default, metadata={"low": low, "high": high, "choices": choices, "above": above}
    )


_hints = functools.cache(typing.get_type_hints)


class Config:
    """Type and range checks shared by the three dataclasses."""

    def __post_init__(self):
        hints = _hints(type(self))
        for f in dataclasses.fields(self):
            value = _typed(f.name, getattr(self, f.name), hints[f.name])
            object.__setattr__(self, f.name, value)
            _in_range(f.name, value, f.metadata)

    @classmethod
    def of(cls, parameters: dict[str, Any]):
        """Take this step's fields out of a larger mapping, such as a recipe or a notebook's ``globals()``."""
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in parameters.items() if k in names})

    def to_dict(self) -> dict[str, Any]:
        values = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values}


def _typed(name: str, value, hint):
    def wrong() -> Error:
        return Error(
            f"{name} is {value!r} ({type(value).__name__}); it must be {_hint_name(hint)}{_hint_mend(value, hint)}"
        )

    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise wrong()
        item = typing.get_args(hint)[0]
        return tuple(_typed(name, v, item) for v in value)
    if isinstance(hint, types.UnionType):
        raise TypeError(hint)
    if isinstance(value, bool) and hint is not bool:
        raise wrong()
    if hint is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, hint):
        raise wrong()
    return value


def _hint_name(hint) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {_hint_name(typing.get_args(hint)[0])[2:]}s"
    return {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "a boolean (true or false)",
    }[hint]


def _hint_mend(value, hint) -> str:
    if hint is float and isinstance(value, str):
        try:
            plain = repr(float(value))
            return f"; YAML reads 1e-3 as text, write {plain if '.' in plain else plain.replace('e', '.0e')}"
        except ValueError:
            pass
    return ""


def _in_range(name: str, value, limits) -> None:
    for v in value if isinstance(value, tuple) else (value,):
        if isinstance(v, float) and not math.isfinite(v):
            raise Error(f"{name} is {v}; it must be finite")
        if limits.get("choices") and v not in limits["choices"]:
            raise Error(f"{name} is {v!r}; choose one of {', '.join(map(str, limits['choices']))}")
        low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
        if (low is not None and v < low) or (high is not None and v > high):
            span = f"in [{low}, {high}]" if high is not None else f"at least {low}"
            raise Error(f"{name} is {v}; it must be {span}")
        if above is not None and v <= above:
            raise Error(f"{name} is {v}; it must be greater than {above}")
