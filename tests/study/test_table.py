"""The table of runs: every finished step once, with what its files say, and what cannot be read by
name.
"""

import json
import os

import pandas as pd
import pytest
from click.testing import CliRunner

import h2t
from h2t import Error
from tests.synthetic import COUNTS, adopt, make_run, sweep


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_an_earlier_version_did_not_record_it_did_as_the_default_says(tmp_path):
    """Runs of two versions are told apart by what differs, not by what is new."""
    for name in "ab":
        make_run(tmp_path / name, seed=3)
    for step in (tmp_path / "a").glob("s*/result.json"):
        params = json.loads(step.read_text())["params"]
        edit(step, params={k: v for k, v in params.items() if k not in ("rotation", "tau")})
    file = tmp_path / "a" / "params.yaml"
    file.write_text("".join(x for x in file.open() if not x.startswith(("encoder", "image_fit"))))
    rows = h2t.table(tmp_path, copies=True)
    assert set(rows["run"]) == {"a", "b"}
    for name in ("rotation", "tau", "encoder", "image_fit"):
        for _, part in rows.groupby("stage"):
            assert part[name].map(str).nunique() == 1, name


def test_a_run_of_before_the_mark_is_named_and_not_read(tmp_path):
    make_run(tmp_path / "new", seed=3)
    (make_run(tmp_path / "old", seed=4) / "h2t.json").unlink()
    table = h2t.table(tmp_path)
    assert set(table["run"]) == {"new"}
    (said,) = table.attrs["skipped"]
    assert said.startswith("old: ") and "no run that h2t made from version 0.2 on" in said


def test_a_row_says_what_the_files_say(tmp_path):
    make_run(tmp_path / "a" / "b", seed=3)
    table = h2t.table(tmp_path).set_index("step")
    assert list(table.index) == ["stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"]
    assert table["run"].unique().tolist() == ["a/b"] and table["method"].tolist() == [
        "stage 1",
        "DR",
        "DR, BN sees both",
        "DR + H2T",
    ]
    for name, row in table.iterrows():
        result = json.loads((tmp_path / "a" / "b" / name / "result.json").read_text())
        assert [row[k] for k in ("many", "medium", "few", "all", "balanced", "top5", "ece")] == [
            result["last"][k] for k in ("many", "medium", "few", "all", "balanced", "top5", "ece")
        ]
        assert (
            row["best_all"] == result["best"]["all"]
            and row["best_epoch"] == result["best"]["epoch"]
        )
        assert (
            row["weights_sha256"] == result["weights_sha256"]
            and row["revision"] == "a" * 40
            and row["torch"] == "2"
            and row["cpu"] == "c"
        )
        for key, value in result["params"].items():
            assert row["precision" if key == "precision" else key] == (
                json.dumps(value) if isinstance(value, list) else value
            ), key
    assert table.loc["stage2-h2t", "stage1_weights"] == table.loc["stage1", "weights_sha256"]
    assert (table["parameters"] == 6 * 8 + 3 * 4).all() and (
        table["width"] == 8
    ).all()  # running statistics are no parameters
    assert (
        table["total_seconds"].tolist() == [100, 110, 110, 110]
        and table["stage1_seconds"].tolist() == [100] * 4
    )
    assert (
        (table["imbalance_factor"] == 50).all()
        and (table["split"].str.len() == 64).all()
        and (table["precision_used"] == "fp32").all()
    )


def test_stage_2_has_its_own_value_and_stage_1s_beside_it(tmp_path):
    make_run(tmp_path / "r", seed=7, batch_size=32)
    row = h2t.table(tmp_path).set_index("step").loc["stage2-h2t"]
    assert (
        row["batch_size"] == 128
        and row["stage1_batch_size"] == 32
        and row["stage1_epochs"] == 4
        and row["stage1_seed"] == 7
    )


def test_a_copied_step_is_counted_once_and_the_row_is_that_of_the_run_that_trained_it(tmp_path):
    sweep(tmp_path, seeds=2, ratios=(0.1, 0.3))
    table = h2t.table(tmp_path)
    assert table["step"].value_counts().to_dict() == {
        "stage1": 2,
        "stage2-dr": 2,
        "stage2-dr-both": 2,
        "stage2-h2t": 4,
    }
    assert (
        table[table["step"] != "stage2-h2t"]["run"].str.startswith("shared/").all()
        and table["adopted_from"].isna().all()
    )
    whole = h2t.table(tmp_path, copies=True)
    assert len(whole) == 2 * 3 + 4 * 4 and whole["copy"].sum() == 4 * 3
    assert not whole[whole["adopted_from"].isna()]["copy"].any()


def test_a_copy_whose_origin_is_gone_still_counts_once(tmp_path):
    shared = make_run(tmp_path / "elsewhere" / "s", names=("dr",))
    for ratio in (0.1, 0.3):
        adopt(shared, make_run(tmp_path / "root" / f"p{ratio}", ratio=ratio), "stage1")
    assert (h2t.table(tmp_path / "root")["step"] == "stage1").sum() == 1


