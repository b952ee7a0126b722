import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from h2t import Error, Run
from h2t.base.files import resolve, write_json
from h2t.base.machine import environment
from h2t.base.readers import read_yaml
from h2t.cli import main
from tests.exchange.test_reference import write
from tests.helpers import digits_run

NETWORK = {"model": "resnet20", "head": "linear", "num_classes": 2, "in_channels": 1}


def test_a_step_is_done_only_when_its_result_is_written(tmp_path):
    step = Run(tmp_path / "r").step("stage1")
    assert not step.done and step.begin({"seed": 0}) is None and not step.done
    step.save_checkpoint({"epoch": 1, "x": torch.ones(2)}, [{"epoch": 1, "loss": 0.5}])
    assert (
        not step.done
        and step.load_checkpoint()["epoch"] == 1
        and step.history() == [{"epoch": 1, "loss": 0.5}]
    )
    result = step.finish(
        {"w": torch.arange(3.0)},
        {"logits": torch.zeros(2, 2), "labels": torch.tensor([0, 1])},
        {**NETWORK, "last": {}},
    )
    assert step.done and step.begin({"seed": 0}) == result == json.loads(
        (step.path / "result.json").read_text()
    )
    assert torch.equal(step.weights()["w"], torch.arange(3.0))
    logits, labels = step.outputs()
    assert logits.shape == (2, 2) and labels.tolist() == [0, 1] and labels.dtype == np.int64
    assert not (step.path / "checkpoint.pt").exists()
    assert (
        result["environment"]["packages"]["torch"] == torch.__version__.split("+")[0]
        or result["environment"]["packages"]["torch"] == torch.__version__
    )


def test_other_parameters_for_a_begun_step_are_refused_and_again_starts_over(tmp_path):
    step = Run(tmp_path / "r").step("stage1")
    step.begin({"seed": 0, "lr": 0.3})
    step.begin({"seed": 0, "lr": 0.1})  # nothing was trained yet
    step.save_checkpoint({"epoch": 1}, [{"epoch": 1}])
    with pytest.raises(Error, match="begun with lr = 0.1, not 0.2; choose another run.*--again"):
        step.begin({"seed": 0, "lr": 0.2})
    step.finish({"w": torch.zeros(1)}, {}, NETWORK)
    assert step.begin({"seed": 0, "lr": 0.2}, again=True) is None
    assert not step.done and step.params == {"seed": 0, "lr": 0.2}


def test_two_processes_cannot_write_one_run(tmp_path):
    code = f"from h2t import Run\nwith Run({str(tmp_path / 'r')!r}).lock():\n"
    code += "    print('held', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(Error, match="in use by another process"), Run(tmp_path / "r").lock():
            pass
    finally:
        other.kill()
        other.wait()
    with Run(tmp_path / "r").lock():  # a killed holder leaves nothing behind
        pass


def test_a_full_disk_ends_in_one_message_and_keeps_what_was_there(tmp_path, monkeypatch):
    step = Run(tmp_path / "r").step("stage1")
    step.begin({})
    step.save_checkpoint({"epoch": 1}, [{"epoch": 1}])

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Error, match="(?i)(disk|space).*checkpoint.pt|checkpoint.pt.*(disk|space)"):
        step.save_checkpoint({"epoch": 2}, [{"epoch": 1}, {"epoch": 2}])
    monkeypatch.undo()
    assert step.load_checkpoint()["epoch"] == 1 and step.history() == [{"epoch": 1}]
    assert sorted(p.name for p in step.path.iterdir()) == [
        "checkpoint.pt",
        "metrics.jsonl",
        "params.yaml",
    ]


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.safetensors", "result.json"])
def test_a_damaged_file_is_named(tmp_path, name):
    step = Run(tmp_path / "r").step("stage1")
    step.begin({})
    step.save_checkpoint({"epoch": 1}, [])
    checkpoint = (step.path / "checkpoint.pt").read_bytes()
    step.finish({"w": torch.zeros(9)}, {}, NETWORK)
    (step.path / "checkpoint.pt").write_bytes(checkpoint)
    path = step.path / name
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    read = {
        "checkpoint.pt": step.load_checkpoint,
        "weights.safetensors": step.weights,
        "result.json": lambda: step.result,
    }
    with pytest.raises(Error, match=f"{name} is damaged"):
        read[name]()


def test_a_checkpoint_with_a_pickled_object_is_refused(tmp_path):
    step = Run(tmp_path / "r").step("stage1")
    step.begin({})
    torch.save({"epoch": 1, "evil": subprocess.Popen}, step.path / "checkpoint.pt")
    with pytest.raises(Error, match="checkpoint.pt was refused: it holds .*Popen, which is code"):
        step.load_checkpoint()


def test_missing_things_say_how_to_get_them(tmp_path):
    with pytest.raises(Error, match="no run directory .*h2t run"):
        Run(tmp_path / "none", create=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(Error, match="is a file"):
        Run(tmp_path / "file")
    step = Run(tmp_path / "r").step("stage2-h2t")
    for read in (lambda: step.result, step.weights, step.outputs):
        with pytest.raises(Error, match="stage2-h2t of run"):
            read()


def test_bad_recipes_are_named(tmp_path):
    for text, message in [
        ("- a\n", "name: value"),
        ("a: [", "not a readable YAML"),
        ("1: 2", "name: value"),
    ]:
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(Error, match=f"r.yaml.*{message}"):
            read_yaml(tmp_path / "r.yaml")
    with pytest.raises(Error, match="none.yaml does not exist"):
        read_yaml(tmp_path / "none.yaml")


def test_relative_paths_start_at_the_project_also_from_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "h2t").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert resolve("runs/x") == tmp_path / "runs" / "x"
    monkeypatch.chdir(tmp_path)
    assert resolve("runs/x") == tmp_path / "runs" / "x"


