"""Rows by a condition: a small language of comparisons, in which nothing is ever run."""

import numpy as np
import pandas as pd
import pytest

from h2t import Error
from h2t.study.compare.choose import choose

TABLE = pd.DataFrame(
    {
        "seed": [0, 1, 2, 3],
        "imbalance_factor": [10.0, 50.0, 100.0, np.nan],
        "method": ["stage 1", "DR", "DR + H2T", "DR"],
        "cached": [False, False, True, False],
        "flip": pd.array([True, None, False, True], dtype="boolean"),
    }
)


@pytest.mark.parametrize(
    ("query", "seeds"),
    [
        ("", [0, 1, 2, 3]),
        ("seed == 1", [1]),
        ("seed != 1", [0, 2, 3]),
        ("1 < seed", [2, 3]),
        ("0 < seed <= 2", [1, 2]),
        ("seed >= 2 and not method == 'DR'", [2]),
        ("seed == 0 or seed == 3 and cached", [0]),
        ("(seed == 0 or seed == 3) and not cached", [0, 3]),
        ('method in ["DR", "stage 1"] and seed in (0, 1)', [0, 1]),
        ("method not in ['DR']", [0, 2]),
        ("imbalance_factor > 20", [1, 2]),
        ("imbalance_factor != 10", [1, 2, 3]),
        ("seed > -1.5e0", [0, 1, 2, 3]),
        ("flip", [0, 3]),
        ("cached == True", [2]),
        ("  seed == 1\n", [1]),
    ],
)
def test_a_condition_takes_the_rows_it_says(query, seeds):
    assert choose(TABLE, query)["seed"].tolist() == seeds


@pytest.mark.parametrize(
    "query",
    [
        "seed >",
        "nothing == 1",
        "@os.system('touch F') == seed",
        "seed.to_csv('F')",
        "to_csv('F')",
        "__import__('os')",
        "seed == [c for c in 'ab']",
        "seed == f'{1}'",
        "seed == (lambda: 1)()",
        "seed + 1 == 2",
        "seed[0] == 1",
        "seed == 1; seed == 2",
        "seed is 1",
        "seed",
        "1 == 1",
        "1 in [1]",
        "seed in 3",
        "method < 3",
        "seed == -'a'",
        "seed == 1j",
        "seed == b'a'",
        "seed := 1",
        "(" * 900 + "seed" + ")" * 900,
        "seed == " + "9" * 1900,
        "seed == \0",
        "x" * 3000,
    ],
    ids=lambda q: q[:30],
)
def test_what_is_no_condition_is_refused_in_one_short_sentence_and_never_run(
    query, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Error, match="choose ") as raised:
        choose(TABLE, query)
    assert len(str(raised.value)) < 400 and not list(tmp_path.iterdir())


def test_that_nothing_is_left_is_said():
    with pytest.raises(Error, match="choose = 'seed > 99' leaves none of the 4 steps"):
        choose(TABLE, "seed > 99")
    with pytest.raises(Error, match="'nothing' is not defined.*columns of table.csv, such as:"):
        choose(TABLE, "nothing == 1")
