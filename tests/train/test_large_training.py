"""Both stages on streamed image files: from list files to predictions, with a frozen backbone, and as the recipes say."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner

from h2t import Error, Run, Stage1, Stage2, models, prepare, train_stage1, train_stage2
from h2t.cli import main
from h2t.exchange import reference as published
from h2t.exchange.export import export
from h2t.exchange.predict import predict
from h2t.lab.books.execute import complete, load_recipe
from h2t.lab.explorer.engine import Explorer
from h2t.pipeline import run_plain
from h2t.recipes import methods_large as recipes_large
from h2t.recipes import parameters as config
from h2t.train.cached import bank as banking
from h2t.train.cached import fit as fitting
from h2t.train.evaluate import evaluate, features_of, load_model, one_batch
from h2t.train.rundata import dataset
from h2t.train.schedule import stage1_lr
from tests.helpers import ROOT, same_weights, stop_after
from tests.large import COUNTS, imagenet_lt, inaturalist2018, one_worker, places_lt, streamed_data

__all__ = ["one_worker"]
CUT = dict(
    precision="fp32", crop="resized", color_jitter=0.4, crop_padding=0, batch_size=8, eval_every=2
)
ONE = dict(
    model="resnet20",
    stage1_epochs=2,
    warmup_epochs=0,
    stage1_schedule="cosine",
    mixup_alpha=0.2,
    stage1_lr=0.05,
    **CUT,
)
TWO = dict(stage2_epochs=2, **CUT)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A streamed run with a stage 1, and its image tree."""
    with pytest.MonkeyPatch.context() as m:
        m.setenv("H2T_WORKERS", "1")
        root = imagenet_lt(tmp_path_factory.mktemp("set"))
        run = tmp_path_factory.mktemp("runs") / "run"
        prepare(run, streamed_data(root), progress=False)
        train_stage1(run, Stage1(**ONE), progress=False)
    return run, root


