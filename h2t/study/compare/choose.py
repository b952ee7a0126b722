"""Rows of the table of runs by a condition such as ``seed < 3 and method == "DR"``.

The condition is read, never run: it holds columns, numbers, texts, comparisons, ``and``, ``or``,
``not`` and parentheses.
"""

from __future__ import annotations

import ast
import operator

from h2t.base.errors import Error

LONGEST = 2000  # letters of a condition
_COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_HELP = "write such as: imbalance_factor > 50 and method in ['DR', 'DR + H2T']"


def choose(table, query: str = "", methods=()):
    """The rows of a table that a condition and a list of methods select.

    Arguments: ``query`` over the table's columns; empty takes all rows. ``methods`` names, empty
    for all.
    Raises: ``h2t.Error`` for a condition that cannot be read, a method that is not there, or where
    nothing is left.
    """
    rows = table[matches(table, query)] if query.strip() else table
    if not len(rows):
        raise Error(f"choose = {cut(query)} leaves none of the {len(table)} steps; see table.csv")
    there = list(rows["method"].unique())
    for method in methods:
        if method not in there:
            raise Error(
                f"methods names {cut(method)}, which is not among the chosen runs; "
                f"they have {', '.join(map(repr, there))}"
            )
    return rows[rows["method"].isin(list(methods))] if len(methods) else rows


def matches(table, query: str):
    """Which rows a condition holds for, a Series of bool; a comparison with what a row lacks does
    not hold.

    Raises: ``h2t.Error`` for a condition that cannot be read, or a column that is not there.
    """
    if len(query) > LONGEST:
        raise Error(f"choose has {len(query):,} letters, more than {LONGEST:,}; name fewer values")
    try:
        tree = ast.parse(query.strip(), mode="eval").body
        found = _Condition(table).holds(tree)
    except Error as e:
        raise Error(f"choose is {cut(query)}, which cannot be read: {e}; {_HELP}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Error(f"choose is {cut(query)}, which cannot be read; {_HELP}") from None
    return found


def cut(text, letters: int = 60) -> str:
    """What somebody wrote, quoted, and cut where it is long."""
    text = str(text)
    return repr(text if len(text) <= letters else text[: letters - 1] + "…")


class _Condition:
    """The parts of a condition over a table; whatever is none of them is refused by name."""

    def __init__(self, table):
        self.table = table

    def holds(self, node: ast.expr):
        """A part that is true or false of each row."""
        if isinstance(node, ast.BoolOp):
            parts = [self.holds(v) for v in node.values]
            join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            found = parts[0]
            for part in parts[1:]:
                found = join(found, part)
            return found
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.holds(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]  # 0 < seed < 5 is two comparisons
            steps = zip(sides, node.ops, sides[1:], strict=False)
            found = self._compared(*next(steps))
            for step in steps:
                found = found & self._compared(*step)
            return found
        if isinstance(node, ast.Name):
            column = self._column(node.id)
            if column.dtype in (bool, "boolean"):
                return column.fillna(False).astype(bool)
        raise Error(f"{cut(ast.unparse(node))} is no comparison")

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr):
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(left, ast.Name) or not isinstance(right, ast.List | ast.Tuple):
                raise Error("`in` goes between a column and a list in brackets")
            found = self._column(left.id).isin([self._constant(v) for v in right.elts])
            return ~found if isinstance(op, ast.NotIn) else found
        sides = [
            self._column(s.id) if isinstance(s, ast.Name) else self._constant(s)
            for s in (left, right)
        ]
        if type(op) not in _COMPARE or not any(isinstance(s, ast.Name) for s in (left, right)):
            raise Error(f"{cut(ast.unparse(ast.Compare(left, [op], [right])))} compares no column")
        try:
            found = _COMPARE[type(op)](*sides)
        except TypeError:
            kind = "numbers and texts have no order between them"
            raise Error(f"{cut(ast.unparse(ast.Compare(left, [op], [right])))}: {kind}") from None
        return found.fillna(False).astype(bool)

    def _column(self, name: str):
        if name not in self.table:
            raise Error(f"{cut(name)} is no column of table.csv")
        return self.table[name]

    @staticmethod
    def _constant(node: ast.expr):
        sign, inner = 1, node
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            sign, inner = -1, node.operand
        if isinstance(inner, ast.Constant):
            value = inner.value
            if sign == 1 and isinstance(value, str | bool | int | float):
                return value
            if isinstance(value, int | float):
                return -value
        raise Error(f"{cut(ast.unparse(node))} is neither a number nor a text in quotes")
