"""A run as files for other software, read back by that software."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from safetensors.torch import load_file

from h2t import Error, Run, train_stage1, train_stage2
from h2t.cli import main
from h2t.exchange.export import export
from h2t.exchange.reference import import_checkpoint
from h2t.train.rundata import dataset
from tests.helpers import digits_run, stage1_config, stage2_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path, _ = digits_run(tmp_path_factory.mktemp("export") / "run")
    train_stage1(path, stage1_config(stage1_epochs=2), progress=False)
    train_stage2(path, stage2_config(stage2_epochs=1), progress=False)
    return path


def by_hand(tensors: dict, images: torch.Tensor, about: dict) -> torch.Tensor:
    """Logits of a CIFAR ResNet-20 from its tensors alone, written out."""

    def norm(x, name):
        mean, var, weight, bias = (
            tensors[f"{name}.{k}"].view(1, -1, 1, 1)
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = (images - torch.tensor(about["mean"]).view(1, -1, 1, 1)) / torch.tensor(about["std"]).view(
        1, -1, 1, 1
    )
    x = norm(F.conv2d(x, tensors["conv1.weight"], padding=1), "bn1").relu()
    for stage in (1, 2, 3):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(
                F.conv2d(x, tensors[f"{name}.conv1.weight"], padding=1, stride=stride),
                f"{name}.bn1",
            ).relu()
            y = norm(F.conv2d(y, tensors[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                more = (y.shape[1] - x.shape[1]) // 2
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
            x = (x + y).relu()
    return F.linear(x.mean((2, 3)), tensors["fc.weight"], tensors["fc.bias"])


def test_the_checkpoint_has_the_references_layout_and_is_gone_on_from(run, tmp_path):
    result = CliRunner().invoke(
        main,
        ["export", str(run), "--step", "stage1", "--out", str(tmp_path / "out")],
        catch_exceptions=False,
    )
    assert result.exit_code == 0 and "model.pth.tar" in result.output
    file = tmp_path / "out" / "model.pth.tar"
    content = torch.load(file, weights_only=True)
    assert (
        content.keys()
        == {"epoch", "state_dict_model", "state_dict_classifier", "best_acc1", "its_ece"}
        and content["epoch"] == 2
    )
    assert {
        "module.conv1.weight",
        "module.bn1.running_mean",
        "module.layer3.2.conv2.weight",
    } <= content["state_dict_model"].keys()
    assert content["state_dict_classifier"].keys() == {"module.fc.weight", "module.fc.bias"}
    imported = import_checkpoint(file, digits_run(tmp_path / "run")[0], precision="fp32")
    assert imported["weights_sha256"] == Run(run).step("stage1").result["weights_sha256"]
    assert imported["last"]["all"] == Run(run).step("stage1").result["last"]["all"]


def test_a_network_that_the_reference_lacks_gets_no_checkpoint(tmp_path):
    path, _ = digits_run(tmp_path / "run")
    train_stage1(path, stage1_config(stage1_epochs=1, loss="ldam", head="cosine"), progress=False)
    assert sorted(f.name for f in export(path).glob("model.*")) == [
        "model.json",
        "model.safetensors",
    ]


def test_the_files_give_the_logits_of_the_run(run, tmp_path):
    result = CliRunner().invoke(
        main,
        ["export", str(run), "--step", "stage2-h2t", "--out", str(tmp_path / "out"), "--onnx"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0 and "resnet20, 10 classes, stage2-h2t" in result.output
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["classes"] == [str(k) for k in range(10)] and (
        about["height"],
        about["width"],
        about["in_channels"],
    ) == (8, 8, 1)
    wanted = Run(run).step("stage2-h2t").outputs()[0]
    pixels = dataset(run, progress=False).test.images
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    torch.testing.assert_close(
        by_hand(tensors, images, about), torch.from_numpy(wanted), rtol=1e-3, atol=1e-3
    )
    runtime = pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed: uv sync --extra onnx"
    )
    found = runtime.InferenceSession(tmp_path / "out" / "model.onnx").run(
        None, {"images": images.numpy()}
    )[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_mistakes_end_in_one_message(run, tmp_path, monkeypatch):
    with pytest.raises(Error, match="stage2-dr of run .* is not finished"):
        export(run, "stage2-dr", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(Error, match="uv run --extra onnx h2t export RUN --onnx"):
        export(run, "stage1", tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_a_step_that_nobody_measured_is_refused_with_the_command_that_measures(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    file = copy / "stage1" / "result.json"
    file.write_text(
        json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "last"})
    )
    with pytest.raises(Error, match=f"stage1 has no measures yet; .* `h2t evaluate {copy}`"):
        export(copy, "stage1")
    assert not (copy / "export").exists()
