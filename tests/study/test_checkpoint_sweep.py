"""A recipe that begins with a checkpoint: alone, in a sweep over seeds, and with all four cells."""

import json

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from h2t import Error, Run
from h2t.cli import main
from h2t.study.sweep.plan import plan
from tests.exchange.test_reference import write

RECIPE = {
    "source": "digits",
    "imbalance_factor": 20.0,
    "test_fraction": 0.4,
    "model": "resnet20",
    "stage2_epochs": 1,
    "batch_size": 64,
    "crop_padding": 1,
    "seed": [0, 1],
    "control": True,
}


def cli(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    write(folder / "c.pth.tar")
    (folder / "grid.yaml").write_text(
        yaml.safe_dump(
            {**RECIPE, "run": str(folder / "root"), "checkpoint": str(folder / "c.pth.tar")}
        )
    )
    result = cli("sweep", folder / "grid.yaml", "--plain")
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_it_is_imported_once_for_all_seeds_and_each_has_all_four_cells(swept):
    folder, output = swept
    assert "2 runs over seed" in output and "sharing 1 stage 1 to be trained once" in output
    results = [Run(folder / "root" / f"seed-{s}").results() for s in (0, 1)]
    for found in results:
        assert (
            list(found)
            == ["stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t", "stage2-h2t-balanced"]
            and found["stage1"]["imported"]["epoch"] == 200
        )
    assert results[0]["stage1"]["weights_sha256"] == results[1]["stage1"]["weights_sha256"]
    assert results[0]["stage2-dr"]["weights_sha256"] != results[1]["stage2-dr"]["weights_sha256"]
    done = cli("control", folder / "root", "--out", folder / "control.csv")
    assert done.exit_code == 0 and "(one stage 1 with 2 stage 2s)" in done.output
    effects = pd.read_csv(folder / "control_effects.csv")["effect"]
    assert set(effects) == {"fusion", "statistics", "interaction"}


def test_alone_it_gives_the_same_stage_2(swept, tmp_path):
    folder, _ = swept
    result = cli(
        "run", folder / "grid.yaml", "--plain", "-p", "seed", 1, "-p", "run", tmp_path / "run"
    )
    assert result.exit_code == 0, result.output
    alone, point = (Run(p).results() for p in (tmp_path / "run", folder / "root" / "seed-1"))
    assert {k: v["weights_sha256"] for k, v in alone.items()} == {
        k: v["weights_sha256"] for k, v in point.items()
    }
    assert (
        json.loads((tmp_path / "run" / "stage1" / "result.json").read_text())["imported"]["file"]
        == "c.pth.tar"
    )
    assert (
        cli(
            "run", folder / "grid.yaml", "--plain", "-p", "seed", 1, "-p", "run", tmp_path / "run"
        ).exit_code
        == 0
    )  # and is not imported again


def test_one_that_is_not_there_or_of_another_model_is_refused(swept, tmp_path):
    folder, _ = swept
    with pytest.raises(Error, match="there is no checkpoint nowhere.pth.tar"):
        plan(
            folder / "grid.yaml",
            {"checkpoint": "nowhere.pth.tar", "run": str(tmp_path / "x")},
            books=None,
        )
    result = cli(
        "run",
        folder / "grid.yaml",
        "--plain",
        "-p",
        "seed",
        1,
        "-p",
        "model",
        "resnet32",
        "-p",
        "run",
        tmp_path / "y",
    )
    assert result.exit_code == 2 and "model = 'resnet20', not 'resnet32'" in result.output


def test_control_and_fixed_statistics_do_not_go_together(swept, tmp_path):
    result = cli(
        "run",
        swept[0] / "grid.yaml",
        "--plain",
        "-p",
        "seed",
        1,
        "-p",
        "bn_statistics",
        "none",
        "-p",
        "run",
        tmp_path / "z",
    )
    assert (
        result.exit_code == 2
        and "bn_statistics is none" in result.output
        and not (tmp_path / "z").exists()
    )
