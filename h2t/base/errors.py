"""The one exception a user of h2t meets, and those of others in words."""


class Error(Exception):
    """A mistake in what was asked for: one message that names it and says what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback (its documented hook): one sentence."""
        return [f"{type(self).__name__}: {self}"]


_MENDS = {
    "OutOfMemoryError": "the GPU's memory is full: lower batch_size, or let fewer runs share it "
    "(--jobs, --gpus 1), then run again",
    "MemoryError": "main memory is full: lower batch_size, or run fewer at a time (--jobs), then "
    "run again",
}


def named(kind: str, message: str) -> str:
    """An exception of another package as one line, with what to do about it where that is known.

    Arguments: ``kind`` the exception's class; ``message`` what it says.
    """
    said = f"{kind}: {' '.join(message.split())}" if message.strip() else kind
    return f"{said}; {_MENDS[kind]}" if kind in _MENDS else said


def quoted(value: object, length: int = 80) -> str:
    """A value as a message quotes it: its ``repr``, cut to some length; any value has one."""
    try:
        said = repr(value)
    except (ValueError, RecursionError):  # a number of over 4,300 digits, a list within itself
        said = f"a {type(value).__name__} too large to show"
    return said if len(said) <= length else f"{said[: length - 20]} ... {said[-12:]}"
