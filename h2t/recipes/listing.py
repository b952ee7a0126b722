"""The parameters as people read them: all in blocks, or one with all that is known of it."""

from __future__ import annotations

import textwrap

from h2t.base.errors import Error
from h2t.base.tables import plain
from h2t.recipes.parameters import STEPS, described_parameters
from h2t.recipes.validation import Described, described, unknown

BLOCKS = ("images", "long tail", "held out", "network", "loss", "stage 2", "fusion", "optimiser")
BLOCKS += ("augmentation", "control", "this machine")
BOOKS = ("01", "02", "03", "03")  # whose parameters those of a step are


def listed() -> str:
    """Every parameter, block by block: name, default, what it may be, and its text."""
    known, rows = described_parameters(), []
    for block in BLOCKS:
        inside = [it for it in known.values() if it.group == block]
        rows += [("", "", "", ""), (block.upper(), "", "", ""), *map(_row, inside)]
    own = "run: the run directory; method: a method by name, see `h2t methods`."
    table = plain(("", "default", "range", ""), rows, left=4)
    return f"{table}\n\n{own}\n`h2t parameters NAME` says more."


def _row(it: Described) -> tuple[str, str, str, str]:
    limits = it.limits if len(it.limits) <= 30 else f"{len(it.choices)} choices"
    return it.name, _written(it.default), limits, it.text


def _written(default) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default) or '""'


def explained(name: str) -> str:
    """What a parameter is, what it may be, its default and where it belongs."""
    known = described_parameters()
    if name not in known:
        raise Error(unknown(name, known))
    it = known[name]
    books = [book for book, step in zip(BOOKS, STEPS, strict=True) if name in described(step)]
    lines = [f"{name}: {it.text}", *textwrap.wrap(it.more, 96)]
    lines += [f"default: {_written(it.default)}", *textwrap.wrap(f"range: {it.limits}", 96)]
    lines += [f"block: {it.group}, of notebook {' and '.join(dict.fromkeys(books))}"]
    return "\n  ".join(lines)