@pytest.fixture(autouse=True)
def no_worker(monkeypatch, one_worker):
    """Workers take longer to start than these images to decode; that they change nothing is a test of its own."""
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
    assert banking.bank_key(Run(run), Stage2(**{**TWO, "color_jitter": 0.0})) != bank.key
    assert Explorer(run, Stage2(**TWO), views=2, progress=False).images(np.array([0, 5])).shape == (
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


def test_a_pretrained_file_is_not_needed_to_go_on(made, tmp_path):
    root = made[1]
    torch.save(models.build("resnet20", 3).backbone.state_dict(), tmp_path / "w.pth")
    prepare(tmp_path / "run", streamed_data(root), progress=False)
    recipe = Stage1(**ONE, pretrained=str(tmp_path / "w.pth"))
    with pytest.raises(KeyboardInterrupt):
        train_stage1(tmp_path / "run", recipe, progress=False, on_epoch=stop_after(1))
    (tmp_path / "w.pth").unlink()
    assert train_stage1(tmp_path / "run", recipe, progress=False)["epochs"] == 2
    with pytest.raises(Error, match="w.pth does not exist"):
        train_stage1(tmp_path / "run", recipe, progress=False, again=True)


def test_nor_is_it_by_the_command(tmp_path):
    torch.save(
        models.build("resnet20", 10, in_channels=1).backbone.state_dict(), tmp_path / "w.pth"
    )
    quick = {
        "run": str(tmp_path / "run"),
        "pretrained": str(tmp_path / "w.pth"),
        "stage1_epochs": 2,
        "stage2_epochs": 1,
        "warmup_epochs": 0,
    }
    parameters = complete(*load_recipe(ROOT / "notebooks" / "recipes" / "digits.yaml", quick))
    prepare(tmp_path / "run", config.Data.of(parameters), progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_stage1(
            tmp_path / "run", Stage1.of(parameters), progress=False, on_epoch=stop_after(1)
        )
    (tmp_path / "w.pth").unlink()
    assert run_plain(parameters).step("stage2-h2t").done
    with pytest.raises(Error, match="w.pth does not exist"):
        run_plain(parameters, again=True)
    assert Run(tmp_path / "run").step("stage1").done  # a refused start over has lost nothing


def test_a_damaged_image_stops_training_with_its_name(tmp_path):
    root = imagenet_lt(tmp_path / "set")
    data = prepare(tmp_path / "run", streamed_data(root), progress=False)
    (root / data.train.paths[3]).write_bytes(b"x" * (root / data.train.paths[3]).stat().st_size)
    with pytest.raises(Error, match="image .*n01440764_3.JPEG cannot be decoded"):
        train_stage1(tmp_path / "run", Stage1(**ONE), progress=False)


def test_a_changed_image_is_noticed_and_a_copied_set_is_not(tmp_path):
    root = imagenet_lt(tmp_path / "set")
    for loader in ("streamed", "resident"):
        prepare(tmp_path / loader, streamed_data(root, loader=loader), progress=False)
    shutil.move(root, tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", root, copy_function=shutil.copy)  # with other times
    for loader in ("streamed", "resident"):
        dataset(tmp_path / loader, progress=False)
    path = root / "train" / "n01440764" / "n01440764_0.JPEG"
    shutil.copy(root / "train" / "n01443537" / "n01443537_2.JPEG", path)
    for loader in ("streamed", "resident"):
        with pytest.raises(Error, match="no longer holds the images that run"):
            dataset(tmp_path / loader, progress=False)


def test_random_crops_need_the_files(tmp_path):
    prepare(
        tmp_path / "run",
        streamed_data(imagenet_lt(tmp_path / "set"), loader="resident"),
        progress=False,
    )
    with pytest.raises(
        Error, match="crop resized cuts from the image files, but run .* holds them decoded"
    ):
        train_stage1(tmp_path / "run", Stage1(**ONE), progress=False)
    with pytest.raises(
        Error,
        match="crop resized cuts from the image files, which loader resident decodes beforehand",
    ):
        config.check({"crop": "resized", "loader": "resident"})
    result = train_stage1(tmp_path / "run", Stage1(**{**ONE, "crop": "padded"}), progress=False)
    assert result["last"]["all"] is not None


def test_a_checkpoint_of_a_large_network_is_imported_with_its_block_apart(made, tmp_path):
    """As MiSLAS keeps its Places-LT models: the last block of layer 4 by itself, and only that is not frozen."""
    run, root = made
    network = models.build("resnet18", 3, generator=torch.Generator().manual_seed(1))
    state = network.backbone.state_dict()
    content = {
        "epoch": 90,
        "state_dict_model": {
            f"module.{k}": v for k, v in state.items() if not k.startswith("layer4.1.")
        },
        "state_dict_block": {
            f"module.{k.removeprefix('layer4.1.')}": v
            for k, v in state.items()
            if k.startswith("layer4.1.")
        },
        "state_dict_classifier": {
            f"module.fc.{k}": v for k, v in network.head.state_dict().items()
        },
        "best_acc1": 40.0,
        "its_ece": 0.1,
    }
    torch.save(content, tmp_path / "places.pth.tar")
    found = published.read_checkpoint(tmp_path / "places.pth.tar")
    assert found["model"] == "resnet18" and found["trainable"] == "last_block"
    prepare(tmp_path / "run", streamed_data(root), progress=False)
    published.import_checkpoint(tmp_path / "places.pth.tar", tmp_path / "run", device="cpu")
    backbone = load_model(tmp_path / "run", "stage1", "cpu").train().backbone
    assert not backbone.layer4[0].training and backbone.layer4[1].training
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.allclose(
            load_model(tmp_path / "run", "stage1", "cpu")(x), network.eval()(x), atol=1e-5
        )
    for name, wanted in (("resnet10", "resnet10"), ("resnext50", "resnext50")):
        with torch.device("meta"):
            shapes = models.BACKBONES[name]().state_dict()
        assert published._name({f"backbone.{k}": v for k, v in shapes.items()}) == wanted


def test_a_cosine_without_warm_up():
    c = Stage1(stage1_schedule="cosine", warmup_epochs=0, stage1_epochs=180, stage1_lr=0.1)
    for e in (1, 2, 90, 180):
        assert stage1_lr(e, c) == pytest.approx(0.1 * (1 + np.cos(np.pi * (e - 1) / 180)) / 2)
    warm = Stage1(stage1_schedule="cosine", warmup_epochs=5, stage1_epochs=10)
    assert [stage1_lr(e, warm) for e in (1, 5, 6)] == pytest.approx([0.02, 0.1, 0.1]) and stage1_lr(
        10, warm
    ) > 0


@pytest.mark.parametrize(
    ("recipe", "stage1", "source"),
    [
        ("imagenet_lt_resnet50", recipes_large.IMAGENET_LT, "imagenet_lt"),
        ("imagenet_lt_resnet10", recipes_large.IMAGENET_LT_RESNET10, "imagenet_lt"),
        ("inaturalist2018", recipes_large.INATURALIST2018, "inaturalist2018"),
        ("places_lt", recipes_large.PLACES_LT, "places_lt"),
    ],
)
def test_recipe_files_and_constants_say_the_same(recipe, stage1, source):
    parameters = complete(*load_recipe(ROOT / f"notebooks/recipes/{recipe}.yaml", {}))
    got, batch = Stage1.of(parameters), {"batch_size": stage1.batch_size}
    differ = {k for k, v in got.to_dict().items() if v != stage1.to_dict()[k]}
    assert differ <= {"eval_every"}
    second = Stage2.of(parameters)
    assert {
        k
        for k, v in second.to_dict().items()
        if v != {**recipes_large.DR_H2T_LARGE[source].to_dict(), **batch}[k]
    } <= {"eval_every"}
    data = config.Data.of(parameters)
    assert (data.source, data.image_size, data.image_fit, data.loader, data.profile) == (
        source,
        224,
        "crop",
        "streamed",
        "natural",
    )


def test_a_recipe_from_the_command_line(tmp_path, monkeypatch):
    """The recipe of ImageNet-LT itself, its network and all, on small images and for one epoch; then new images."""
    monkeypatch.chdir(ROOT)
    root = imagenet_lt(tmp_path / "set")
    small = {
        "root": root,
        "run": tmp_path / "run",
        "image_size": 16,
        "batch_size": 16,
        "stage1_epochs": 1,
        "stage2_epochs": 1,
    }
    pairs = [x for k, v in small.items() for x in ("-p", k, str(v))]
    out = CliRunner().invoke(
        main,
        [
            "run",
            "notebooks/recipes/imagenet_lt_resnet10.yaml",
            *pairs,
            "--plain",
            "--device",
            "cpu",
        ],
        catch_exceptions=False,
    )
    assert out.exit_code == 0 and "stage 2, DR + H2T" in out.output, out.output
    params = yaml.safe_load((tmp_path / "run" / "stage1" / "params.yaml").read_text())
    assert (
        params["model"] == "resnet10"
        and params["stage1_schedule"] == "cosine"
        and params["crop"] == "resized"
    )
    assert Run(tmp_path / "run").step("stage2-h2t").weights()["head.weight"].shape == (3, 512)
    out = CliRunner().invoke(
        main,
        [
            "predict",
            str(tmp_path / "run"),
            str(root / "val"),
            "--out",
            str(tmp_path / "p.csv"),
            "--device",
            "cpu",
        ],
        catch_exceptions=False,
    )
    assert out.exit_code == 0 and set(pd.read_csv(tmp_path / "p.csv")["label"]) <= {
        "n01440764",
        "n01443537",
        "n01484850",
    }
