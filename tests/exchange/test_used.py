"""A run is used without the images that it was made from, by the step that is named or chosen."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps
from safetensors.torch import load_file

from h2t import Data, Error, Run, models, prepare, train_stage1, train_stage2
from h2t.base.files import write_json
from h2t.cli import main
from h2t.exchange.export import export
from h2t.exchange.predict import predict
from h2t.exchange.used import chosen
from tests.helpers import stage1_config, stage2_config

NAMES = ["bark", "moss", "sand"]


def picture(k: int, seed: int) -> Image.Image:
    """A large photograph of sorts: a class's colours under smooth light, and grain."""
    draw = np.random.default_rng(seed)
    light = draw.integers(60, 200, (5, 7, 3)).astype(np.uint8)
    light = np.asarray(Image.fromarray(light).resize((1000, 700), Image.Resampling.BICUBIC))
    tint = np.full(3, 40.0)
    tint[k] = 110
    noise = draw.normal(0, 12, light.shape)
    return Image.fromarray((0.4 * light + tint + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on a folder of JPEGs that is gone by now, and new ones."""
    top = tmp_path_factory.mktemp("used")
    for seed in range(45):
        k = seed % 3
        for place in (top / "set" / NAMES[k], top / "new"):
            place.mkdir(parents=True, exist_ok=True)
            if place.name != "new" or seed < 30:
                more = 1000 if place.name == "new" else 0
                picture(k, seed + more).save(place / f"{seed:02}.jpg", quality=92)
    data = Data(source="folder", root=str(top / "set"), image_size=24, imbalance_factor=3.0)
    prepare(top / "run", data, progress=False)
    enough = stage1_config(batch_size=8, stage1_epochs=12, mixup_alpha=0.0)
    train_stage1(top / "run", enough, progress=False)
    train_stage2(top / "run", stage2_config(batch_size=8, stage2_epochs=1), progress=False)
    shutil.rmtree(top / "set")
    return top / "run", top / "new"


def test_an_export_agrees_with_a_plain_pipeline_on_large_jpegs(made, tmp_path):
    run, new = made
    folder = export(run, "stage1", tmp_path)
    about = json.loads((folder / "model.json").read_text())
    assert about["classes"] == NAMES and "24 x 24" in about["preprocessing"][2]
    model = models.build(about["model"], 3).eval()
    tensors = load_file(folder / "model.safetensors")
    named = {("head." if k.startswith("fc.") else "backbone.") + k: v for k, v in tensors.items()}
    model.load_state_dict({k.replace("head.fc.", "head."): v for k, v in named.items()})
    said = predict(run, new, "stage1", progress=False).set_index("path")["label"]
    mean, std = (torch.tensor(about[k]).view(3, 1, 1) for k in ("mean", "std"))
    same = 0
    for path in sorted(new.glob("*.jpg")):
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        image = image.resize((about["width"], about["height"]), Image.Resampling.BILINEAR)
        x = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            same += NAMES[model(x[None]).argmax()] == said[path.name]
    assert same >= len(said) - 1 and said.nunique() > 1


def test_the_step_is_named_or_chosen_on_a_validation_part(made, tmp_path):
    run, new = made
    with pytest.raises(Error, match=r"has stage1 \(.* %.*, stage2-h2t \(.*name one with --step"):
        predict(run, new, progress=False)
    table = predict(run, new, "stage1", progress=False)
    assert table.attrs["step"].startswith("stage1 (") and "test accuracy" in table.attrs["step"]
    shutil.copytree(run, tmp_path / "run")
    for name, balanced in (("stage1", 80.0), ("stage2-h2t", 70.0)):
        step = Run(tmp_path / "run").step(name)
        write_json(step.path / "result.json", {**step.result, "val": {"balanced": balanced}})
    assert chosen(Run(tmp_path / "run")).name == "stage1"


def test_answers_are_measured_again_and_listed_without_the_images(made, tmp_path):
    run, _ = made
    out = CliRunner().invoke(main, ["evaluate", str(run), "--out", str(tmp_path)])
    assert out.exit_code == 0, out.output
    results = Run(run).results()
    for name, result in results.items():
        assert f"{name}-classes.csv" in out.output
        classes = pd.read_csv(tmp_path / f"{name}-classes.csv")
        wrong = pd.read_csv(tmp_path / f"{name}-wrong.csv")
        logits, labels = Run(run).step(name).outputs()
        answers = logits.argmax(1)
        assert sorted(wrong["image"]) == np.flatnonzero(answers != labels).tolist()
        assert classes["training images"].tolist() == result["counts"]
        for k, row in classes.iterrows():
            hits = ((answers == k) & (labels == k)).sum()
            given, images = (answers == k).sum(), (labels == k).sum()
            assert row["recall"] == pytest.approx(100 * hits / images)
            assert row["f1"] == pytest.approx(200 * hits / (given + images))
            assert np.isnan(row["precision"]) or row["precision"] == 100 * hits / given
