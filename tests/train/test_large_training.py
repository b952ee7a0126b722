"""Both stages on streamed image files: from list files to predictions, with a frozen backbone, and
as the recipes say."""

import json
import shutil

import numpy as np
import pytest
import torch

from h2t import Run, Stage1, Stage2, prepare, train_stage1, train_stage2
from h2t.exchange.export import export
from h2t.exchange.predict import predict
from h2t.lab.explorer.engine import Explorer
from h2t.recipes import parameters as config
from h2t.train.cached import bank as banking
from h2t.train.cached import fit as fitting
from h2t.train.cached.key import bank_key
from h2t.train.evaluate import evaluate, features_of, load_model, one_batch
from h2t.train.rundata import dataset
from tests.helpers import same_weights, stop_after
from tests.large import (
    COUNTS,
    ONE,
    TWO,
    imagenet_lt,
    inaturalist2018,
    one_worker,
    places_lt,
    streamed_data,
)

__all__ = ["one_worker"]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch, one_worker):
    """Workers take longer to start than these images to decode; that they change nothing is a test
    of its own."""
    monkeypatch.setenv("H2T_WORKERS", "0")


def copy_of(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.mark.parametrize("source", ["places_lt", "inaturalist2018"])
def test_both_stages_on_the_other_sets(tmp_path, source, monkeypatch):
    monkeypatch.setenv("H2T_WORKERS", "1" if source == "places_lt" else "0")
    root = (
        places_lt(tmp_path / "set", "nested", "easy")
        if source == "places_lt"
        else inaturalist2018(tmp_path / "set")
    )
    data = prepare(
        tmp_path / "run", streamed_data(root, source, normalise="inaturalist"), progress=False
    )
    assert data.train.counts.tolist() == list(COUNTS) and Run(tmp_path / "run").params["mean"] == [
        0.466,
        0.471,
        0.380,
    ]
    train_stage1(tmp_path / "run", Stage1(**ONE), progress=False)
    result = train_stage2(tmp_path / "run", Stage2(**TWO), "h2t", progress=False)
    assert result["counts"] == list(COUNTS) and len(
        Run(tmp_path / "run").step("stage2-h2t").outputs()[0]
    ) == len(data.test)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_training_does_not_depend_on_the_workers_and_goes_on_where_it_stopped(
    made, tmp_path, monkeypatch, workers
):
    run, root = made
    monkeypatch.setenv("H2T_WORKERS", workers)
    prepare(tmp_path / "run", streamed_data(root), progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_stage1(tmp_path / "run", Stage1(**ONE), progress=False, on_epoch=stop_after(1))
    train_stage1(tmp_path / "run", Stage1(**ONE), progress=False)
    assert same_weights(Run(tmp_path / "run").step("stage1"), Run(run).step("stage1"))


def test_stage_2_the_bank_and_everything_after_go_through(made, tmp_path):
    run = copy_of(made[0], tmp_path)
    for name, stage2 in config.variants(Stage2(**TWO)).items():
        train_stage2(run, stage2, name, progress=False)
    a, b = (Run(run).step(f"stage2-{v}").weights() for v in ("dr", "h2t"))
    assert not torch.equal(a["head.weight"], b["head.weight"])
    z_fused, z_fusing, names = one_batch(run)
    assert names == ("n01484850", "n01440764") and z_fused.shape == z_fusing.shape == (64,)
    z, labels = features_of(run, "stage2-h2t", "train")
    assert z.shape == (sum(COUNTS), 64) and labels.tolist() == dataset(run).train.labels.tolist()
    bank = banking.build_bank(run, Stage2(**TWO), 2, progress=False)
    assert bank.train.shape == (2, sum(COUNTS), 64) and not torch.equal(
        bank.train[0], bank.train[1]
    )
    assert fitting.fit(bank, [0.0, 0.3], [0], Stage2(**TWO)).weight.shape == (2, 1, 3, 64)
    assert bank_key(Run(run), Stage2(**{**TWO, "color_jitter": 0.0})) != bank.key
    assert Explorer(run, Stage2(**TWO), views=2).images(np.array([0, 5])).shape == (
        2,
        16,
        16,
        3,
    )
    again = evaluate(run)
    assert again["stage2-h2t"]["last"] == pytest.approx(
        Run(run).step("stage2-h2t").result["last"], nan_ok=True
    )
    export(run)
    about = json.loads((run / "export" / "model.json").read_text())
    assert (about["height"], about["image_fit"], about["classes"][1]) == (16, "crop", "n01443537")


def test_new_images_are_prepared_as_test_images_are(made, tmp_path):
    run, root = made
    logits, labels = Run(run).step("stage1").outputs()
    table = predict(run, root / "val", progress=False).set_index("path")
    test = dataset(run, progress=False).test
    for path, z in zip(test.paths, logits.astype(float), strict=True):
        row = table.loc[path.removeprefix("val/")]
        assert row.label == test.classes[z.argmax()] and row.confidence == pytest.approx(
            100 / np.exp(z - z.max()).sum(), abs=0.02
        )


def test_it_learns(tmp_path):
    """Three classes of a colour each: a few epochs of random crops are enough."""
    root = imagenet_lt(tmp_path / "set")
    prepare(tmp_path / "run", streamed_data(root), progress=False)
    result = train_stage1(
        tmp_path / "run",
        Stage1(**{**ONE, "stage1_epochs": 16, "color_jitter": 0.1}),
        progress=False,
    )
    assert result["last"]["all"] > 60


@pytest.mark.parametrize("trainable", ["last_block", "new_last_block"])
def test_a_frozen_backbone_is_frozen_in_both_stages(made, tmp_path, trainable):
    run, root = made
    first = Run(run).step("stage1").weights()
    torch.save(
        {k.removeprefix("backbone."): v for k, v in first.items() if k.startswith("backbone.")},
        tmp_path / "w.pth",
    )
    prepare(tmp_path / "run", streamed_data(root), progress=False)
    train_stage1(
        tmp_path / "run",
        Stage1(**ONE, pretrained=str(tmp_path / "w.pth"), trainable=trainable),
        progress=False,
    )
    now = Run(tmp_path / "run").step("stage1").weights()
    for k, v in now.items():  # statistics too
        assert "num_batches" in k or torch.equal(v, first[k]) != k.startswith(
            ("backbone.layer3.2.", "head.")
        ), k
    train_stage2(tmp_path / "run", Stage2(**TWO, bn_statistics="both"), "h2t", progress=False)
    after = Run(tmp_path / "run").step("stage2-h2t").weights()
    moved = {k for k, v in after.items() if not torch.equal(v, now[k])}
    assert {k for k in moved if not k.startswith("head.")} == {
        k
        for k in now
        if k.startswith("backbone.layer3.2.") and ("running" in k or "num_batches" in k)
    }
    bank = banking.build_bank(tmp_path / "run", Stage2(**TWO), 1, progress=False)
    from safetensors.torch import load_file

    state = load_file(bank.folder / "backbone.safetensors")
    assert {k for k, v in state.items() if not torch.equal(v, now[f"backbone.{k}"])} <= {
        k.removeprefix("backbone.") for k in now if k.startswith("backbone.layer3.2.")
    }
    assert not load_model(tmp_path / "run", "stage2-h2t", "cpu").train().backbone.bn1.training
