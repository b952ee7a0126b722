"""Both stages on streamed image files: from list files to predictions, with a frozen backbone, and
as the recipes say."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner

from h2t import Error, Run, Stage1, models, prepare, train_stage1
from h2t.cli import main
from h2t.exchange import reference as published
from h2t.lab.books.execute import complete, load_recipe
from h2t.pipeline import run_plain
from h2t.recipes import parameters as config
from h2t.train.evaluate import load_model
from h2t.train.rundata import dataset
from h2t.train.schedule import stage1_lr
from tests.helpers import ROOT, stop_after
from tests.large import ONE, imagenet_lt, one_worker, streamed_data

__all__ = ["one_worker"]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch, one_worker):
    """Workers take longer to start than these images to decode; that they change nothing is a test
    of its own."""
    monkeypatch.setenv("H2T_WORKERS", "0")


def copy_of(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


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
        with pytest.raises(Error, match="training images are no longer those that run"):
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
    """As MiSLAS keeps its Places-LT models: the last block of layer 4 by itself, and only that is
    not frozen."""
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


# typed off the released settings of MiSLAS (ImageNet-LT and iNaturalist, ResNet-50; Places-LT) and
# of BALMS (ResNet-10): model, epochs, rate, batch, weight decay of stage 1 and of stage 2, mixup
LARGE = {
    "imagenet_lt_resnet50": ("resnet50", 180, 0.1, 256, 5e-4, 5e-4, 0.2),
    "imagenet_lt_resnet10": ("resnet10", 90, 0.2, 512, 5e-4, 5e-4, 0.0),
    "inaturalist2018": ("resnet50", 200, 0.1, 256, 1e-4, 1e-4, 0.2),
    "places_lt": ("resnet152", 90, 0.1, 256, 5e-4, 5e-4, 0.2),
}


@pytest.mark.parametrize("recipe", LARGE)
def test_recipes_of_the_large_sets_are_the_released_settings(recipe):
    got = complete(*load_recipe(ROOT / f"notebooks/recipes/{recipe}.yaml", {}))
    names = ("model", "stage1_epochs", "stage1_lr", "batch_size", "stage1_weight_decay")
    names += ("stage2_weight_decay", "mixup_alpha")
    assert tuple(got[k] for k in names) == LARGE[recipe]
    assert (got["stage2_lr"], got["stage2_epochs"], got["fusion_ratio"]) == (0.005, 10, 0.3)
    assert (got["stage1_schedule"], got["warmup_epochs"], got["flip"]) == ("cosine", 0, True)
    assert (got["crop"], got["crop_padding"], got["color_jitter"]) == ("resized", 0, 0.4)
    assert got["source"] == recipe.removesuffix("_resnet50").removesuffix("_resnet10")
    data = [got[k] for k in ("image_size", "image_fit", "loader", "profile")]
    assert data == [224, "crop", "streamed", "natural"]


def test_a_recipe_from_the_command_line(tmp_path, monkeypatch):
    """The recipe of ImageNet-LT itself, its network and all, on small images and for one epoch;
    then new images."""
    monkeypatch.chdir(ROOT)
    root = imagenet_lt(tmp_path / "set")
    small = {
        "root": root,
        "run": tmp_path / "run",
        "image_size": 16,
        # torch's bf16 gradient of a strided convolution of one pixel reads what it has not written
        "precision": "fp32",
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
    assert out.exit_code == 0 and "DR + H2T" in out.output, out.output
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
