"""Labels for new images."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from h2t import Error, Run, train_stage1
from h2t.cli import main
from h2t.exchange.predict import predict
from tests.helpers import digits_run, stage1_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, data = digits_run(tmp_path_factory.mktemp("predict") / "run")
    train_stage1(run, stage1_config(), progress=False)
    return run, data


def test_files_get_the_labels_that_the_test_images_got(trained, tmp_path):
    run, data = trained
    logits, _ = Run(run).step("stage1").outputs()
    for k in range(12):
        (tmp_path / f"set {k % 3}").mkdir(exist_ok=True)
        Image.fromarray(data.test.images[k, ..., 0]).save(tmp_path / f"set {k % 3}" / f"{k:02}.png")
    table = predict(run, tmp_path, progress=False).set_index("path")
    assert len(table) == 12 and (table["error"] == "").all()
    for k in range(12):
        row, z = table.loc[f"set {k % 3}/{k:02}.png"], logits[k].astype(float)
        assert row.label == data.train.classes[z.argmax()]
        assert row.confidence == pytest.approx(100 / np.exp(z - z.max()).sum(), abs=0.02)


def test_a_broken_image_is_named_and_the_others_are_labelled(trained, tmp_path):
    run, data = trained
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(
        tmp_path / "images" / "large.jpg"
    )  # another size and colour
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG nothing")
    out = CliRunner().invoke(
        main,
        ["predict", str(run), str(tmp_path / "images"), "--out", str(tmp_path / "p.csv")],
        catch_exceptions=False,
    )
    assert (
        out.exit_code == 0
        and "1 images labelled" in out.output
        and "1 could not be read" in out.output
    )
    table = pd.read_csv(tmp_path / "p.csv", dtype=str).set_index("path")
    assert (
        "broken.png cannot be decoded" in table.loc["broken.png", "error"]
        and table.loc["large.jpg", "label"] in data.train.classes
    )
    assert predict(run, tmp_path / "images" / "large.jpg", progress=False)["path"].tolist() == [
        "large.jpg"
    ]


def test_what_cannot_be_predicted_is_said(trained, tmp_path):
    run, _ = trained
    (tmp_path / "empty").mkdir()
    for images, step, message in (
        (tmp_path / "empty", "", "there are no images at"),
        (tmp_path / "none", "", "there are no images at"),
        (tmp_path, "stage2-x", "is not finished"),
    ):
        with pytest.raises(Error, match=message):
            predict(run, images, step, progress=False)
