"""A validation part held out of the long tail: what it takes, that it is never trained on, and
where it is measured."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import h2t
from h2t import Data, Error, Run, metrics, prepare, train_stage1, train_stage2
from h2t.cli import main
from h2t.data import longtail
from h2t.train.cached import bank as banking
from h2t.train.evaluate import load_model
from h2t.train.rundata import dataset
from tests.data.test_arrays import save_npz
from tests.helpers import digits_run, stage1_config, stage2_config, train_cached


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("val") / "run", val_fraction=0.2, val_seed=3)
    train_stage1(run, stage1_config(), progress=False)
    train_stage2(run, stage2_config(), "h2t", progress=False)
    return run


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=8), st.floats(0.05, 0.9), st.integers(0, 3)
)
def test_of_every_class_a_share_is_held_out_at_least_one_and_never_the_last(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    whole = longtail.from_indices(
        labels, np.arange(len(labels))[::-1], classes=tuple(map(str, counts)), source="x"
    )
    if max(counts) < 2:
        with pytest.raises(Error, match="no class has two training images"):
            longtail.hold_out(whole, fraction, seed)
        return
    left = longtail.hold_out(whole, fraction, seed)
    held = np.bincount(labels[left.val_indices], minlength=len(counts))
    assert sorted([*left.indices, *left.val_indices]) == list(range(len(labels)))
    for n, h in zip(counts, held, strict=True):
        assert h == (0 if n == 1 else min(max(round(fraction * n), 1), n - 1))
    assert (
        left.counts == tuple(np.array(counts) - held)
        and (labels[left.indices] == left.labels).all()
    )
    assert left.hash != whole.hash


def test_the_part_is_recorded_and_protected(tmp_path):
    run, data = digits_run(tmp_path / "a", val_fraction=0.2)
    whole = digits_run(tmp_path / "b")[1]
    assert len(data.train) + len(data.val) == len(whole.train) and np.array_equal(
        data.train.counts + data.val.counts, whole.train.counts
    )
    assert np.array_equal(data.counts, whole.counts)  # by which classes are many, medium or few
    record = json.loads((run / "split.json").read_text())
    assert (
        record["val_images"] == len(data.val)
        and record["counts"] == data.train.counts.tolist()
        and Run(run).params["val_fraction"] == 0.2
    )
    pixels = {part.images[k].tobytes() for part in (data.train,) for k in range(len(part))}
    assert not any(image.tobytes() in pixels for image in data.val.images)
    again = dataset(run)
    assert np.array_equal(again.val.images, data.val.images) and np.array_equal(
        again.val.labels, data.val.labels
    )
    other = digits_run(tmp_path / "c", val_fraction=0.2, val_seed=1)[1]
    assert not np.array_equal(other.val.images, data.val.images)
    with pytest.raises(Error, match="already holds a set with val_seed = 0, not 1"):
        digits_run(run, val_fraction=0.2, val_seed=1)
    held = np.load(run / "val_indices.npy")
    held[0] += 1
    np.save(run / "val_indices.npy", held)
    with pytest.raises(Error, match="does not fit the hash"):
        dataset(run)


def test_every_step_is_measured_on_it_as_on_the_test_set(trained):
    data, results = dataset(trained), Run(trained).results()
    mean, std = data.mean, data.std
    x = torch.from_numpy(((data.val.images / 255 - mean) / std).astype(np.float32)).permute(
        0, 3, 1, 2
    )
    for name, result in results.items():
        with torch.no_grad():
            logits = load_model(trained, name, "cpu")(x).numpy()
        assert result["val"] == pytest.approx(
            metrics.summary(logits, data.val.labels, data.counts), abs=1e-3
        ), name
        assert (
            result["val"] != result["last"]
            and "val_is" not in result
            and result["counts"] == data.counts.tolist()
        )
        rows = [r for r in Run(trained).step(name).history() if "all" in r]
        assert rows[-1]["val_balanced"] == pytest.approx(result["val"]["balanced"])
    table = h2t.table(trained, save=False).set_index("step")
    assert (
        table.loc["stage2-h2t", "val_balanced"] == results["stage2-h2t"]["val"]["balanced"]
        and table.loc["stage1", "val_all"] == results["stage1"]["val"]["all"]
    )
    shown = CliRunner().invoke(main, ["evaluate", str(trained)]).output.splitlines()
    assert (
        shown[0].split()[-1] == "validation"
        and shown[2].split()[-1] == f"{results['stage2-h2t']['val']['balanced']:.2f}"
    )


def test_the_cached_stage_2_is_measured_on_it_too(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    bank = banking.build_bank(run, stage2_config(), 2, progress=False)
    assert bank.val.shape == (len(dataset(run).val), 64) and torch.equal(
        bank.val_labels, torch.from_numpy(dataset(run).val.labels)
    )
    result = train_cached(run, stage2_config(), views=2)
    head = load_model(run, "stage2-cached", "cpu").head
    with torch.no_grad():
        hit = head(bank.val).argmax(1) == bank.val_labels
    assert result["val"]["all"] == pytest.approx(100 * hit.float().mean().item(), abs=1e-3)
    few = [hit[bank.val_labels == c] for c in metrics.groups(bank.counts)["few"]]
    each = [100 * right.float().mean().item() for right in few if len(right)]
    assert result["val"]["few"] == pytest.approx(np.mean(each), abs=1e-3)


def test_a_sources_own_part_is_used_and_not_mixed_with_another(tmp_path):
    save_npz(
        tmp_path / "x.npz",
        val_images=np.random.default_rng(1).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8),
        val_labels=np.arange(6) % 3,
    )
    data = Data(source="npz", root=str(tmp_path / "x.npz"), profile="natural")
    assert len(prepare(tmp_path / "run", data).val) == 6
    result = train_stage1(
        tmp_path / "run", stage1_config(stage1_epochs=1, warmup_epochs=0), progress=False
    )
    assert result["val"]["all"] is not None
    with pytest.raises(Error, match="has a validation part of its own; set val_fraction to 0"):
        prepare(tmp_path / "other", Data(**{**data.to_dict(), "val_fraction": 0.5}))


def test_of_an_imported_stage_1_it_is_said_that_it_may_have_seen_the_part(tmp_path):
    from h2t.exchange.reference import import_checkpoint
    from tests.exchange.test_reference import write

    run, _ = digits_run(tmp_path / "run", val_fraction=0.2)
    write(tmp_path / "c.pth.tar")
    assert "may have been trained on" in import_checkpoint(tmp_path / "c.pth.tar", run)["val_is"]
    assert (
        "may have been trained on" in train_stage2(run, stage2_config(), progress=False)["val_is"]
    )
    assert h2t.table(run, save=False)["val_seen"].all()
