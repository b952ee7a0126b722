"""The tables of the READMEs, written from their ledgers in notebooks/results.

python -m tests.tables writes them anew. Above each table stands which it is, and maybe which of its
columns: <!-- table: control.csv; fusion, BN sees, all --> (without rows that are empty there).
Above what a command printed stands where that is kept: <!-- output: digits.txt -->
"""

import re

import pandas as pd

from h2t.study.compare import ledger
from tests.helpers import ROOT

PAGES = ("README.md", "notebooks/results/README.md")
TABLE = re.compile(r"<!-- table: (?P<file>\S+)(?:; (?P<columns>.*))? -->\n(?P<rows>(?:\|.*\n)*)")
OUTPUT = re.compile(r"(<!-- output: (\S+) -->\n```text\n)[^`]*```")


def rows(file: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "notebooks" / "results" / file, dtype=str, keep_default_na=False)


def written(page: str) -> str:
    """A page with its tables as the ledgers have them."""

    def table(found: re.Match) -> str:
        columns, table = [], rows(found["file"])
        if found["columns"]:
            columns = found["columns"].split(", ")
            table = table[(table[columns] != "").any(axis=1)]
        first = found[0].splitlines()[0]
        return f"{first}\n{ledger.markdown(table, columns)}\n"

    def output(found: re.Match) -> str:
        return f"{found[1]}{(ROOT / 'notebooks' / 'results' / found[2]).read_text()}```"

    return OUTPUT.sub(output, TABLE.sub(table, (ROOT / page).read_text(encoding="utf-8")))


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / name).write_text(written(name), encoding="utf-8")
