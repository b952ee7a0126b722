"""The one exception a user of h2t meets, and what its messages are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Error(Exception):
    """A mistake in what was asked for: one message that names it and says what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback (its documented hook): one sentence."""
        return [f"{type(self).__name__}: {self}"]


_MENDS = {
    "OutOfMemoryError": "the GPU's memory is full: lower batch_size, or let fewer runs share it "
    "(--jobs), then run again",
    "MemoryError": "main memory is full: lower batch_size, or run fewer at a time (--jobs), then "
    "run again",
}


def named(kind: str, message: str) -> str:
    """An exception of another package as one line, with what to do about it where that is known.

    Arguments: ``kind`` the exception's class; ``message`` what it says.
    """
    said = f"{kind}: {' '.join(message.split())}" if message.strip() else kind
    return f"{said}; {_MENDS[kind]}" if kind in _MENDS else said


def nearest(value: object, known: Iterable[object]) -> str:
    """`` did you mean 'this' or 'that'?``: the known names next to a wrong one, if any are near."""
    near = difflib.get_close_matches(str(value)[:100], [str(name) for name in known], 3, 0.5)
    return f" did you mean {' or '.join(map(repr, near))}?" if near else ""


def quoted(value: object, length: int = 80) -> str:
    """A value as a message quotes it: its ``repr``, cut to some length; any value has one."""
    try:
        said = repr(value)
    except (ValueError, RecursionError):  # a number of over 4,300 digits, a list within itself
        said = f"a {type(value).__name__} too large to show"
    return said if len(said) <= length else f"{said[: length - 20]} ... {said[-12:]}"
