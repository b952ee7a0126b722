"""A table of texts as people meet it: aligned in a terminal, as Markdown, or as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def number(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A measure as tables show it: ``48.30``, with its ``sign`` if asked for, empty for None."""
    if value is None or value != value:  # NaN: a measure that does not exist
        return ""
    value = round(float(value), digits) + 0.0  # -0.04 is shown as 0.0, not as -0.0
    return format(value, f"+.{digits}f" if sign else f".{digits}f")


def plain(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Columns of a terminal: the first ``left`` ones to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(_aligned(line, widths, left).rstrip() for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int], left: int) -> str:
    cells = zip(line, widths, strict=True)
    return "  ".join(c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(cells))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of GitHub's Markdown; a ``|`` within a cell stays a character."""
    ruler = ["---"] * len(header)
    lines = [header, ruler, *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def markup(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table; what cells hold is escaped."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
