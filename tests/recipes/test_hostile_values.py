"""What is written after -p ends in a value or in one sentence, whatever it is."""

import pytest

from h2t import Error
from h2t.lab.books.execute import load_recipe, parse_value
from tests.helpers import ROOT

DIGITS = ROOT / "notebooks" / "recipes" / "digits.yaml"
LAUGHS = "[&a [x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b]"
LAUGHS += ", &d [*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d], [*e,*e,*e,*e,*e,*e]]"
VALUES = {
    "itself": "&a [*a]",
    "laughs": LAUGHS,
    "deep": "[" * 5000 + "]" * 5000,
    "digits": "9" * 5000,
    "nan": ".nan",
    "infinite": "-.inf",
    "nothing": "null",
    "date": "2024-02-28",
    "no date": "2024-02-30",
    "mapping": "{from: 0, to: 1e308, step: 1e-300}",
    "binary": "!!binary aGk=",
    "code": "!!python/object/apply:os.system [true]",
    "long": "x" * 5000,
    "tab": "a\tb: c",
}


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("name", ["seed", "stage1_lr", "source", "decay_at", "flip", "method"])
def test_no_value_ends_otherwise_than_in_a_sentence(name, what):
    with pytest.raises(Error) as e:
        load_recipe(DIGITS, {name: parse_value(VALUES[what])})
    assert len(str(e.value)) < 700 and "\n" not in str(e.value), str(e.value)
