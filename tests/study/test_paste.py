"""The table to paste: what may be bold, and how it is written."""

import itertools
import math

import pandas as pd
import pytest

from h2t import Error
from h2t.study.compare.groups import grouped, summary
from h2t.study.compare.paste import paste, supported
from h2t.study.compare.significance import pairwise
from tests import synthetic

many, single = synthetic.many, synthetic.single  # fixtures


def made_up(means, p, measure="all"):
    table = pd.DataFrame(
        [
            {
                "setting": "",
                "group": g,
                "measure": measure,
                "n": 5,
                "repeats": 5,
                "mean": m,
                "std": 0.5,
                "within": math.nan,
            }
            for g, m in means.items()
        ]
    )
    pairs = [
        {
            "setting": "",
            "measure": measure,
            "group": b,
            "against": a,
            "difference": means[b] - means[a],
            "p": 0.01,
            "p_holm": p[a + b],
            "test": "t",
        }
        for a, b in p_pairs(means)
    ]
    return table, pd.DataFrame(pairs)


def p_pairs(means):
    return list(itertools.combinations(means, 2))


@pytest.mark.parametrize(
    ("means", "p", "measure", "bold"),
    [
        ({"a": 50.0, "b": 52.0, "c": 48.0}, {"ab": 0.01, "ac": 0.9, "bc": 0.02}, "all", {"b"}),
        (
            {"a": 50.0, "b": 52.0, "c": 48.0},
            {"ab": 0.06, "ac": 0.01, "bc": 0.01},
            "all",
            set(),
        ),  # not against every other row
        (
            {"a": 50.0, "b": 52.0, "c": 48.0},
            {"ab": math.nan, "ac": 0.01, "bc": 0.01},
            "all",
            set(),
        ),  # one was not tested
        (
            {"a": 5.0, "b": 9.0, "c": 8.0},
            {"ab": 0.01, "ac": 0.01, "bc": 0.9},
            "ece",
            {"a"},
        ),  # lower is better
        ({"a": 50.0, "b": 52.0, "c": 48.0}, {"ab": 0.05, "ac": 0.01, "bc": 0.01}, "all", set()),
    ],
)
def test_bold_only_where_the_test_supports_it(means, p, measure, bold):
    table, tests = made_up(means, p, measure)
    assert {g for _, g, _ in supported(table, tests)} == bold
    text, tex = paste(table, tests), paste(table, tests, "latex")
    assert text.count("**") == 2 * len(bold) and tex.count(r"\textbf") == len(bold)
    for g in bold:
        assert (
            f"| {g} | 5 | **{means[g]:.2f} ± 0.50** |" in text
            and rf"{g} & 5 & \textbf{{{means[g]:.2f} ± 0.50}} \\" in tex
        )
    assert ("Nothing is bold" in text) == (not bold)


def test_a_single_row_is_never_bold(single):
    table = summary(grouped(single[1])[lambda r: r["group"] == "DR"], ("all",))
    tests = pairwise(grouped(single[1]), single[0], ("all",))
    assert supported(table, tests) == set() and "**" not in paste(table, tests)


def test_names_are_escaped_and_empty_groups_are_dashes():
    name = r"50% of a_b & c|d #1 {x} $"
    table = pd.DataFrame(
        [
            {
                "setting": "",
                "group": g,
                "measure": "many",
                "n": n,
                "repeats": n,
                "mean": m,
                "std": math.nan,
                "within": math.nan,
            }
            for g, m, n in ((name, 5.0, 1), ("b", math.nan, 0))
        ]
    )
    tests = pd.DataFrame(
        {
            "setting": [],
            "measure": [],
            "group": [],
            "against": [],
            "difference": [],
            "p": [],
            "p_holm": [],
            "test": [],
        }
    )
    text, tex = (
        paste(table, tests, notes=["a_b: averaged."]),
        paste(table, tests, "latex", notes=["a_b: averaged."]),
    )
    assert r"50\% of a\_b \& c|d \#1 \{x\} \$ & 1 & 5.00 \\" in tex
    assert tex.splitlines()[-1].startswith("% ") and tex.endswith("a_b: averaged.\n")
    assert r"b & 0 & – \\" in tex and "| b | 0 | – |" in text and r"c\|d" in text
    with pytest.raises(Error, match="kind is 'html'; choose markdown or latex"):
        paste(table, tests, "html")


def test_settings_have_a_column_where_there_are_several(many):
    rows = grouped(many[1])
    text = paste(summary(rows, ("all",)), pairwise(rows, many[0], ("all",)))
    lines = text.splitlines()
    assert lines[0] == "| setting | group | stage 1s | all |"
    assert lines[2].startswith("| IF 10 | stage 1 | 5 | ") and lines[7].startswith("| IF 50 | ")
    assert "corrected by Holm for 20 tests" in text
    one = rows[rows["setting"] == "IF 10"]
    text = paste(summary(one, ("all",)), pairwise(one, many[0]))
    assert text.startswith("| group | stage 1s | all |")
