"""Methods by name: what wins over what, sweeps over them, and what is refused."""

import pytest
import yaml
from click.testing import CliRunner

from h2t import Error
from h2t.cli import main
from h2t.data.longtail import class_counts
from h2t.data.samplers import class_probabilities
from h2t.lab.books import execute as notebooks
from h2t.recipes import methods as recipes
from h2t.recipes.parameters import Stage1, Stage2, check
from h2t.study.sweep import plan as sweep
from tests.helpers import ROOT

CIFAR = ROOT / "notebooks" / "recipes" / "cifar100.yaml"


@pytest.mark.parametrize("method", recipes.METHODS)
def test_every_method_can_be_had_at_its_factors_and_is_valid(method):
    cifar10 = method.endswith("_cifar10")
    assert recipes.METHODS[method].factors == ((100, 50, 10) if cifar10 else (200, 100, 50, 10))
    for factor in recipes.METHODS[method].factors:
        got = recipes.settings(method, factor)
        check(got)
        assert (
            Stage1.of(got).to_dict()["loss"] == got["loss"]
            and Stage2.of(got).stage2_method == got["stage2_method"]
        )
    with pytest.raises(
        Error, match=f"there are no settings of method {method} at imbalance_factor 20, only at"
    ):
        recipes.settings(method, 20)


def test_what_a_method_sets_is_all_that_methods_differ_in():
    """Else a name would not stand for the whole of it."""
    for stage in (0, 1):
        seen = [m.at(k)[stage].to_dict() for m in recipes.METHODS.values() for k in m.factors]
        differ = {k for k in seen[0] if len({str(s[k]) for s in seen}) > 1}
        assert differ <= set(recipes.SETS), differ - set(recipes.SETS)


def test_effective_numbers_are_all_but_balanced_classes():
    """As the recipe of GCL's second stage says."""
    from torch import tensor

    p = class_probabilities("effective_number", tensor(class_counts(500, 100, 100).tolist()))
    assert 1 < p.max() / p.min() < 1.03


def load(overrides, recipe=CIFAR):
    return notebooks.load_recipe(recipe, overrides)[0]


def test_a_method_on_the_command_line_replaces_the_recipes_and_gives_way_to_what_stands_beside_it(
    tmp_path,
):
    plain, mislas = load({}), load({"method": "mislas"})
    want = recipes.settings("mislas", 100)
    assert "method" not in mislas and all(mislas[k] == v for k, v in want.items())
    assert plain["stage1_weight_decay"] == 5e-4 and mislas["stage1_weight_decay"] == 2e-4
    assert all(mislas[k] == plain[k] for k in plain if k not in want)  # images, epochs, seed
    other = load(
        {
            "method": "mislas",
            "imbalance_factor": 50,
            "stage1_weight_decay": 5e-4,
            "fusion_ratio": 0.4,
        }
    )
    assert (other["smooth_head"], other["stage1_weight_decay"], other["fusion_ratio"]) == (
        0.3,
        5e-4,
        0.4,
    )
    folder = tmp_path / "recipes"
    folder.mkdir()
    for book in notebooks.MAIN:
        (tmp_path / f"{book}.ipynb").write_text((ROOT / "notebooks" / f"{book}.ipynb").read_text())
    mine = folder / "mine.yaml"
    mine.write_text(
        "run: r\nsource: digits\nimbalance_factor: 100\nmethod: ride\nmodel: ride2_resnet20\n"
    )
    got = load({}, mine)
    assert (
        got["model"] == "ride2_resnet20"
        and got["rotation"] == 15.0
        and got["stage1_weight_decay"] == 5e-4
    )
    assert load({"method": "gcl"}, mine)["model"] == "resnet32"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"method": "mislass"}, "method is 'mislass'; did you mean 'mislas'"),
        ({"method": "mislas_h2t"}, "did you mean 'mislas'"),
        ({"method": 7}, "method is 7; `h2t methods` lists those that are known"),
        (
            {"method": "reslt", "imbalance_factor": 30},
            "no settings of method reslt at imbalance_factor 30, only at 200, 100, 50, 10",
        ),
        (
            {"method": "reslt", "imbalance_factor": "many"},
            "imbalance_factor is 'many' .str.; it must be a number",
        ),
        (
            {"method": "reslt", "imbalance_factor": 0.5},
            "imbalance_factor is 0.5; it must be in .1, 1000000.",
        ),
        (
            {"method": "mislas", "source": "cifar10"},
            "is not for source cifar10; use method mislas_cifar10",
        ),
        ({"method": "reslt_cifar10"}, "is not for source cifar100; use method reslt"),
        ({"method": "bsce", "profile": "natural"}, "which profile natural leaves as it is"),
        ({"method": "tau_norm", "fusion_ratio": 0.3}, "method tau trains nothing"),
        ({"method": "gcl", "head": "linear"}, "loss gcl sets margins between cosines"),
    ],
)
def test_what_cannot_be_had_is_refused_before_any_work(overrides, message):
    with pytest.raises(Error, match=message):
        load(overrides)


