"""A table of texts as people meet it: aligned in a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A measure as tables show it: ``48.30``, with its ``sign`` if asked for, empty for None."""
    if value is None or value != value:  # NaN: a measure that does not exist
        return ""
    value = round(float(value), digits) + 0.0  # -0.04 is shown as 0.0, not as -0.0
    return format(value, f"+.{digits}f" if sign else f".{digits}f")


def plain(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Columns of a terminal: the first ``left`` ones to the left, the others to the right."""
    columns = []
    for k, cells in enumerate(zip(header, *rows, strict=True)):
        width = max(map(len, cells))
        columns.append([c.ljust(width) if k < left else c.rjust(width) for c in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of GitHub's Markdown; a ``|`` within a cell stays a character."""
    lines = [[c.replace("|", "\\|") for c in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
