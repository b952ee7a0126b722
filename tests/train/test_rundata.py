"""A run's data: loaded once, known without their images, and refused where any part has changed."""

import json

import numpy as np
import pytest
import torch

import h2t.train.rundata as rundata
from h2t import Data, Error, Run, prepare, train_stage1
from h2t.pipeline import run_plain
from h2t.train.rundata import dataset
from tests.exchange.test_reference import write
from tests.helpers import TINY1, TINY2, digits_run, stage1_config, stop_after

QUICK = {**TINY1, **TINY2, "stage1_epochs": 1, "warmup_epochs": 0, "stage2_epochs": 1}


def made(path, **changes):
    """An npz of three classes in three parts, with some of its arrays changed."""
    r = np.random.default_rng(0)
    arrays = {"class_names": np.array(["a", "b", "c"])}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = r.integers(0, 256, (60, 8, 8), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(60).reshape(-1, 1) % 3
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    np.savez(path, **arrays)
    return Data(source="npz", root=str(path), imbalance_factor=4.0, normalise="train")


@pytest.fixture
def loads(monkeypatch):
    """What was loaded from a source of images, one entry a time."""
    seen, real = [], rundata.load
    monkeypatch.setattr(rundata, "load", lambda *a, **k: (seen.append(a[0]), real(*a, **k))[1])
    return seen


def test_a_whole_run_loads_its_images_once(tmp_path, loads):
    parameters = {**QUICK, "source": "digits", "imbalance_factor": 20.0, "control": True}
    run = run_plain({**parameters, "run": str(tmp_path / "run")}, device="cpu")
    assert len(run.results()) == 5 and loads == ["digits"]


def test_a_checkpoint_is_imported_and_measured_on_the_same_images(tmp_path, loads):
    write(tmp_path / "c.pth.tar")
    parameters = {**QUICK, "source": "digits", "checkpoint": str(tmp_path / "c.pth.tar")}
    run = run_plain({**parameters, "run": str(tmp_path / "run")}, device="cpu")
    assert run.step("stage1").result["imported"]["file"] == "c.pth.tar" and loads == ["digits"]


def test_classes_and_shape_are_known_without_the_images(tmp_path):
    data = prepare(tmp_path / "run", made(tmp_path / "x.npz"), progress=False)
    inputs = Run(tmp_path / "run").inputs
    assert tuple(inputs["classes"]) == data.classes == ("a", "b", "c")
    assert inputs["shape"] == [8, 8, 1]


@pytest.mark.parametrize(
    ("array", "change", "named"),
    [
        ("train_images", lambda a: 255 - a, "the training images are"),
        ("train_labels", lambda a: (a + 1) % 3, "the training labels are"),
        ("val_images", lambda a: a[::-1], "the validation images are"),
        ("val_labels", lambda a: 2 - a, "the validation labels are"),
        ("test_images", lambda a: 255 - a, "the test images are"),
        ("test_labels", lambda a: 2 - a, "the test labels are"),
        ("class_names", lambda a: a[::-1], "the names of the classes are"),
    ],
)
def test_what_changed_behind_a_run_is_named_and_made_anew(tmp_path, array, change, named):
    run = tmp_path / "run"
    prepare(run, made(tmp_path / "x.npz"), progress=False)
    assert dataset(run).val is not None
    config = made(tmp_path / "x.npz", **{array: change})
    for call in (lambda: dataset(run), lambda: prepare(run, config, progress=False)):
        with pytest.raises(Error, match=named):
            call()
    Run(run).restart()  # what --again does
    assert prepare(run, config, progress=False).classes == dataset(run).classes


def test_another_set_is_refused_and_the_same_one_at_another_place_is_recorded(tmp_path):
    run, config = tmp_path / "run", made(tmp_path / "x.npz")
    prepare(run, config, progress=False)
    other = Data(**{**config.to_dict(), "imbalance_factor": 2.0})
    with pytest.raises(Error, match="already holds a set with imbalance_factor = 4.0, not 2.0"):
        prepare(run, other, progress=False)
    (tmp_path / "x.npz").rename(tmp_path / "y.npz")
    moved = Data(**{**config.to_dict(), "root": str(tmp_path / "y.npz")})
    prepare(run, moved, progress=False)
    assert dataset(run).name and Run(run).params["root"].endswith("y.npz")


def test_a_stage_1_from_another_checkpoint_is_named_and_refused(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    one, two = tmp_path / "one.pth.tar", tmp_path / "two.pth.tar"
    write(one)
    write(two, lambda c: c["state_dict_classifier"]["module.fc.bias"].add_(1))
    first = train_stage1(run, stage1_config(checkpoint=str(one)), progress=False)
    assert train_stage1(run, stage1_config(checkpoint=str(one)), progress=False) == first
    with pytest.raises(Error, match=r"was imported from .*one.pth.tar, and the recipe names .*two"):
        train_stage1(run, stage1_config(checkpoint=str(two)), progress=False)
    with pytest.raises(Error, match=r"imported from .*one.pth.tar, and the recipe names no check"):
        train_stage1(run, stage1_config(stage1_lr=0.3), progress=False)
    one.unlink()  # it is not needed any more
    assert train_stage1(run, stage1_config(checkpoint=str(one)), progress=False) == first
    again = train_stage1(run, stage1_config(checkpoint=str(two)), again=True, progress=False)
    assert again["imported"]["file"] == "two.pth.tar"


def test_a_trained_stage_1_is_not_thrown_away_for_a_checkpoint(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    write(tmp_path / "c.pth.tar")
    with pytest.raises(KeyboardInterrupt):
        train_stage1(run, stage1_config(), progress=False, on_epoch=stop_after(1))
    with pytest.raises(Error, match="stage1 of run .* was begun with checkpoint = ''"):
        train_stage1(run, stage1_config(checkpoint=str(tmp_path / "c.pth.tar")), progress=False)
    assert (Run(run).path / "stage1" / "checkpoint.pt").exists()


def test_a_checkpoint_that_is_not_finite_is_refused_before_it_is_a_step(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    write(
        tmp_path / "c.pth.tar",
        lambda c: c["state_dict_classifier"]["module.fc.bias"].fill_(torch.nan),
    )
    with pytest.raises(Error, match="c.pth.tar"):
        train_stage1(run, stage1_config(checkpoint=str(tmp_path / "c.pth.tar")), progress=False)
    assert not Run(run).step("stage1").done
    assert json.loads((Run(run).path / "inputs.json").read_text())["shape"] == [8, 8, 1]
