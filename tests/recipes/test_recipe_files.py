"""The recipe files mean the published constants, and a recipe's values may depend on one another."""

import pytest

from h2t import Data, Error, Stage1, Stage2
from h2t.lab.books import execute as notebooks
from h2t.recipes import methods as recipes
from h2t.recipes import parameters as config
from h2t.recipes.grid import expand, merge, settle
from h2t.study.sweep.plan import plan
from tests.helpers import ROOT

FILES = ROOT / "notebooks" / "recipes"


def steps(name, **overrides):
    parameters = notebooks.complete(*notebooks.load_recipe(FILES / f"{name}.yaml", overrides))
    parameters["test_fraction"] = Data().test_fraction  # these sets have a test part
    return Data.of(parameters), Stage1.of(parameters), Stage2.of(parameters), parameters


@pytest.mark.parametrize("factor", recipes.FACTORS)
def test_each_imbalance_factor_has_its_published_settings(factor):
    for name, data in (("cifar100", recipes.CIFAR100_LT), ("cifar10", recipes.CIFAR10_LT)):
        found = steps(name, imbalance_factor=float(factor))
        assert found[:3] == (
            data[factor],
            recipes.CE_MIXUP_WD5,
            recipes.H2T.get(factor, recipes.H2T[50]),
        ), name
    released = steps(
        "cifar100", imbalance_factor=float(factor), stage1_weight_decay=2e-4, fusion_ratio=0.3
    )
    assert (
        released[1] == recipes.CE_MIXUP
        and released[2].fusion_ratio == recipes.DR_H2T_PAPER.fusion_ratio
    )
    assert config.variants(found[2])["dr"].to_dict() == {
        **found[2].to_dict(),
        "fusion_ratio": 0.0,
        "bn_statistics": "balanced",
    }


def test_the_table_is_every_factor_weight_decay_ratio_and_cell_over_five_seeds():
    planned = plan(FILES / "cifar100_sweep.yaml", books=None)
    runs = [planned.jobs[p].parameters for p in planned.points]
    assert {
        (p["imbalance_factor"], p["stage1_weight_decay"], p["fusion_ratio"], p["seed"])
        for p in runs
    } == {
        (f, wd, p, s)
        for f in (50.0, 100.0, 200.0)
        for wd in (2e-4, 5e-4)
        for p in (0.25, 0.3)
        for s in range(5)
    }
    for p in runs:
        assert Stage1.of(p) == Stage1(stage1_weight_decay=p["stage1_weight_decay"], seed=p["seed"])
        assert (
            Stage2.of(p).stage2_weight_decay
            == recipes.H2T[round(p["imbalance_factor"])].stage2_weight_decay
            and p["control"]
        )
    assert sum(job.kind == "stage1" for job in planned.jobs.values()) == 30
    kinds = [planned.jobs[n].kind for n in planned.todo]
    assert (
        kinds.index("run") < 6
        and planned.jobs[planned.todo[0]].parameters["imbalance_factor"] == 100.0
    )  # whole runs first, not all stage 1s


def test_suspects_and_search_change_what_they_say_and_nothing_else():
    base = None
    for name, parameters in _points("suspects_sweep").items():
        base = base or {k: v for k, v in parameters.items() if k not in ("run", "seed")}
        changed = {k for k in base if parameters[k] != base[k]}
        assert changed <= {name.split("-")[0]}, name
    search = _points("tuned_search")
    assert (
        all(p["val_fraction"] == 0.2 and p["val_seed"] == p["seed"] for p in search.values())
        and len(search) == 12 * 6 * 5
    )
    published = search["fusion_ratio-0.25_stage1_weight_decay-0.0002_stage1_schedule-step_seed-0"]
    assert (
        Stage1.of({**published, "eval_every": 5}),
        Stage2.of({**published, "eval_every": 5}),
    ) == (recipes.CE_MIXUP, recipes.DR_H2T)


def _points(name):
    planned = plan(FILES / f"{name}.yaml", books=None)
    return {p: planned.jobs[p].parameters for p in planned.points}


def test_the_tuned_recipe_is_its_constant():
    data, stage1, stage2, parameters = steps("h2t-tuned")
    assert (data, stage1, stage2) == (
        recipes.CIFAR100_LT[100],
        recipes.TUNED_STAGE1,
        recipes.TUNED,
    ) and parameters["control"]


BY = {"imbalance_factor": {50: {"stage2_weight_decay": 2e-4, "seed": 3}, 10.0: {"seed": 4}}}
NAMES = ("imbalance_factor", "stage2_weight_decay", "seed", "fusion_ratio")


def test_a_value_may_depend_on_another_unless_it_is_given():
    recipe = {"imbalance_factor": 100.0, "stage2_weight_decay": 5e-4, "by": BY}
    at = lambda factor, **more: settle(merge(recipe, {"imbalance_factor": factor, **more}), NAMES)  # noqa: E731
    assert at(100.0) == {"imbalance_factor": 100.0, "stage2_weight_decay": 5e-4}
    assert at(50.0) == {"imbalance_factor": 50.0, "stage2_weight_decay": 2e-4, "seed": 3}
    assert at(10) == {"imbalance_factor": 10, "stage2_weight_decay": 5e-4, "seed": 4}
    assert at(50, stage2_weight_decay=1.0)["stage2_weight_decay"] == 1.0
    declared = {n: (0.0, "float") for n in NAMES}
    points = expand(
        {**recipe, "imbalance_factor": [100.0, 50.0], "fusion_ratio": [0.1, 0.2]}, declared
    )
    assert [(p["stage2_weight_decay"], p.get("seed")) for p in points.values()] == [
        (5e-4, None)
    ] * 2 + [(2e-4, 3)] * 2
    assert all("by" not in p for p in points.values())


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (
            {"imbalance_factor": {50: 2e-4}},
            "by must say, for values of a parameter, what others are",
        ),
        ([1], "by must say"),
        ({"imbalance_facto": {50: {"seed": 1}}}, "unknown parameter 'imbalance_facto' under by"),
        ({"imbalance_factor": {50: {"sed": 1}}}, "unknown parameter 'sed' under by"),
        ({"seed": {1: {"seed": 2}}}, "by sets seed and depends on it"),
    ],
)
def test_what_cannot_depend_is_refused(by, message):
    with pytest.raises(Error, match=message):
        settle({"seed": 1, "by": by}, NAMES)


def test_an_axis_does_not_depend():
    with pytest.raises(
        Error, match="seed is an axis of the grid and is set by another parameter under by"
    ):
        expand(
            {"seed": [0, 1], "imbalance_factor": 50.0, "by": BY}, {n: (0.0, "float") for n in NAMES}
        )
