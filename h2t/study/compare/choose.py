"""Rows of the table of runs by a condition such as ``seed < 3 and method == "DR"``."""

import ast

from h2t.base.errors import Error, quoted

# All that a condition may hold: no call, no attribute, no index, so that none can do anything.
_ALLOWED = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Name, ast.Constant, ast.List, ast.Tuple)
_ALLOWED += (ast.And, ast.Or, ast.Not, ast.USub, ast.expr_context, ast.Expression)
_ALLOWED += (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)


def choose(table, query: str = ""):
    """The rows for which a condition holds; one about what a row lacks does not.

    Arguments: ``query`` over the table's columns: comparisons with numbers and texts, ``in``,
    ``and``, ``or``, ``not``; empty takes all rows. Raises: ``h2t.Error`` for one that cannot be
    read or leaves nothing.
    """
    if not query.strip():
        return table
    try:
        rows = table[_holds(table, query.strip())]
    except Exception as e:  # pandas raises what it likes of a comparison that cannot be
        example = "imbalance_factor > 50 and method in ['DR', 'DR + H2T']"
        raise Error(
            f"choose is {quoted(query)}, which cannot be read: {quoted(str(e))}; "
            f"compare columns of table.csv, such as: {example}"
        ) from None
    if not len(rows):
        raise Error(
            f"choose = {quoted(query)} leaves none of the {len(table)} steps; see table.csv"
        )
    return rows


def _holds(table, query: str):
    """Which rows a condition holds for, a Series of bool."""
    for node in ast.walk(ast.parse(query, mode="eval")):
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"{ast.unparse(node)} is no comparison of a column")
    found = table.eval(query, engine="python")
    if getattr(found, "dtype", None) not in (bool, "boolean"):
        raise ValueError("it is no comparison of a column")
    return found.fillna(False).astype(bool)
