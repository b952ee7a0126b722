"""The cached stage 2 as a step of a run, beside the exact one, and the recipe that fits a run."""

import shutil

import pytest

from h2t import Error, Run, train_stage2
from h2t.train.cached import bank as banking
from h2t.train.cached.steps import compare, recipe_of
from tests.helpers import stage2_config, train_cached


@pytest.fixture(scope="module")
def banked(trained, tmp_path_factory):
    run = shutil.copytree(trained, tmp_path_factory.mktemp("cached") / "run")
    banking.build_bank(run, stage2_config(), 2, progress=False)
    return run


def test_the_cached_stage2_is_a_step_and_stands_beside_the_exact_one(banked, tmp_path):
    run = shutil.copytree(banked, tmp_path / "run")
    result = train_cached(run, stage2_config(fusion_ratio=0.3), "cached", views=2)
    assert result == Run(run).step("stage2-cached").result and result["cached"]["views"] == 2
    with pytest.raises(Error, match="already has stage2-cached"):
        train_cached(run, stage2_config(fusion_ratio=0.5), "cached", views=2)
    table = compare(run, stage2_config(), [0.0, 0.3], [0], views=2, progress=False)
    assert len(table) == 4 and set(table["kind"]) == {"exact", "cached"}
    for row in table.itertuples():
        if row.kind == "exact":
            last = Run(run).step(f"stage2-exact-p{row.ratio:g}-s0").result["last"]
        else:
            last = train_cached(
                run,
                stage2_config(fusion_ratio=row.ratio),
                f"again-p{row.ratio:g}",
                views=2,
            )["last"]
        assert (row.all, row.many, row.few) == pytest.approx(
            (last["all"], last["many"], last["few"])
        )


def test_an_exact_run_that_is_there_is_not_trained_again(banked, tmp_path):
    run = shutil.copytree(banked, tmp_path / "run")
    train_stage2(run, stage2_config(fusion_ratio=0.3), "mine", progress=False)
    file = Run(run).step("stage2-mine").path / "params.yaml"
    # as a version before other fusions left it
    file.write_text("".join(line for line in file.open() if not line.startswith("fusion:")))
    table = compare(run, stage2_config(), [0.3], [0], views=2, progress=False)
    assert not Run(run).step("stage2-exact-p0.3-s0").done
    assert table.set_index("kind").loc["exact", "all"] == pytest.approx(
        Run(run).step("stage2-mine").result["last"]["all"]
    )


def test_the_recipe_of_a_run_is_its_own(banked, tmp_path):
    assert recipe_of(banked) == stage2_config(
        stage2_epochs=10, eval_every=2
    )  # as published, with stage 1's batches and crops
    run = shutil.copytree(banked, tmp_path / "run")
    train_stage2(run, stage2_config(fusion_ratio=0.4), "h2t", progress=False)
    assert (
        recipe_of(run) == stage2_config(fusion_ratio=0.4) and recipe_of(run, {"seed": 3}).seed == 3
    )
