"""From a recipe to the points of a grid."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2t import Error
from h2t.recipes.grid import expand


def test_lists_and_ranges_make_a_product_and_what_is_a_list_by_nature_stays_one():
    points = expand(
        {
            "seed": [0, 1],
            "fusion_ratio": {"from": 0, "to": 0.3, "step": 0.1},
            "decay_at": [0.5, 0.7],
            "model": "resnet32",
        }
    )
    assert [(p["seed"], p["fusion_ratio"]) for p in points.values()] == [
        (s, r) for s in (0, 1) for r in (0, 0.1, 0.2, 0.3)
    ]
    assert all(p["decay_at"] == [0.5, 0.7] and p["model"] == "resnet32" for p in points.values())
    assert list(points)[5] == "seed-1_fusion_ratio-0.1"
    assert [p["decay_at"] for p in expand({"decay_at": [[0.8, 0.9], [0.5, 0.6]]}).values()] == [
        [0.8, 0.9],
        [0.5, 0.6],
    ]


def test_a_row_of_a_table_is_named_by_what_it_sets():
    assert list(expand({"seed": 0, "sweep": [{"model": "resnet32"}, {"flip": True}]})) == [
        "model-resnet32",
        "flip-True",
    ]


def test_a_table_is_taken_as_it_is():
    table = expand(
        {
            "seed": [0, 1],
            "flip": True,
            "sweep": [{"model": "resnet20"}, {"model": "resnet32", "flip": False}],
        }
    )
    assert [(p["model"], p["flip"], p["seed"]) for p in table.values()] == [
        ("resnet20", True, 0),
        ("resnet20", True, 1),
        ("resnet32", False, 0),
        ("resnet32", False, 1),
    ]


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(0, 100), min_size=1, max_size=6, unique=True),
)
def test_a_product_has_every_pair_once(seeds, hundredths):
    ratios = [h / 100 for h in hundredths]
    points = expand({"seed": seeds, "fusion_ratio": ratios})
    assert [(p["seed"], p["fusion_ratio"]) for p in points.values()] == list(
        itertools.product(seeds, ratios)
    )
    assert len(set(points)) == len(points)


@given(st.integers(-20, 20), st.integers(0, 40), st.integers(1, 7))
def test_a_range_of_whole_numbers_is_pythons_with_its_end(low, more, step):
    points = expand({"seed": {"from": low, "to": low + more, "step": step}})
    assert [p["seed"] for p in points.values()] == list(range(low, low + more + 1, step))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"seed": 3}, "has one point only"),
        ({"seed": []}, "seed is an empty list"),
        ({"seed": [0, 1], "sweep": "grid"}, "sweep must be a list of mappings"),
        ({"seed": [0, 1], "sweep": [3]}, "sweep must be a list of mappings"),
        ({"seed": [0, 1], "sweep": []}, "sweep must be a list of mappings"),
        (
            {"seed": [0, 1], "sweep": [{"seed": 3}]},
            "seed is an axis of the grid and a column of its table",
        ),
        ({"seed": [0, 1, 0]}, "'seed-0'; one row or value is there twice"),
        ({"model": ["a b", "a?b"]}, "differ only in what a folder's name cannot hold"),
        ({"seed": {"from": 3, "to": 1}}, "a range is"),
        ({"seed": {"from": 0, "to": 1, "step": 0}}, "a range is"),
        ({"seed": {"from": 0, "to": "x"}}, "a range is"),
        ({"seed": {"from": 0, "too": 1}}, "a range is"),
        ({"seed": {"from": 0, "to": 1e9}}, "more runs than one can want"),
        ({"seed": {"from": 0, "to": 1e299, "step": 1e-300}}, "seed has inf values; that is more"),
        ({"seed": {"from": 0, "to": 1e308}}, "a range is"),
        ({"seed": {"from": 0, "to": 10**400}}, "a range is"),
        ({"seed": {"from": 0, "to": float("nan")}}, "a range is"),
        ({"seed": {"from": 0, "to": True}}, "a range is"),
        ({k: {"from": 0, "to": 999} for k in ("seed", "fusion_ratio")}, "1,000,000 runs"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(recipe, message):
    with pytest.raises(Error, match=message.replace("{", r"\{").replace("?", r"\?")):
        expand(recipe)


def test_names_of_any_length_stay_names():
    name = next(iter(expand({"model": ["x" * 300, "y"]})))
    assert len(name) <= 200 and "/" not in next(iter(expand({"model": ["../up", "y"]})))