def test_the_sweep_over_methods_trains_each_with_its_settings_and_shares_what_is_one():
    plan = sweep.plan(CIFAR.parent / "cifar100_methods_sweep.yaml", books=None)
    methods = {"dr", "mislas", "gcl", "ride", "reslt", "ldam_drw", "bsce", "bsce_cmo"}
    assert len(plan.points) == 5 * len(methods) and plan.axes == ("method", "seed")
    runs = [plan.jobs[p].parameters for p in plan.points]
    assert {(r["method"], r["seed"]) for r in runs} == {(m, s) for m in methods for s in range(5)}
    for r in runs:
        for name, value in recipes.settings(r["method"], 100).items():
            assert r[name] == value, (r["method"], name)
        assert (r["stage1_epochs"], r["crop_padding"], r["flip"], r["imbalance_factor"]) == (
            200,
            4,
            True,
            100.0,
        )
    kinds = [j.kind for j in plan.jobs.values()]
    assert kinds.count("stage1") == 5 * (len(methods) - 1)  # DR and MiSLAS have one
    assert {j.of for j in plan.jobs.values() if j.kind == "stage1"} >= {
        "method ride, seed 3",
        "method dr, seed 0",
    }


def test_a_sweep_of_a_methods_ratios_and_one_with_an_unknown_method(tmp_path):
    plan = sweep.plan(
        CIFAR,
        {"method": "mislas", "fusion_ratio": [0.1, 0.3], "run": str(tmp_path / "a")},
        books=None,
    )
    assert plan.axes == ("fusion_ratio",) and {
        plan.jobs[p].parameters["stage2_method"] for p in plan.points
    } == {"mislas"}
    assert {plan.jobs[p].parameters["stage1_weight_decay"] for p in plan.points} == {
        2e-4
    }  # of the method, not of the recipe
    plan = sweep.plan(
        CIFAR,
        {"method": ["gcl", "ride"], "stage2_lr": [0.1, 0.2], "run": str(tmp_path / "b")},
        books=None,
    )
    assert set(plan.axes) == {"method", "stage2_lr"} and len(plan.points) == 4
    with pytest.raises(
        Error, match="method is 'gcll'; did you mean 'gcl'.*in the grid's point method-gcll"
    ):
        sweep.plan(CIFAR, {"method": ["ride", "gcll"], "run": str(tmp_path / "c")}, books=None)


def test_methods_are_listed_and_one_is_spelt_out_for_papermill():
    listed = CliRunner().invoke(main, ["methods"]).output
    assert (
        all(f"\n{name} " in listed for name in recipes.METHODS) and "200*, 100, 50, 10*" in listed
    )
    spelt = CliRunner().invoke(main, ["methods", "reslt", "--imbalance-factor", "50"]).output
    assert yaml.safe_load(spelt) == recipes.settings("reslt", 50)
    refused = CliRunner().invoke(main, ["methods", "resltt"])
    assert refused.exit_code == 2 and "did you mean 'reslt'" in refused.output
