"""Groups and averages of runs, against slow computations of their own."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import h2t
from h2t.study.compare import groups as compare
from h2t.study.compare.groups import grouped, mixed, summary
from tests import synthetic
from tests.synthetic import make_run

many, single = synthetic.many, synthetic.single  # fixtures


def test_groups_are_methods_with_what_varies_and_settings_are_data(many):
    rows = grouped(many[1])
    assert list(dict.fromkeys(rows["group"])) == [
        "stage 1",
        "DR",
        "DR, BN sees both",
        "DR + H2T, p = 0.1",
        "DR + H2T, p = 0.3",
    ]
    assert list(dict.fromkeys(rows["setting"])) == ["IF 10", "IF 50"]
    assert set(rows.groupby(["setting", "group"]).size()) == {5} and mixed(rows) == []


def test_a_parameter_of_stage_1_splits_every_method_that_it_changes(tmp_path):
    for seed in range(2):
        for lr in (0.1, 0.05):
            make_run(
                tmp_path / f"{lr} {seed}", seed, stage1_lr=lr, names=("dr",), quality={"stage1": lr}
            )
    groups = set(grouped(h2t.table(tmp_path, save=False))["group"])
    assert groups == {
        "stage 1, stage1_lr 0.1",
        "stage 1, stage1_lr 0.05",
        "DR, stage1_lr 0.1",
        "DR, stage1_lr 0.05",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revision": "b" * 40}, "averaged over 2 code revisions: aaaaaaaa (2), bbbbbbbb (1)"),
        ({"split_seed": 1}, "averaged over 2 training splits:"),
        ({"device": "cuda"}, "averaged over 2 devices: cpu (2), cuda (1)"),
    ],
)
def test_what_is_averaged_though_unlike_is_said(tmp_path, change, said):
    for seed in range(3):
        make_run(tmp_path / str(seed), seed, names=("dr",), **(change if seed == 2 else {}))
    rows = grouped(h2t.table(tmp_path, save=False))
    assert set(rows.groupby("group").size()) == {3}
    assert (
        len(mixed(rows)) == 1
        and mixed(rows)[0].startswith("stage 1; DR: ")
        and said in mixed(rows)[0]
    )


def test_another_width_is_said(tmp_path):
    for seed, width in enumerate((8, 8, 16)):
        run = make_run(tmp_path / str(seed), seed, names=())
        file = run / "stage1" / "result.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "width": width}))
    (said,) = mixed(grouped(h2t.table(tmp_path, save=False)))
    assert "2 widths: 8 (2), 16 (1)" in said


def test_the_same_weights_count_once_in_a_group(tmp_path):
    a, b = (
        make_run(tmp_path / "a"),
        make_run(tmp_path / "b", eval_every=2),
    )  # evaluated at other times, the same network
    for name in ("stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"):
        weights = json.loads((a / name / "result.json").read_text())["weights_sha256"]
        result = json.loads((b / name / "result.json").read_text())
        (b / name / "result.json").write_text(json.dumps({**result, "weights_sha256": weights}))
    rows = grouped(h2t.table(tmp_path, save=False))
    assert set(rows.groupby("group").size()) == {1}


def test_narrow_keeps_the_baseline_and_the_best(many):
    rows = grouped(many[1])
    kept = list(dict.fromkeys(compare.narrow(rows, "all", "stage 1", 2)["group"]))
    means = rows.groupby("group")["all"].mean()
    assert set(kept) == {"stage 1", means.idxmax()} and means.idxmax() != "stage 1"


def test_means_and_intervals_are_those_of_a_slow_computation(many):
    rows = grouped(many[1])
    table = summary(rows, ("all", "few")).set_index(["setting", "group", "measure"])
    for (setting, group), part in rows.groupby(["setting", "group"]):
        x = [float(v) for v in part["few"]]
        mean = sum(x) / 5
        std = math.sqrt(sum((v - mean) ** 2 for v in x) / 4)
        row = table.loc[(setting, group, "few")]
        assert (
            row["n"] == 5
            and row["mean"] == pytest.approx(mean)
            and row["std"] == pytest.approx(std)
        )
        half = 2.7764451 * std / math.sqrt(5)  # t(0.975, 4) of the printed tables
        assert row["low"] == pytest.approx(mean - half) and row["high"] == pytest.approx(
            mean + half
        )


def test_one_run_has_no_spread_and_an_empty_group_no_mean(single):
    rows = grouped(single[1]).assign(many=np.nan)
    table = summary(rows, ("many", "all")).set_index(["group", "measure"])
    assert table.loc[("DR", "many"), "n"] == 0 and np.isnan(table.loc[("DR", "many"), "mean"])
    assert (
        table.loc[("DR", "all"), "n"] == 1
        and np.isnan(table.loc[("DR", "all"), ["std", "low", "high"]].astype(float)).all()
    )


def test_the_ratio_table_has_the_control_at_zero_and_needs_two_ratios(many, single):
    table = compare.ratio_table(grouped(many[1]))
    assert sorted(table["ratio"].unique()) == [0, 0.1, 0.3] and set(table["method"]) == {
        "DR, BN sees both",
        "DR + H2T",
    }
    assert len(table) == 2 * 3 * 5
    only = grouped(single[1])
    assert sorted(compare.ratio_table(only)["ratio"]) == [0, 0.3]
    assert (
        compare.ratio_table(only[only["method"] != "DR, BN sees both"]).empty
        and compare.ratio_table(only[only["stage"] == 1]).empty
    )


def test_kinds_of_methods_have_ratio_curves_of_their_own(single):
    rows = grouped(single[1])
    ride = rows[rows["stage"] == 2].assign(
        method=lambda t: "RIDE + " + t["method"].str.removeprefix("DR + "),
        weights_sha256=lambda t: t["weights_sha256"] + "r",
    )
    table = compare.ratio_table(pd.concat([rows, ride]))
    assert {(s, tuple(sorted(p["ratio"]))) for s, p in table.groupby("setting")} == {
        ("DR", (0, 0.3)),
        ("RIDE", (0, 0.3)),
    }
    table = compare.ratio_table(pd.concat([rows, ride]).assign(setting="IF 50"))
    assert set(table["setting"]) == {"IF 50, DR", "IF 50, RIDE"}


def test_the_overview_needs_nothing_that_a_machine_without_jupyter_lacks(many):
    """It ends a sweep: what it cannot have must not end in an error after a night's work."""
    code = "import sys; sys.modules['pyarrow'] = None\n"
    code += "from h2t.study.compare.overview import overview; print(overview(sys.argv[1]))"
    lines = subprocess.run(
        [sys.executable, "-c", code, many[0]], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    columns = ["stage", "1s", "networks", "many", "medium", "few", "all", "ECE"]
    assert lines[0].split() == ["setting", "test", "accuracy,", "%", *columns]
    averages = summary(grouped(many[1]), ("all",)).set_index(["setting", "group"])
    for line, (_, row) in zip(lines[1:], averages.iterrows(), strict=False):
        assert f"{row['mean']:.2f} ± {row['std']:.2f}" in line and f" {row['n']} " in line
    assert lines[-1].startswith("all at IF 50, against DR, BN sees both: stage 1 ")
