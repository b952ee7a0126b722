"""A run whose network is an encoder: a folder of images through both stages, and out again."""

import numpy as np
import pytest
import torch
from PIL import Image

import h2t
from h2t import Data, Run, Stage1, Stage2
from h2t.exchange.predict import predict
from h2t.recipes import combinations
from h2t.train.cached.bank import build_bank
from h2t.train.cached.encoded import VIEWS, frozen
from h2t.train.cached.steps import recipe_of
from h2t.train.evaluate import load_model

AUGMENT = dict(crop_padding=2, flip=True, precision="fp32")


def pictures(folder) -> None:
    """Write 33 small pictures of three colours, the third of them rare."""
    r = np.random.default_rng(0)
    for part, counts in (("train", (12, 6, 3)), ("test", (4, 4, 4))):
        for c, n in enumerate(counts):
            (folder / part / f"class{c}").mkdir(parents=True)
            for k in range(n):
                pixels = r.integers(0, 120, (40, 48, 3)) + 120 * (np.arange(3) == c)
                file = folder / part / f"class{c}" / f"{k}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(file)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run on these pictures, and their folder."""
    folder = tmp_path_factory.mktemp("own")
    pictures(folder)
    where = dict(source="folder", root=str(folder), profile="natural", imbalance_factor=1.0)
    made = h2t.prepare(folder / "run", Data(**where, encoder="lite0", image_size=32))
    h2t.train_stage1(made, Stage1(**AUGMENT), progress=False)
    for name, ratio in (("dr", 0.0), ("h2t", 0.3)):
        h2t.train_stage2(made, Stage2(**AUGMENT, fusion_ratio=ratio), name, progress=False)
    return Run(folder / "run"), folder


def test_both_stages_are_classifiers_on_one_bank(run):
    run, _ = run
    assert list(run.results()) == ["stage1", "stage2-dr", "stage2-h2t"]
    assert len(list(run.path.glob("bank-*"))) == 1
    first = run.step("stage1").result
    assert first["model"] == "lite0@32" and first["encoder"]["licence"] == "Apache-2.0"
    assert first["last"]["all"] > 50


def test_saved_outputs_are_those_of_the_saved_network(run):
    run, _ = run
    data = h2t.dataset(run)
    images = next(data.loader("test", torch.device("cpu")).batches(12))[0]
    for name, result in run.results().items():
        logits, labels = run.step(name).outputs()
        with torch.inference_mode():
            found = load_model(run, name)(images)
        np.testing.assert_allclose(found, logits, atol=1e-3)
        assert result["last"]["all"] == pytest.approx(100 * (logits.argmax(1) == labels).mean())


def test_the_bank_is_what_the_encoder_says_of_the_images(run):
    run, _ = run
    bank = build_bank(run, frozen(Stage2(**AUGMENT)), VIEWS, progress=False)
    images = next(h2t.dataset(run).loader("test", torch.device("cpu")).batches(12))[0]
    with torch.inference_mode():
        z = load_model(run, "stage1").features(images)
    np.testing.assert_allclose(bank.test, z, atol=1e-3)
    assert bank.num_features == 1280 and bank.train.shape[:2] == (VIEWS, 21)


def test_a_bank_of_an_encoder_has_no_batch_statistics_whatever_the_recipe_says(run):
    run, _ = run
    bank = build_bank(run, Stage2(**AUGMENT, bn_statistics="both"), VIEWS, progress=False)
    assert bank.bn_statistics == "none" and torch.equal(bank.lent, bank.train)
    assert recipe_of(run, {"bn_statistics": "both"}).bn_statistics == "none"


def test_new_images_are_labelled(run):
    run, folder = run
    found = predict(run, folder / "test" / "class1", "stage2-h2t")
    assert len(found) == 4 and (found["error"] == "").all()


def test_what_makes_no_sense_is_left_out():
    given = {"encoder": "lite0", "bn_statistics": "both", "control": True, "seed": 3}
    left = combinations.settled(given)
    assert left["bn_statistics"] == "none" and not left["control"] and left["seed"] == 3
    assert combinations.settled({"seed": 3}) == {"seed": 3}


def test_an_encoder_has_three_channels_and_its_own_colours(tmp_path):
    data = h2t.prepare(tmp_path, Data(encoder="lite0", image_size=32), progress=False)
    assert data.channels == 3 and data.mean == [pytest.approx(127 / 255)] * 3
    assert data.run.params["image_size"] == 32


def test_what_was_read_is_said_by_the_command(run):
    from click.testing import CliRunner

    from h2t.cli import main

    run, folder = run
    given = ["-p", "source", "folder", "-p", "root", str(folder), "-p", "profile", "natural"]
    given += ["-p", "encoder", "lite0", "-p", "image_size", "32", "-p", "run", str(folder / "said")]
    given += ["-p", "crop_padding", "2", "-p", "imbalance_factor", "1.0"]
    out = CliRunner().invoke(main, ["run", "digits", "--plain", *given], catch_exceptions=False)
    assert "21" in out.output and "3 classes" in out.output and "DR + H2T" in out.output


def test_encoder_and_head_are_one_onnx_file_that_answers_alike(run):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from h2t.exchange.export import export

    run, folder = run
    file = export(run, "stage2-h2t", folder / "exported", onnx=True) / "model.onnx"
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images = np.asarray(h2t.dataset(run).test.images).transpose(0, 3, 1, 2) / np.float32(255)
    logits, _ = run.step("stage2-h2t").outputs()
    np.testing.assert_allclose(session.run(None, {"images": images})[0], logits, atol=5e-3)
