"""The recipe files mean what is published."""

import hashlib
import json

import pytest

from h2t import Data, Stage1, Stage2
from h2t.lab.books import execute as notebooks
from h2t.recipes import methods as recipes
from h2t.recipes.parameters import variants
from h2t.study.sweep.plan import plan
from tests.helpers import ROOT

FILES = ROOT / "notebooks" / "recipes"


def steps(name, **overrides):
    parameters = notebooks.complete(*notebooks.load_recipe(FILES / f"{name}.yaml", overrides))
    parameters["test_fraction"] = Data().test_fraction  # these sets have a test part
    return Data.of(parameters), Stage1.of(parameters), Stage2.of(parameters), parameters


@pytest.mark.parametrize("factor", recipes.FACTORS)
@pytest.mark.parametrize(("name", "n_max"), [("cifar100", 500), ("cifar10", 5000)])
def test_each_imbalance_factor_has_its_published_settings(name, n_max, factor):
    first, second = (s.to_dict() for s in recipes.METHODS["dr"].at(factor))
    data, stage1, stage2, _ = steps(name, imbalance_factor=float(factor))
    assert (data.source, data.normalise, data.n_max) == (name, "cifar", n_max)
    assert (data.profile, data.imbalance_factor) == ("exponential", factor)
    assert stage1.to_dict() == {**first, "stage1_weight_decay": 5e-4}  # as recommended
    assert stage2.to_dict() == second
    changes = {"stage1_weight_decay": 2e-4, "fusion_ratio": 0.3}
    _, stage1, stage2, _ = steps(name, imbalance_factor=float(factor), **changes)
    assert stage1.to_dict() == first and stage2.fusion_ratio == 0.3
    plain = {"fusion_ratio": 0.0, "bn_statistics": "balanced"}
    assert variants(stage2)["dr"].to_dict() == {**stage2.to_dict(), **plain}


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
        released = recipes.METHODS["dr"].at(100)[0].to_dict()
        changed = {"stage1_weight_decay": p["stage1_weight_decay"], "seed": p["seed"]}
        assert Stage1.of(p).to_dict() == {**released, **changed}
        assert (
            Stage2.of(p).stage2_weight_decay
            == {200: 2e-4, 100: 5e-4, 50: 2e-4}[p["imbalance_factor"]]
            and p["control"]
        )
    assert sum(job.kind == "stage1" for job in planned.jobs.values()) == 30
    kinds = [planned.jobs[n].kind for n in planned.todo]
    assert (
        kinds.index("run") < 6
        and planned.jobs[planned.todo[0]].parameters["imbalance_factor"] == 100.0
    )  # whole runs first, not all stage 1s


def test_suspects_change_what_they_say_and_nothing_else():
    base = None
    for name, parameters in _points("suspects_sweep").items():
        base = base or {k: v for k, v in parameters.items() if k not in ("run", "seed")}
        changed = {k for k in base if parameters[k] != base[k]}
        assert changed <= {name.split("-")[0]}, name


def _points(name):
    planned = plan(FILES / f"{name}.yaml", books=None)
    return {p: planned.jobs[p].parameters for p in planned.points}


# of all parameters of each recipe, or of each point of its grid, before defaults were made one
COMPLETED = {
    "cifar10": "d76bacf40a218b5f",
    "cifar100": "f5de8d92c2a846bd",
    "cifar100_methods_sweep": "d428f50826d8d506",
    "cifar100_sweep": "62726b7c47095e59",
    "digits": "4919ae94222b6430",
    "digits_sweep": "7e31515cffbdb1c8",
    "imagenet_lt_resnet10": "4429813fcc9cbb03",
    "imagenet_lt_resnet50": "8a2c332cf361a455",
    "inaturalist2018": "8d5cbeff3ac04165",
    "places_lt": "b08e6d5530af0b17",
    "suspects_sweep": "2af49129bbbc7d34",
}


def _on(parameters):
    """Without what is off: parameters that came later are, in recipes that do not name them."""
    return {k: v for k, v in parameters.items() if v and k != "run"}


@pytest.mark.parametrize("recipe", COMPLETED)
def test_a_recipe_means_what_it_always_meant(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    if recipe.endswith("sweep"):
        means = {point: _on(given) for point, given in _points(recipe).items()}
    else:
        means = _on(notebooks.complete(*notebooks.load_recipe(FILES / f"{recipe}.yaml", {})))
    found = hashlib.sha256(json.dumps(means, sort_keys=True).encode()).hexdigest()[:16]
    assert found == COMPLETED[recipe], means
