"""Sweeps: planned as a whole, stage 1 shared, gone on with, and refused before anything runs."""

import pytest

from h2t import Error, Run
from h2t.base.files import claim
from h2t.study.sweep import plan as sweeping
from h2t.study.sweep.pool import Pool
from tests.study.sweeps import cli, recipe

STEPS = ["stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"]


def test_a_grid_is_planned_and_its_stage_1s_are_trained_once(undisturbed):
    file, root, out = undisturbed
    lines = out.splitlines()
    assert lines[0] == f"6 runs over fusion_ratio, seed in {root}"
    assert lines[1] == "to do: 6 runs, sharing 2 stage 1 to be trained once"
    assert lines[-1] == f"6 of 6 runs are done in {root}; compare them: h2t report {root}"
    overview = [line.split("  ")[0] for line in lines if "±" in line]
    fused = ["DR + H2T, p = 0.3", "DR + H2T, p = 0.6"]
    assert overview == ["stage 1", "DR", "DR, BN sees both", *fused]
    assert len(list((root / "shared").iterdir())) == 2
    runs = [Run(p) for p in root.iterdir() if (p / "done.json").exists() and p.name != "shared"]
    assert len(runs) == 6 and all(list(r.results()) == STEPS for r in runs)
    for r in runs:
        names = {name: result.get("adopted_from") for name, result in r.results().items()}
        assert names.pop("stage1").startswith("../shared/stage1-")
        assert set(names.values()) == {None}
        there = r.path / r.step("stage1").result["adopted_from"] / "weights.safetensors"
        assert there.samefile(r.path / "stage1" / "weights.safetensors")
    log = (root / "sweep.log").read_text()
    assert log.count(": done in") == 8 and "fusion_ratio-0.3_seed-1: begun" in log


def test_each_point_is_the_run_that_h2t_run_makes_of_it(undisturbed, tmp_path):
    point = undisturbed[1] / "fusion_ratio-0.6_seed-1"
    result = cli("run", point / "recipe.yaml", "--plain", "-p", "run", tmp_path / "alone")
    assert result.exit_code == 0, result.output
    alone, swept = (
        {k: v["weights_sha256"] for k, v in Run(p).results().items()}
        for p in (tmp_path / "alone", point)
    )
    assert alone == swept and len(set(swept.values())) == 4


def test_what_is_done_is_not_done_again_and_a_larger_grid_adds_what_is_new(undisturbed):
    file, root, _ = undisturbed
    before = {p: p.stat().st_mtime_ns for p in root.rglob("result.json")}
    again = cli("sweep", file, "--plain")
    assert again.exit_code == 0 and "6 done already" in again.output
    assert "to do" not in again.output.splitlines()[1]
    plan = sweeping.plan(file, {"fusion_ratio": [0.0, 0.3, 0.6, 0.9]}, books=None)
    assert [plan.jobs[n].kind for n in plan.todo] == ["run"] * 2
    assert {p: p.stat().st_mtime_ns for p in root.rglob("result.json")} == before


def test_a_run_takes_over_whole_files_only(undisturbed, tmp_path):
    """What a killed writer left in the shared stage 1, or in the run itself, is in no run after."""
    from h2t.study.sweep.job import perform

    plan = sweeping.plan(recipe(tmp_path, seed=0), books=None)
    first, point = (plan.jobs[n] for n in plan.todo[:2])
    perform(first)
    for folder in (tmp_path / "root" / first.name, tmp_path / "root" / point.name):
        Run(folder)
        (folder / "stage1").mkdir(exist_ok=True)
        (folder / "split.json.999999999.h2t-tmp").write_text("half")
        (folder / "stage1" / "weights.safetensors.999999999.h2t-tmp").write_text("half")
    perform(point)
    names = {p.relative_to(point.run).as_posix() for p in (plan.root / point.name).rglob("*")}
    other = undisturbed[1] / "fusion_ratio-0_seed-0"
    assert names == {p.relative_to(other).as_posix() for p in other.rglob("*")} - {"log.txt"}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"seed": [0, "x"]}, [], "seed is 'x' (str)"),
        ({"seed": [0, "x"]}, [], "(in the grid's point"),
        ({"sede": [0, 1]}, [], "unknown parameter 'sede'; did you mean 'seed'"),
        ({"fusion_ratio": [0.5, 1.5]}, [], "fusion_ratio is 1.5"),
        ({"source": "folder", "root": "/nowhere/at"}, [], "nothing at root '/nowhere/at'"),
        ({"source": "lists", "root": "/nowhere:/tmp"}, [], "nothing at root '/nowhere'"),
        ({"run": ["a", "b"]}, [], "run is the folder of the whole sweep"),
        ({"seed": 0, "fusion_ratio": 0.3}, [], "one point only"),
        ({}, ["--notebooks", "03"], "they build on one another"),
        ({}, ["--jobs", "-1"], "-1 is not in the range"),
    ],
)
def test_bad_sweeps_are_refused_before_anything_runs(tmp_path, changes, options, message):
    result = cli("sweep", recipe(tmp_path, **changes), *options)
    assert result.exit_code == 2 and message in result.output, result.output
    assert not (tmp_path / "root").exists()


