"""The notebooks' sentences, on numbers where fusion helps and on numbers where it does not."""

import itertools

import numpy as np
import pandas as pd
import pytest

from h2t import Stage2
from h2t.lab.books import verdicts
from tests.study.test_overview import rows

COUNTS = np.array([500, 400, 10, 5])  # two classes of many, two of few


def outputs(*right: int, n: int = 100):
    """A classifier of n test images a class that has the first ``right`` of each class right."""
    labels = np.repeat(np.arange(4), n)
    answers = np.concatenate([np.where(np.arange(n) < k, c, 3 - c) for c, k in enumerate(right)])
    return np.eye(4, dtype=np.float32)[answers], labels


@pytest.mark.parametrize(
    ("control", "fused", "says"),
    [
        ((90, 90, 40, 40), (80, 80, 60, 60), "beyond chance the tail gains, and the head loses"),
        ((90, 90, 40, 40), (90, 90, 60, 60), "the tail gains, and the head is not moved"),
        ((90, 90, 40, 40), (90, 90, 40, 40), "no more than chance on these test images"),
        ((90, 90, 40, 40), (89, 90, 41, 42), "no more than chance on these test images"),
        ((90, 90, 60, 60), (95, 99, 40, 40), "the tail loses, and the head gains"),
        ((90, 90, 60, 60), (80, 80, 60, 60), "the tail is not moved, and the head loses"),
    ],
)
def test_who_gains_and_who_pays_is_read_off_the_outputs(control, fused, says):
    sentence = verdicts.fusion([outputs(*control)], [outputs(*fused)], COUNTS, "field")
    assert says in sentence
    moved = [np.mean(fused[k : k + 2]) - np.mean(control[k : k + 2]) for k in (2, 0)]
    assert f"few classes by {moved[0]:+.1f} ±" in sentence
    assert f"many classes by {moved[1]:+.1f} ±" in sentence


def test_a_change_and_its_error_are_those_of_every_way_to_draw_the_images_again():
    """Two classes of three test images each: all 27 x 27 bootstrap samples, none left out."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    before = [(np.eye(2)[[0, 1, 1, 1, 1, 0]], labels)]
    after = [(np.eye(2)[[0, 0, 1, 0, 1, 0]], labels)]
    moved = [[0.0, 100.0, 0.0], [-100.0, 0.0, 0.0]]
    draws = list(itertools.product(range(3), repeat=3))
    means = [[np.mean([d[i] for i in draw]) for draw in draws] for d in moved]
    every = [(a + b) / 2 for a in means[0] for b in means[1]]
    points, error = verdicts.change(before, after)
    assert points == pytest.approx(np.mean(every), abs=1e-9)
    assert error == pytest.approx(np.std(every))
    assert verdicts.change(before, after, [1])[0] == pytest.approx(-100 / 3)
    assert verdicts.change(before, after, [1, 7])[0] == pytest.approx(-100 / 3)  # 7: no images
    both = verdicts.change(before * 2, after + before)  # a seed that gains and one that does not
    assert both == pytest.approx((points / 2, error / 2), abs=1e-9)


def test_false_alarms_are_rare_where_two_networks_are_equally_good():
    r, alarms = np.random.default_rng(0), 0
    for _ in range(400):
        hits = r.random((2, 400)) < 0.7
        labels = np.repeat(np.arange(4), 100)
        both = [[(np.eye(4)[np.where(h, labels, 3 - labels)], labels)] for h in hits]
        alarms += verdicts.real(verdicts.change(*both, [2, 3]))
    assert alarms < 0.08 * 400  # two standard errors: 4.6 %


@pytest.mark.parametrize(
    ("right", "n", "says"),
    [
        ((95, 95, 20, 20), 100, "it knows the head and all but guesses at the tail (chance: 25.0"),
        ((95, 95, 80, 80), 100, "the tail is the harder part, yet far from guessed"),
        ((9, 10, 9, 9), 10, "no difference beyond chance on so few test images"),
        ((60, 60, 90, 90), 100, "here the tail is not the harder part"),
    ],
)
def test_what_stage_1_learned(right, n, says):
    sentence = verdicts.learned(*outputs(*right, n=n), COUNTS, "field")
    assert says in sentence and f"{100 * sum(right[2:]) / 2 / n:.1f} % on the few" in sentence


def test_a_spread_is_said_where_there_is_one():
    table = verdicts.spread(rows(0.0, 0.0), ["ratio", "kind"], ["all"])["all"]
    assert table.loc[(0.3, "exact")] == "80.00 ± 0.10"
    one = verdicts.spread(rows(0.0, 0.0, seeds=1), ["ratio", "kind"], ["all"])["all"]
    assert one.loc[(0.0, "cached")] == "80.00"
    empty = rows(0.0, 0.0).assign(few=np.nan)
    assert set(verdicts.spread(empty, ["kind"], ["few"])["few"]) == {""}


@pytest.mark.parametrize(("fused", "part"), [(37, "+3"), (34, "+0"), (33.9, "+0"), (30, "-4")])
def test_the_boundary_credits_fusion_with_its_own_part_alone(fused, part):
    moved = {"DR": pd.Series([0.3, 0.34, 0.5]), "H2T": pd.Series([0.1, fused / 100, 0.9])}
    said = verdicts.boundary(moved, {"DR": 50.0, "H2T": 52.0}, "few")
    assert f"+34 % of the way to the head by DR, +{fused:.0f} % by H2T (median of 3 pairs)" in said
    assert f"fusion's part is {part}." in said and "at 50.0 and 52.0 %" in said


@pytest.mark.parametrize(
    ("statistics", "name"),
    [("both", "stage2-dr-both"), ("balanced", "stage2-dr"), ("none", "stage2-dr")],
)
def test_the_control_differs_from_the_fused_step_in_fusion_alone(statistics, name):
    from h2t.recipes.parameters import variants

    config = Stage2(bn_statistics=statistics)
    assert verdicts.control_of(config) == name
    control = variants(config)[name.removeprefix("stage2-")]
    assert control.fusion_ratio == 0 and control.bn_statistics == statistics


def test_what_training_took_is_what_was_measured():
    steps = {"stage1": {"seconds": 61.4, "device": "cpu"}, "stage2-h2t": {"imported": {}}}
    assert verdicts.took(steps) == "Training took: stage1 61 s on cpu."
    assert verdicts.took({"stage1": {}}) == "Nothing was trained here."
