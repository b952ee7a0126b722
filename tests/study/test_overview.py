"""What a run comes to: where fusion helps, where it does not, and never more than is known."""

import numpy as np
import pandas as pd
import pytest

import h2t
from h2t import Run
from h2t.study.compare import units
from h2t.study.compare.groups import averages, summary
from h2t.study.compare.overview import SHOWN, agreement, changes, ending, of_fusion, of_run
from tests.synthetic import make_run, repeats


@pytest.fixture(scope="module", params=[1.6, 1.1, 0.7], ids=["helps", "nothing", "harms"])
def run(request, tmp_path_factory):
    """A run with three seeds of every stage 2, and how good those with fusion are."""
    folder = tmp_path_factory.mktemp("run") / "r"
    repeats(folder, 3, quality={"stage2-h2t": request.param})
    return folder, request.param


def test_a_run_is_its_main_steps_with_all_their_seeds(run):
    folder, _ = run
    rows = of_run(folder)
    assert rows["group"].value_counts().to_dict() == {
        "stage 1": 1,
        "DR": 3,
        "DR, BN sees both": 3,
        "DR + H2T": 3,
    }
    table = h2t.table(folder, save=False).set_index("step")
    own = table.loc[["stage2-h2t", "stage2-h2t-s1", "stage2-h2t-s2"], "all"]
    table = averages(summary(rows, SHOWN)).droplevel("setting")
    shown = table.loc["DR + H2T"]
    assert shown["all"] == f"{own.mean():.2f} ± {own.std(ddof=1):.2f}"
    assert (shown["stage 1s"], shown["networks"]) == ("1", "3")
    assert table.loc["stage 1", "networks"] == "1"


def test_fusion_is_held_against_its_control_seed_by_seed(run):
    folder, quality = run
    rows = of_run(folder)
    by = {g: part.set_index("seed")["all"] for g, part in rows.groupby("group")}
    moved = by["DR + H2T"] - by["DR, BN sees both"]
    table = changes(rows)
    assert list(table.index) == ["DR → DR, BN sees both", "DR, BN sees both → DR + H2T"]
    said = f"{moved.mean():+.2f} ± {moved.std(ddof=1):.2f}"
    assert table.loc["DR, BN sees both → DR + H2T", "all"] == said
    if quality != 1.1:
        assert np.sign(moved.mean()) == np.sign(quality - 1.1)
    sentence = of_fusion(rows)
    assert f"DR + H2T less DR, BN sees both, paired by seed: all {said}, few " in sentence
    assert "points on one stage 1 with 3 stage 2s, not tested. " in sentence


def test_seeds_of_stage_2_are_called_repeats_whatever_they_show(run):
    said = of_fusion(of_run(run[0]))
    assert said.endswith(units.ALONE) and "repeats, not independent runs" in units.ALONE
    assert not {"better", "worse", "significant"} & set(said.split())


def test_without_a_control_or_without_fusion_nothing_is_said_of_it(tmp_path):
    make_run(tmp_path / "plain", names=("dr",))
    assert of_fusion(of_run(tmp_path / "plain")) == ""
    make_run(tmp_path / "old", names=("dr", "h2t"))
    assert "DR + H2T less DR: all " in of_fusion(of_run(tmp_path / "old"))


def test_a_run_ends_with_means_what_they_are_worth_and_three_commands(run, monkeypatch):
    folder, _ = run
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("UV", "/usr/bin/uv")
    lines = ending(Run(folder)).splitlines()
    header = ["networks", "many", "medium", "few", "all", "ECE"]
    assert lines[0].split() == ["test", "accuracy,", "%", *header]
    names = ["stage 1", "DR", "DR, BN sees both", "DR + H2T"]
    assert [line[:17].strip() for line in lines[1:5]] == names
    assert all(line.count("±") == 5 for line in lines[2:5]) and lines[5].startswith("±: ")
    place = lines.index(f"run directory: {folder}")
    assert " ".join(lines[6:place]) == of_fusion(of_run(folder))
    assert max(map(len, lines[6:place])) < 100
    commands = ["report r", "explore r", "run own -p root FOLDER"]
    assert [line.strip() for line in lines[place + 2 :]] == [f"uv run h2t {c}" for c in commands]


def test_a_run_of_one_seed_claims_no_spread(tmp_path):
    text = ending(Run(make_run(tmp_path / "r")))
    assert "±" not in text and "paired by seed" not in text and "not tested" in text


def rows(exact: float, cached: float, noise=(0.1, -0.1, 0.0), seeds: int = 3) -> pd.DataFrame:
    """Effects of fusion by kind, with a little noise over seeds."""
    return pd.DataFrame(
        {"kind": kind, "ratio": ratio, "seed": s, "all": 80 + ratio / 0.3 * (effect + noise[s])}
        for kind, effect in (("exact", exact), ("cached", cached))
        for ratio in (0.0, 0.3)
        for s in range(seeds)
    )


def test_exact_and_cached_are_so_far_apart_on_one_stage_1_which_is_no_evidence():
    """However many seeds of stage 2 there are: they agreed, or disagreed, 'beyond their spread'."""
    said = agreement(rows(0.17, 0.15))
    assert "by +0.17 ± 0.10 points exactly computed and +0.15 ± 0.10 cached" in said
    assert "-0.02 ± 0.00 apart (one stage 1 with 3 stage 2s)" in said and said.endswith(units.ALONE)
    assert "-2.00 ± 0.00 apart" in agreement(rows(2.0, 0.0))
    one = agreement(rows(2.0, 0.0, seeds=1))
    assert "+2.10 points exactly computed" in one and "±" not in one
    assert agreement(rows(1.0, 1.0).query("ratio > 0")) == ""  # nothing to compare with
