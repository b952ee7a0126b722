"""Checkpoints in the reference's layout: read what is allowed, refuse the rest, go on from them."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from h2t import Error, Run, models, train_stage1, train_stage2
from h2t.exchange import reference as published
from h2t.train.evaluate import evaluate
from tests.helpers import digits_run, stage1_config, stage2_config


def write(path, change=None, model="resnet20", classes=10, channels=1, **extra):
    network = models.build(
        model, classes, in_channels=channels, generator=torch.Generator().manual_seed(3)
    )
    content = {
        "epoch": 200,
        "state_dict_model": {f"module.{k}": v for k, v in network.backbone.state_dict().items()},
        "state_dict_classifier": {
            f"module.fc.{k}": v for k, v in network.head.state_dict().items()
        },
        "best_acc1": torch.tensor([40.68]),
        "its_ece": np.float64(0.25),
        **extra,
    }
    if change:
        change(content)
    torch.save(content, path)
    return network


def test_a_checkpoint_is_imported_evaluated_and_gone_on_from(tmp_path):
    run, data = digits_run(tmp_path / "run")
    network = write(tmp_path / "c.pth.tar")
    result = published.import_checkpoint(tmp_path / "c.pth.tar", run, precision="fp32")
    assert result["imported"]["epoch"] == 200 and result["imported"]["best_acc1"] == pytest.approx(
        40.68
    )
    logits, labels = Run(run).step("stage1").outputs()
    mean, std = Run(run).params["mean"][0], Run(run).params["std"][0]
    x = torch.from_numpy((data.test.images / 255 - mean) / std).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        assert np.allclose(network.eval()(x).numpy(), logits, atol=1e-3)
    assert result["last"]["all"] == pytest.approx(
        100 * (logits.argmax(1) == data.test.labels).mean()
    )
    assert (
        train_stage1(run, stage1_config()) == Run(run).step("stage1").result
    )  # stands in for training
    assert train_stage2(run, stage2_config(), "h2t", progress=False)["last"]["all"] is not None
    again = evaluate(run)
    assert again["stage2-h2t"]["last"] == pytest.approx(
        Run(run).step("stage2-h2t").result["last"], nan_ok=True
    )
    assert list(again) == ["stage1", "stage2-h2t"]


def test_a_checkpoint_is_evaluated_in_the_precision_asked_for(tmp_path):
    write(tmp_path / "c.pth.tar")
    logits = {}
    for precision in ("fp32", "bf16"):
        run, _ = digits_run(tmp_path / precision)
        train_stage1(
            run,
            stage1_config(checkpoint=str(tmp_path / "c.pth.tar"), precision=precision),
            progress=False,
        )
        logits[precision] = Run(run).step("stage1").outputs()[0]
    apart = np.abs(logits["fp32"] - logits["bf16"]).max() / np.abs(logits["fp32"]).max()
    assert 1e-4 < apart < 0.1
    result = evaluate(tmp_path / "bf16")["stage1"]  # as it was measured before, on any machine
    assert result["precision"] == "bf16" and result["last"] == pytest.approx(
        Run(tmp_path / "bf16").step("stage1").result["last"], nan_ok=True
    )


def test_a_checkpoint_is_imported_before_there_are_data(tmp_path):
    write(tmp_path / "c.pth.tar")
    published.import_checkpoint(tmp_path / "c.pth.tar", tmp_path / "run")
    with pytest.raises(Error, match="has no data yet"):
        evaluate(tmp_path / "run")
    digits_run(tmp_path / "run")
    assert evaluate(tmp_path / "run")["stage1"]["last"]["all"] >= 0
    assert Run(tmp_path / "run").step("stage1").outputs()[0].shape[1] == 10


class Evil:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


def drop(part, key):
    return lambda c: c[part].pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(epoch=Evil()), "print, which is code"),
        (lambda c: c.update(its_ece=np.array([1.0, 2.0])), "which is code|not a number"),
        (
            lambda c: c.update(surprise={"lr": 0.1}),
            "holds 'surprise', which no known layout does",
        ),
        (lambda c: c.update(best_acc1="high"), "best_acc1 is str, not a number"),
        (lambda c: c.update(best_acc1=torch.zeros(3)), "best_acc1 is Tensor, not a number"),
        (lambda c: c["state_dict_model"].update({"module.x": 3}), "not a dictionary of tensors"),
        (
            lambda c: c.pop("state_dict_classifier"),
            "holds no classifier",
        ),
        (
            drop("state_dict_model", "module.layer2.1.bn1.weight"),
            "another model: backbone.layer2.1.bn1.weight is missing",
        ),
        (drop("state_dict_model", "module.conv1.weight"), "another model"),
        (
            lambda c: c["state_dict_model"].update({"module.layer4.0.w": torch.zeros(1)}),
            "another model: .*layer4.0.w",
        ),
        (
            lambda c: c["state_dict_model"].update({"module.bn1.weight": torch.zeros(24)}),
            r"another model: backbone.bn1.weight is \(24,\) where resnet20 has \(16,\)",
        ),
    ],
)
def test_anything_else_in_the_file_is_refused(tmp_path, capsys, change, message):
    write(tmp_path / "c.pth.tar", change)
    with pytest.raises(Error, match=message) as caught:
        published.import_checkpoint(tmp_path / "c.pth.tar", tmp_path / "run")
    assert (
        "c.pth.tar" in str(caught.value) and "code from a pickle ran" not in capsys.readouterr().out
    )
    assert not (tmp_path / "run").exists()


def test_truncated_missing_and_foreign_files_are_refused(tmp_path):
    write(tmp_path / "c.pth.tar")
    whole = (tmp_path / "c.pth.tar").read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "t.pth.tar").write_bytes(whole[:size])
        with pytest.raises(
            Error, match="t.pth.tar is damaged .it is cut short, or torch.save did not write it"
        ):
            published.read_checkpoint(tmp_path / "t.pth.tar")
    (tmp_path / "p.pth.tar").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(Error, match="p.pth.tar"):
        published.read_checkpoint(tmp_path / "p.pth.tar")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("hello", "world")
    (tmp_path / "z.pth.tar").write_bytes(buffer.getvalue())
    with pytest.raises(Error, match="z.pth.tar is damaged"):
        published.read_checkpoint(tmp_path / "z.pth.tar")
    with pytest.raises(Error, match="there is no checkpoint"):
        published.read_checkpoint(tmp_path / "none.pth.tar")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"classes": 7}, "has 7 classes, but the run's data have 10"),
        ({"channels": 3}, "takes 3 channels, but the run's images have 1"),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_data_is_refused(tmp_path, kind, message):
    run, _ = digits_run(tmp_path / "run")
    write(tmp_path / "c.pth.tar", **kind)
    with pytest.raises(Error, match=message):
        published.import_checkpoint(tmp_path / "c.pth.tar", run)
    assert not Run(run).step("stage1").done


def test_a_trained_stage1_is_not_overwritten_by_an_import(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    train_stage1(run, stage1_config(stage1_epochs=1), progress=False)
    write(tmp_path / "c.pth.tar")
    with pytest.raises(Error, match="has a stage 1 of its own"):
        published.import_checkpoint(tmp_path / "c.pth.tar", run)


def test_the_shared_checkpoint_is_read(shared):
    """A stage-1 ResNet-32 of CIFAR-100-LT in the reference's own layout."""
    content = published.read_checkpoint(shared / "checkpoints" / "cifar100_if100_stage1.pth.tar")
    assert (content["model"], content["num_classes"], content["epoch"]) == ("resnet32", 100, 200)
    assert content["best_acc1"] == pytest.approx(40.68, abs=1e-4)


def test_the_shared_checkpoint_reproduces_its_measured_accuracy(shared, tmp_path):
    """40.68 / 70.42 / 39.49 / 5.21 by the reference's groups, measured in bf16; 0.2 points is the
    room for precision.
    """
    from h2t import Data, prepare

    indices = np.load(shared / "checkpoints" / "cifar100_if100_indices.npy")
    config = Data(
        source="npz",
        root=str(shared / "data" / "cifar100.npz"),
        normalise="cifar",
        groups="reference",
    )
    prepare(tmp_path / "run", config, indices=indices, progress=False)
    last = published.import_checkpoint(
        shared / "checkpoints" / "cifar100_if100_stage1.pth.tar", tmp_path / "run"
    )["last"]
    got = [last[k] for k in ("all", "many", "medium", "few")]
    assert got == pytest.approx([40.68, 70.42, 39.49, 5.21], abs=0.2)
