"""A table as a ledger keeps it: numbers as they are printed, and what each row rests on.

A measure X stands in columns X and ``X ±`` (a deviation), or ``X low`` and ``X high`` (an
interval); ``X sure`` says yes where a corrected test supports it.
"""

import functools
from pathlib import Path

from h2t.base import tables
from h2t.base.files import resolve, write_atomic
from h2t.base.machine import environment
from h2t.study.compare import units
from h2t.study.compare.groups import brief

BASIS = ("revision", "h2t", "torch", "device_name", "precision_used", "stage1_seed", "seed")
BASIS += ("split", "stage1_weights", "weights_sha256", "source")
_PARTS = (" ±", " low", " high", " sure")


def basis(rows) -> dict[str, str]:
    """What rows of ``h2t.table`` rest on: code, versions, devices, seeds, split and weights."""
    there = [c for c in BASIS if c in rows]
    return {c: " ".join(sorted({brief(v) for v in rows[c].dropna()})) for c in there}


@functools.cache
def made_by(device: str = "cpu") -> dict[str, str]:
    """Code, versions and device of rows that no run records."""
    made = environment(device)
    name = made["cpu"] if made["device"] == "cpu" else made["device"]
    own = {"torch": made["packages"]["torch"], "device_name": name}
    return {k: made[k] for k in ("revision", "h2t")} | own


def cells(name: str, row) -> dict[str, str]:
    """The columns of a measure, of a row with mean, std and within."""
    return {name: tables.number(row["mean"]), f"{name} ±": tables.number(units.error(row))}


def tested(name: str, test) -> dict[str, str]:
    """The columns of a difference with its interval, and whether its corrected test is sure."""
    shown = {name: test["difference"], f"{name} low": test["low"], f"{name} high": test["high"]}
    sure = "yes" if test["p_holm"] < units.ALPHA else ""
    return {k: tables.number(v, sign=True) for k, v in shown.items()} | {f"{name} sure": sure}


def markdown(table, columns=()) -> str:
    """Rows of a ledger as Markdown, without what they rest on.

    Arguments: ``table`` a DataFrame of texts; ``columns`` to show, else all with anything in them.
    """
    return tables.markdown(*texts(table, columns))


def texts(table, columns=(), strong: str = "**") -> tuple[list[str], list[list[str]]]:
    """Header and rows of a ledger as a reader sees them; what is sure stands between ``strong``."""
    table = table.fillna("")
    own = [c for c in table if c not in BASIS and not c.endswith(_PARTS)]
    shown = list(columns) or [c for c in own if (table[c] != "").any()]
    return shown, [[_cell(row, c, strong) for c in shown] for row in table.to_dict("records")]


def _cell(row: dict[str, str], name: str, strong: str) -> str:
    text, (error, low, high, sure) = row[name], (row.get(name + part, "") for part in _PARTS)
    text = f"{strong}{text}{strong}" if sure else text
    if low:
        return f"{text} ({low} to {high})"
    return f"{text} ± {error}" if error else text or "–"


def save(table, file: str | Path) -> Path:
    """Write a ledger as CSV. Returns: the file."""
    file = resolve(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, table.to_csv(index=False).encode())
    return file