def test_json_refuses_nan_rather_than_writing_it(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_the_environment_names_versions_device_and_revision():
    record = environment("cpu")
    assert record["packages"]["torch"] and record["device"] == "cpu" and record["cores"] >= 1
    assert record["revision"] is None or len(record["revision"].removesuffix("+changes")) == 40
    assert yaml.safe_dump(record)


def test_nothing_is_left_behind_by_killed_writers(tmp_path):
    run = Run(tmp_path / "r")
    step = run.step("stage1")
    step.begin({"seed": 0})
    step.save_checkpoint({"epoch": 1}, [{"epoch": 1}])
    checkpoint = (step.path / "checkpoint.pt").read_bytes()
    result = step.finish({"w": torch.zeros(1)}, {}, NETWORK)
    (run.path / "figures").mkdir()
    left = [run.path / "params.yaml", run.path / "figures" / "f.png", step.path / "result.json"]
    left = [p.with_name(f"{p.name}.4194399.h2t-tmp") for p in left]  # of a process that is gone
    for path in left:
        path.write_bytes(b"half")
    mine = run.path / "notes.h2t-tmp"  # no writer's name
    mine.write_text("mine")
    (step.path / "checkpoint.pt").write_bytes(checkpoint)  # killed after result.json
    with run.lock():
        assert step.begin({"seed": 0}) == result
    assert not any(path.exists() for path in left) and mine.exists()
    assert not (step.path / "checkpoint.pt").exists()


def test_weights_are_those_that_were_recorded_and_hold_numbers(tmp_path):
    step = Run(tmp_path / "r").step("stage1")
    step.begin({})
    step.finish({"w": torch.zeros(3)}, {}, NETWORK)
    other = Run(tmp_path / "s").step("stage1")
    other.begin({})
    other.finish({"w": torch.ones(3)}, {}, NETWORK)
    whole = (other.path / "weights.safetensors").read_bytes()
    (step.path / "weights.safetensors").write_bytes(whole)
    with pytest.raises(Error, match="weights.safetensors is damaged .*hash.*--again"):
        step.weights()
    other.finish({"w": torch.tensor([1.0, float("nan")])}, {}, NETWORK)
    with pytest.raises(Error, match="w holds NaN"):
        other.weights()


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((3, 2), [0, 1]), ((2, 2), [0, 10**9]), ((2, 2), [0, -1]), ((2, 2, 2), [0, 1])],
)
def test_outputs_fit_together(tmp_path, logits, labels):
    step = Run(tmp_path / "r").step("stage1")
    step.begin({})
    outputs = {"logits": torch.zeros(logits), "labels": torch.tensor(labels)}
    step.finish({"w": torch.zeros(1)}, outputs, NETWORK)
    with pytest.raises(Error, match="outputs.safetensors is damaged"):
        step.outputs()


def test_another_file_of_pretrained_weights_under_the_same_name_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"one")
    params = {"pretrained": str(tmp_path / "w.pth")}
    step = Run(tmp_path / "r").step("stage1")
    step.begin(params)
    step.save_checkpoint({"epoch": 1}, [])
    (tmp_path / "w.pth").write_bytes(b"two")
    with pytest.raises(Error, match="begun with pretrained_sha256"):
        step.begin(params)
    (tmp_path / "w.pth").unlink()  # not needed to go on
    assert step.begin(params) is None


def test_a_run_says_that_its_stage_1_was_imported_or_refuses_another(tmp_path):
    """`h2t import`, and then a recipe that names no checkpoint."""
    write(tmp_path / "c.pth.tar")
    run = str(digits_run(tmp_path / "run")[0])
    quick = ["imbalance_factor", "20", "test_fraction", "0.4", "stage2_epochs", "1", "run", run]
    given = ["-p", "source", "digits", "-p", "precision", "fp32"]
    for name, value in zip(quick[::2], quick[1::2], strict=True):
        given += ["-p", name, value]
    done = CliRunner().invoke(main, ["import", str(tmp_path / "c.pth.tar"), "--run", run])
    assert done.exit_code == 0, done.output
    recipe = ["run", "notebooks/recipes/digits.yaml", "--plain", *given]
    refused = CliRunner().invoke(main, [*recipe, "-p", "model", "resnet32"])
    assert refused.exit_code and "begun with model = 'resnet20', not 'resnet32'" in refused.output
    done = CliRunner().invoke(main, recipe)
    assert done.exit_code == 0, done.output
    assert "stage 1 was imported from c.pth.tar, and not trained by this recipe" in done.output


def test_a_run_of_which_nothing_came_leaves_no_directory(tmp_path):
    (tmp_path / "x.npz").write_text("no archive")
    run, given = tmp_path / "run", ["-p", "source", "npz", "-p", "root", str(tmp_path / "x.npz")]
    command = ["run", "digits", "--plain", *given, "-p", "run", str(run)]
    assert "it is no npz file" in CliRunner().invoke(main, command).output
    assert not run.exists()
    run.mkdir()
    (run / "mine.txt").write_text("mine")
    assert "nothing in it is touched" in CliRunner().invoke(main, command).output
    assert [p.name for p in run.iterdir()] == ["mine.txt"]