def test_equal_weights_on_another_split_or_with_other_parameters_are_rows_of_their_own(tmp_path):
    a, b = make_run(tmp_path / "a", names=()), make_run(tmp_path / "b", split_seed=1, names=())
    c = make_run(tmp_path / "c", names=(), stage1_lr=0.05)
    for run in (b, c):
        edit(
            run / "stage1" / "result.json",
            weights_sha256=json.loads((a / "stage1" / "result.json").read_text())["weights_sha256"],
        )
    assert h2t.table(tmp_path)["run"].tolist() == ["a", "b", "c"]


def test_saved_as_parquet_and_csv(tmp_path):
    make_run(tmp_path / "r")
    table = h2t.table(tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)
    read = pd.read_csv(tmp_path / "table.csv")
    assert (
        list(read.columns) == list(table.columns)
        and (read["all"] == table["all"]).all()
        and (read["split"] == table["split"]).all()
    )
    (tmp_path / "table.csv").unlink()
    h2t.table(tmp_path, save=False)
    assert not (tmp_path / "table.csv").exists()


def test_what_is_damaged_or_unfinished_is_skipped_and_named(tmp_path):
    for name in ("good", "cut", "empty", "unmeasured", "begun", "text", "yaml"):
        make_run(tmp_path / name, names=())
    (tmp_path / "cut" / "stage1" / "result.json").write_text('{"step": "sta')
    (tmp_path / "empty" / "stage1" / "result.json").write_text("")
    (tmp_path / "begun" / "stage1" / "result.json").unlink()
    (tmp_path / "text" / "stage1" / "result.json").write_text('["last"]')
    (tmp_path / "yaml" / "params.yaml").write_text("a: [1\nb")
    result = tmp_path / "unmeasured" / "stage1" / "result.json"
    content = json.loads(result.read_text())
    del content["last"]
    result.write_text(json.dumps(content))
    table = h2t.table(tmp_path)
    assert table["run"].tolist() == ["good"]
    skipped = {line.split(":")[0]: line for line in table.attrs["skipped"]}
    assert set(skipped) == {"cut", "empty", "unmeasured", "begun", "text", "yaml"}
    assert "stage1/result.json is damaged" in skipped["cut"] and "not finished" in skipped["begun"]
    assert "no measures yet" in skipped["unmeasured"] and "params.yaml" in skipped["yaml"]


def test_any_depth_one_run_links_and_what_is_no_run(tmp_path):
    run = make_run(tmp_path / "runs" / "a b" / "c", names=())
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    other = make_run(tmp_path / "disk" / "far", names=(), seed=1)
    (tmp_path / "runs" / "linked").symlink_to(other)
    (tmp_path / "runs" / "tensorboard" / "c" / "stage1").mkdir(
        parents=True
    )  # event files: no run, and nothing unfinished
    table = h2t.table(tmp_path / "runs")
    assert table["run"].tolist() == ["a b/c", "linked"] and table.attrs["skipped"] == []
    assert h2t.table(run)["run"].tolist() == ["."]


@pytest.mark.parametrize(
    "change",
    [
        {"last": {"all": "high"}},
        {"last": [1]},
        {"params": None},
        {"environment": {"packages": 3}},
        {"seconds": "long"},
    ],
    ids=str,
)
def test_one_wrong_value_costs_its_own_row_alone(tmp_path, change):
    make_run(tmp_path / "good", names=())
    edit(make_run(tmp_path / "wrong", names=()) / "stage1" / "result.json", **change)
    table = h2t.table(tmp_path, save=False)
    assert table["run"].tolist() == ["good"] and "stage1/result.json is damaged" in str(
        table.attrs["skipped"]
    )


def test_mistakes_end_in_one_message(tmp_path):
    with pytest.raises(Error, match="there is no folder of runs .*none"):
        h2t.table(tmp_path / "none")
    with pytest.raises(Error, match="holds no finished step of a run; train a run"):
        h2t.table(tmp_path)
    make_run(tmp_path / "r", names=())
    os.unlink(tmp_path / "r" / "stage1" / "result.json")
    with pytest.raises(Error, match="r: stage1 of run .* is not finished"):
        h2t.table(tmp_path, save=False)


def test_an_empty_group_is_missing_and_columns_have_one_type(tmp_path):
    run = make_run(tmp_path / "r", names=())
    result = json.loads((run / "stage1" / "result.json").read_text())
    edit(run / "stage1" / "result.json", last={**result["last"], "many": None})
    make_run(tmp_path / "s", seed=1)
    table = h2t.table(tmp_path)
    assert (
        table.loc[0, "many"] != table.loc[0, "many"]
        and table["many"].dtype == float
        and len(COUNTS) == 6
    )
    assert "object" not in set(map(str, table.dtypes))


def test_the_benchmark_writes_runs_that_the_table_reads(tmp_path, monkeypatch):
    from tests.bench import table as bench_table
    from tests.bench.__main__ import bench

    monkeypatch.setattr(bench_table, "RUNS", 3)
    out = CliRunner().invoke(
        bench,
        ["table", "--check", "--out", str(tmp_path / "rows.csv")],
        catch_exceptions=False,
    )
    assert out.exit_code == 0 and "rows 12" in out.output
    monkeypatch.setattr(bench_table, "TARGET", 0.0)
    assert (
        CliRunner()
        .invoke(bench, ["table", "--check", "--out", str(tmp_path / "rows.csv")])
        .exit_code
        == 1
    )
    row = pd.read_csv(tmp_path / "rows.csv").iloc[0]
    assert row["runs"] == 3 and row["rows"] == 12
