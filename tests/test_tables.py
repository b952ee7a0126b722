"""Every figure in a table of the READMEs is a row of a ledger, which says what it rests on."""

import re

import pytest

from h2t import Run
from h2t.study.compare.overview import ending
from tests import tables
from tests.helpers import ROOT
from tests.synthetic import repeats

LEDGERS = sorted(p.name for p in (ROOT / "notebooks" / "results").glob("*.csv"))


@pytest.mark.parametrize("page", tables.PAGES)
def test_the_tables_are_those_of_the_ledgers(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == tables.written(page), "python -m tests.tables writes them anew"


@pytest.mark.parametrize("page", tables.PAGES)
def test_no_table_has_a_figure_without_a_ledger(page):
    """What is left of a page without its generated tables has no measured number in a row."""
    text = tables.TABLE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    odd = [x for x in text.splitlines() if x.startswith("|") and re.search(r"\d[.,]\d", x)]
    assert not odd


@pytest.mark.parametrize("name", LEDGERS)
def test_a_row_says_when_and_on_what_it_was_measured(name):
    rows = tables.rows(name)
    assert len(rows) and (rows["revision"] != "").all() and (rows["device_name"] != "").all()
    assert (rows["torch"] != "").all()
    hashed = sum((rows[k] for k in ("split", "weights_sha256") if k in rows), rows["revision"] * 0)
    typed = rows["source"] if "source" in rows else rows["revision"] * 0
    for has, said in zip(hashed, typed, strict=True):
        assert has or re.fullmatch(r"measured earlier, at revision \w+, .*", said)


def _form(text: str) -> list[str]:
    """A run's end without its numbers, its spaces and its place, as words."""
    text = re.sub(r"run directory: \S+", "", re.sub(r"(report|explore) \S+", r"\1", text))
    return re.sub(r"[-+]?\d[\d.]*", "0", text).replace("uv run ", "").split()


def test_the_first_command_ends_as_the_readme_shows(tmp_path):
    shown = tables.OUTPUT.search((ROOT / "README.md").read_text(encoding="utf-8"))[0]
    run = repeats(tmp_path / "r", 5)
    assert _form(ending(Run(run))) == _form(shown.split("```text\n")[1].removesuffix("```"))


@pytest.mark.parametrize("name", LEDGERS)
def test_every_ledger_is_shown(name):
    assert any(f"table: {name}" in (ROOT / page).read_text() for page in tables.PAGES)