def test_a_root_that_is_a_run_and_a_run_of_other_parameters_are_refused(undisturbed, tmp_path):
    root = undisturbed[1]
    with pytest.raises(Error, match="is no sweep that h2t made"):
        sweeping.plan(recipe(tmp_path, run=str(root / "fusion_ratio-0.3_seed-0")))
    with pytest.raises(Error, match="was made with stage1_epochs = 2, not 3"):
        sweeping.plan(recipe(tmp_path, run=str(root), stage1_epochs=3))
    same = recipe(tmp_path, run=str(root), imbalance_factor=20)  # 20 is 20.0
    assert sweeping.plan(same, books=None).todo == ()


@pytest.mark.parametrize("text", ["", "null", "{", "[1]", '{"key": 3, "notebooks": [], "a": 1}'])
def test_a_damaged_mark_is_named(tmp_path, text):
    run = tmp_path / "root" / "fusion_ratio-0.3_seed-0"
    claim(tmp_path / "root", "sweep")
    run.mkdir()
    (run / "done.json").write_text(text)
    result = cli("sweep", recipe(tmp_path), "--plain", "--dry-run")
    assert result.exit_code == 2 and f"{run / 'done.json'} is damaged (" in result.output
    assert "delete it and run the sweep again" in result.output
    (run / "done.json").unlink()
    (run / "recipe.yaml").write_text("{")
    result = cli("sweep", recipe(tmp_path), "--plain", "--dry-run")
    assert result.exit_code == 2 and f"{run / 'recipe.yaml'} is not a readable" in result.output


def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(tmp_path):
    file = recipe(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "photo.jpg").write_text("mine")
    result = cli("sweep", file, "--plain")
    assert result.exit_code == 2 and "is no sweep that h2t made" in result.output
    assert [p.name for p in (tmp_path / "root").iterdir()] == ["photo.jpg"]


def test_a_dry_run_shows_the_plan_and_starts_nothing(tmp_path):
    result = cli("sweep", recipe(tmp_path), "--dry-run", "--plain")
    assert result.exit_code == 0 and not (tmp_path / "root").exists()
    assert " at a time on this machine, " in result.output


def test_hundreds_of_runs_are_checked_one_by_one(tmp_path):
    many = dict(seed=list(range(20)), fusion_ratio=[k / 10 for k in range(10)])
    plan = sweeping.plan(recipe(tmp_path, **many))
    assert len(plan.points) == 200 and len(plan.jobs) == 200 + 20
    seen = {""}
    for name in plan.todo:  # each comes after what it needs
        assert plan.jobs[name].needs in seen
        seen.add(name)


def test_jobs_are_dealt_to_gpus_and_threads_to_jobs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    pool = Pool(4)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in pool.idle] == ["0", "3", "0", "3"]
    assert pool.slots == 4 and Pool().slots == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("h2t.study.sweep.pool.cores", lambda: 8)
    monkeypatch.setattr("h2t.study.sweep.pool.memory", lambda: 6 * 2**31)
    assert (Pool().slots, Pool().threads) == (6, 1) and (Pool(2).slots, Pool(2).threads) == (2, 4)


def test_gpus_are_found_without_nvidia_smi(tmp_path, monkeypatch):
    from h2t.base import machine

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "gpus")
    assert machine.gpus() == ["0", "1"]
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "none")
    assert machine.gpus() == []


def test_a_sweep_that_was_killed_before_it_marked_its_folder_is_begun_again(tmp_path):
    """Found by `python -m tests.crash sweep --every`: what it left was taken for somebody's."""
    from h2t.study.sweep.plan import _place

    (tmp_path / "h2t.json.123456.h2t-tmp").write_bytes(b"{")
    assert _place(str(tmp_path))[0] == tmp_path
    (tmp_path / "mine.h2t-tmp").write_bytes(b"{")
    with pytest.raises(Error, match="is no sweep that h2t made"):
        _place(str(tmp_path))
