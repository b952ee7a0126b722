"""Rows of the table of runs by a condition such as ``seed < 3 and method == "DR"``."""

from __future__ import annotations

import ast

from h2t.base.errors import Error

# All that a condition may hold: no call, no attribute, no index, so that none can do anything.
_ALLOWED = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Name, ast.Constant, ast.List, ast.Tuple)
_ALLOWED += (ast.And, ast.Or, ast.Not, ast.USub, ast.expr_context, ast.Expression)
_ALLOWED += (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
_HELP = "write such as: imbalance_factor > 50 and method in ['DR', 'DR + H2T']"


def choose(table, query: str = "", methods=()):
    """The rows of a table that a condition and a list of methods select.

    Arguments: ``query`` over the table's columns: comparisons with numbers and texts, ``in``,
    ``and``, ``or``, ``not``; empty takes all rows. ``methods`` names, empty for all.
    Raises: ``h2t.Error`` for a condition that cannot be read, a method that is not there, or where
    nothing is left.
    """
    rows = table[_holds(table, query.strip())] if query.strip() else table
    if not len(rows):
        raise Error(f"choose = {_cut(query)} leaves none of the {len(table)} steps; see table.csv")
    there = list(rows["method"].unique())
    for method in methods:
        if method not in there:
            named = f"methods names {_cut(method)}, which is not among the chosen runs"
            raise Error(f"{named}; they have {', '.join(map(repr, there))}")
    return rows[rows["method"].isin(list(methods))] if len(methods) else rows


def _holds(table, query: str):
    """Which rows a condition holds for, a Series of bool; one about what a row lacks does not."""
    try:
        tree = ast.parse(query, mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in table:
                raise Error(f"{_cut(node.id)} is no column of table.csv")
            odd = isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float)
            if odd or not isinstance(node, _ALLOWED):
                raise Error(f"{_cut(ast.unparse(node))} is no comparison of a column")
        found = table.eval(query, engine="python")
        if getattr(found, "dtype", None) not in (bool, "boolean"):
            raise Error("it is no comparison of a column")
        return found.fillna(False).astype(bool)
    except Error as e:
        raise Error(f"choose is {_cut(query)}, which cannot be read: {e}; {_HELP}") from None
    except Exception as e:  # pandas raises what it likes of a comparison that cannot be
        why = f"{type(e).__name__}, {_cut(e)}"
        raise Error(f"choose is {_cut(query)}, which cannot be read: {why}; {_HELP}") from None


def _cut(text, letters: int = 60) -> str:
    """What somebody wrote, quoted, and cut where it is long."""
    text = str(text)
    return repr(text if len(text) <= letters else text[: letters - 1] + "…")
