"""Choosing by a validation part, from made-up results, and the recipe that comes of it."""

import json

import pytest
import yaml
from click.testing import CliRunner

from h2t import Error
from h2t.cli import main
from h2t.lab.books import execute as notebooks
from h2t.study.compare.select import select
from tests.synthetic import make_run


def candidates(root, values: dict[float, list[float]], **how):
    """Runs at several ratios and seeds; ``values`` by ratio the validation's means over classes, by
    seed. The test set says the opposite.
    """
    for ratio, by_seed in values.items():
        for seed, value in enumerate(by_seed):
            run = make_run(root / f"p{ratio} s{seed}", seed, ratio=ratio, names=("h2t",), **how)
            file = run / "stage2-h2t" / "result.json"
            result = json.loads(file.read_text())
            result |= {
                "val": {**result["last"], "balanced": value},
                "last": {**result["last"], "balanced": 100 - value, "all": 100 - value},
            }
            file.write_text(json.dumps(result))
            params = yaml.safe_load((run / "params.yaml").read_text())
            (run / "params.yaml").write_text(
                yaml.safe_dump({**params, "val_fraction": 0.2, "val_seed": seed})
            )
    return root


def test_the_highest_on_the_validation_part_is_chosen_whatever_the_test_set_says(tmp_path):
    root = candidates(
        tmp_path, {0.1: [40.0, 42.0, 44.0], 0.3: [45.0, 47.1, 49.0], 0.5: [44.9, 47.2, 48.8]}
    )
    found = select(root)
    assert found["group"].tolist() == [
        "DR + H2T, p = 0.3",
        "DR + H2T, p = 0.5",
        "DR + H2T, p = 0.1",
    ]
    assert (
        found["mean"].tolist()
        == pytest.approx([(45 + 47.1 + 49) / 3, (44.9 + 47.2 + 48.8) / 3, 42.0])
        and found["n"].tolist() == [3] * 3
    )
    assert (
        found["behind"].tolist()[1:] == pytest.approx([-0.2 / 3, -15.1 / 3])
        and found["p_holm"][2] < 0.05 < found["p_holm"][1]
    )
    recipe, books = notebooks.load_recipe(root / "selected.yaml", {})
    assert (
        recipe["fusion_ratio"] == 0.3
        and recipe["val_fraction"] == 0.0
        and recipe["seed"] == 0
        and recipe["imbalance_factor"] == 50.0
    )
    assert notebooks.complete(recipe, books)["stage1_epochs"] == 4 and recipe["run"] == str(
        root / "selected"
    )
    result = CliRunner().invoke(main, ["select", str(root)])
    assert (
        result.exit_code == 0
        and "DR + H2T, p = 0.3 is highest of 3; 1 others are not shown to be worse."
        in result.output
    ), result.output
    assert (
        "45.0" not in (root / "selection.md").read_text().split("DR + H2T, p = 0.1")[1]
    )  # nothing of the test set


def test_what_is_no_choice_by_validation_is_refused(tmp_path):
    make_run(tmp_path / "none")
    with pytest.raises(Error, match="holds stage 2s without a validation part"):
        select(tmp_path)
    two = candidates(tmp_path / "two", {0.1: [40.0]}, imbalance_factor=50.0)
    candidates(two / "more", {0.1: [40.0]}, imbalance_factor=20.0)
    with pytest.raises(Error, match="holds several data sets"):
        select(two)
    seen = candidates(tmp_path / "seen", {0.1: [40.0]})
    file = seen / "p0.1 s0" / "stage2-h2t" / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "val_is": "seen"}))
    with pytest.raises(Error, match="it may have been trained on the validation part"):
        select(seen)


def test_a_single_candidate_is_chosen_without_a_test(tmp_path):
    found = select(candidates(tmp_path, {0.3: [45.0, 47.0]}))
    assert len(found) == 1 and found["p_holm"].isna().all()
