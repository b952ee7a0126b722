"""Our runs beside the published table, from made-up results."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from h2t import Error
from h2t.cli import main
from h2t.data.longtail import class_counts
from h2t.reproduce import reproduce
from tests.synthetic import make_run


def runs(root, seeds=5, factor=100.0, classes=100):
    """Runs of the published protocol but for what they learned: stage 2's best is seed / 10 above 47."""
    counts = class_counts(500, factor, classes)
    for seed in range(seeds):
        run = make_run(root / f"s{seed}", seed, imbalance_factor=factor, ratio=0.25, model="resnet32")
        for file in run.glob("stage*/result.json"):
            result = json.loads(file.read_text())
            accuracy = np.linspace(80, 10, classes) + seed
            result["params"] |= {"stage1_epochs": 200} if result["step"] == "stage1" else {"stage2_epochs": 10}
            result |= {"model": "resnet32", "num_classes": classes, "counts": counts.tolist(), "per_class": accuracy.tolist()}
            result["best"]["top1"] = 47 + seed / 10
            file.write_text(json.dumps(result))
    return root


def test_each_protocol_is_held_against_its_published_number(tmp_path):
    table = reproduce(runs(tmp_path)).set_index("method")
    assert table.index.tolist() == ["stage 1", "DR", "DR, BN sees both", "DR + H2T"] and (table["n"] == 5).all()
    assert table["published"].tolist()[:2] == [39.55, 45.68] and np.isnan(table["published"].iloc[2]) and table["published"].iloc[3] == 47.73
    best = 47 + np.arange(5) / 10
    assert table.loc["DR + H2T", "best"] == pytest.approx(best.mean()) and table.loc["DR + H2T", "best std"] == pytest.approx(best.std(ddof=1))
    spread = best.std(ddof=1) * (1 + 1 / 5) ** 0.5
    assert table.loc["DR + H2T", "deviations"] == pytest.approx((best.mean() - 47.73) / spread) and np.isnan(table.loc["DR, BN sees both", "deviations"])
    accuracy = np.linspace(80, 10, 100) + 2  # the mean over seeds
    assert table.loc["DR", "many (reference)"] == pytest.approx(accuracy[:36].mean()) and table.loc["DR", "few (field)"] == pytest.approx(accuracy[70:].mean())
    assert len(pd.read_csv(tmp_path / "reproduced.csv")) == 4


def test_the_table_is_written_as_markdown_and_one_seed_has_no_spread(tmp_path):
    result = CliRunner().invoke(main, ["reproduce", str(runs(tmp_path, seeds=1))])
    assert result.exit_code == 0 and "saved as" in result.output, result.output
    lines = (tmp_path / "reproduced.md").read_text().splitlines()
    cells = [c.strip() for c in lines[-1].strip("|").split("|")]
    assert cells[:7] == ["CIFAR-100-LT", "100", "0.0002", "DR + H2T", "0.25", "both", "1"] and cells[8] == "47.00" and cells[-4:-1] == ["47.73", "-0.73", "–"]
    assert cells[-1] == "normalise auto"
    assert len({line.count("|") for line in lines}) == 1


def test_runs_of_another_protocol_are_refused_by_name(tmp_path):
    with pytest.raises(Error, match="holds no run of a published protocol"):
        reproduce(runs(tmp_path / "factor", factor=20.0))
    with pytest.raises(Error, match="holds no run of a published protocol"):
        reproduce(runs(tmp_path / "classes", classes=10))


def test_what_a_run_does_otherwise_is_named_and_no_number_held_against_it(tmp_path):
    runs(tmp_path, seeds=2)
    file = tmp_path / "s1" / "stage2-h2t" / "result.json"
    result = json.loads(file.read_text())
    result["params"] |= {"pad_value": "mean", "stage2_epochs": 20}
    file.write_text(json.dumps(result))
    table = reproduce(tmp_path)
    fused = table[table["method"] == "DR + H2T"].sort_values("otherwise")
    assert sorted(fused["otherwise"]) == ["normalise auto", "normalise auto, pad_value mean, stage2_epochs 20"]
    by = fused.set_index("otherwise")["published"]
    assert by["normalise auto"] == 47.73 and np.isnan(by["normalise auto, pad_value mean, stage2_epochs 20"])
