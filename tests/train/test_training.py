"""Both stages on digits: what they compute, that they resume exactly, and how they refuse."""

import shutil
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from h2t import Run, models, train_stage1, train_stage2
from h2t.base import rng
from h2t.base.errors import Error
from h2t.data import samplers
from h2t.train import device as stepping
from h2t.train.evaluate import load_model
from h2t.train.rundata import dataset
from h2t.train.stage2 import features
from tests.helpers import (
    digits_run,
    same_weights,
    stage1_config,
    stage2_config,
)


def copy_of(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def plain_loop(model, optimizer, data, labels, mean, std) -> list[float]:
    """Two epochs of stage 1 with mixup, as one writes it down. Returns: the losses."""
    padded, losses = np.pad(data.train.images, ((0, 0), (1, 1), (1, 1), (0, 0))), []
    for epoch in (1, 2):
        optimizer.param_groups[0]["lr"] = 2e-3 * epoch / 2
        order = torch.randperm(len(labels), generator=rng.torch_generator(0, "stage1/order", epoch))
        g = rng.torch_generator(0, "stage1/augment", epoch)
        top, left = (torch.randint(3, (len(order),), generator=g) for _ in range(2))
        steps, draws = -(-len(order) // 64), rng.numpy_generator(0, "stage1/mixup", epoch)
        lam = draws.beta(1, 1, size=steps).astype(np.float32)
        partners = rng.torch_generator(0, "stage1/partners", epoch)
        for k in range(0, len(order), 64):
            batch, rows = order[k : k + 64], slice(k, k + 64)
            places = zip(batch, top[rows], left[rows], strict=True)
            x = np.stack([padded[i, t : t + 8, q : q + 8] for i, t, q in places])
            x = torch.from_numpy(((x / 255 - mean) / std).astype(np.float32))
            x = x.permute(0, 3, 1, 2).contiguous()
            partner = torch.randperm(len(batch), generator=partners)
            y, w = labels[batch], float(lam[k // 64])
            logits = model(w * x + (1 - w) * x[partner])
            loss = w * F.cross_entropy(logits, y) + (1 - w) * F.cross_entropy(logits, y[partner])
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return losses


def test_stage1_equals_a_plain_loop(tmp_path):
    """The same draws through NumPy indexing, contiguous tensors and an unfused optimiser; a low
    rate, so that rounding is not amplified, and the comparison is of how far each tensor moved."""
    run, data = digits_run(tmp_path / "run")
    config = stage1_config(
        stage1_epochs=2, eval_every=1, stage1_lr=2e-3, warmup_epochs=2, stage1_weight_decay=0.05
    )
    train_stage1(run, config, progress=False)
    mean, std = Run(run).params["mean"], Run(run).params["std"]
    labels = torch.from_numpy(data.train.labels)
    model = models.build(
        "resnet20", 10, in_channels=1, generator=rng.torch_generator(0, "stage1/init")
    )
    optimizer = torch.optim.SGD(
        model.parameters(), 0.1, momentum=0.9, weight_decay=0.05, foreach=False
    )
    start = {k: v.clone().float() for k, v in model.state_dict().items()}
    losses = plain_loop(model, optimizer, data, labels, np.array(mean), np.array(std))
    got, want = Run(run).step("stage1").weights(), model.state_dict()
    moved, wanted = (
        torch.cat([(w[k].float() - start[k]).flatten() for k in start if "num_batches" not in k])
        for w in (got, want)
    )
    # single tensors differ more: sums that nearly cancel, and activations that rounding puts on the
    # other side of zero
    assert (moved - wanted).norm() < 0.02 * wanted.norm()
    recorded = [row["loss"] for row in Run(run).step("stage1").history()]
    assert recorded == pytest.approx(
        [float(np.mean(losses[: len(losses) // 2])), float(np.mean(losses[len(losses) // 2 :]))],
        rel=1e-3,
    )


def test_a_stage1_result_is_complete(trained):
    result = Run(trained).step("stage1").result
    logits, labels = Run(trained).step("stage1").outputs()
    assert result["last"]["all"] == pytest.approx(100 * (logits.argmax(1) == labels).mean())
    assert (
        result["best"]["epoch"] in (2, 4) and result["best"]["all"] >= result["last"]["all"] - 1e-9
    )
    assert len(result["per_class"]) == 10 and result["environment"]["packages"]["torch"]
    rows = Run(trained).step("stage1").history()
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4] and ["all" in r for r in rows] == [
        False,
        True,
        False,
        True,
    ]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trained, tmp_path):
    for seed in (0, 1):
        run, _ = digits_run(tmp_path / f"{seed}")
        state = torch.random.get_rng_state()
        train_stage1(run, stage1_config(seed=seed), progress=False)
        assert torch.equal(state, torch.random.get_rng_state())
        assert same_weights(Run(run).step("stage1"), Run(trained).step("stage1")) == (seed == 0)


def test_without_mixup_the_loss_is_lower(trained, tmp_path):
    run, _ = digits_run(tmp_path / "plain")
    train_stage1(run, stage1_config(mixup_alpha=0.0), progress=False)
    assert (
        Run(run).step("stage1").history()[-1]["loss"]
        < Run(trained).step("stage1").history()[-1]["loss"]
    )


def reference_stage2(run, config):
    """Stage 2 on feature maps, one step after another, the backbone's statistics kept by hand where
    asked."""
    run = Run(run)
    data = dataset(run)
    train = data.loader("train", torch.device("cpu"), config)
    model, labels = load_model(run, "stage1", "cpu"), torch.from_numpy(data.train.labels)
    head, backbone = model.head, model.backbone
    optimizer = torch.optim.SGD(
        head.parameters(), 0.1, momentum=0.9, weight_decay=config.stage2_weight_decay
    )
    for epoch in range(1, config.stage2_epochs + 1):
        optimizer.param_groups[0]["lr"] = (
            config.stage2_lr * (1 + np.cos(np.pi * (epoch - 1) / config.stage2_epochs)) / 2
        )
        streams = []
        for branch, kind in (("fused", config.fused_branch), ("fusing", config.fusing_branch)):
            order = samplers.epoch(
                kind,
                labels,
                len(labels),
                rng.torch_generator(config.seed, f"stage2/{branch}", epoch),
            )
            draws = rng.torch_generator(config.seed, f"stage2/{branch}-augment", epoch)
            streams.append(train.epoch(order, config.batch_size, draws, config.flip))
        g = rng.torch_generator(config.seed, "stage2/mask", epoch)
        for (xb, yb), (xi, _) in zip(*streams, strict=True):
            with torch.no_grad():
                backbone.train(config.bn_statistics != "none")
                fb = backbone.maps(xb)
                kept = {k: v.clone() for k, v in backbone.state_dict().items()}
                fi = backbone.maps(xi)
                if config.bn_statistics == "balanced":
                    backbone.load_state_dict(kept)
                for c in torch.randperm(64, generator=g)[: int(config.fusion_ratio * 64)]:
                    fb[:, c] = fi[:, c]
            loss = -F.log_softmax(head(fb.mean((2, 3))), 1)[torch.arange(len(yb)), yb].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("bn", ["balanced", "both", "none"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_stage2_equals_an_independent_loop_on_feature_maps(trained, tmp_path, bn, ratio):
    run, config = (
        copy_of(trained, tmp_path),
        stage2_config(fusion_ratio=ratio, bn_statistics=bn, stage2_epochs=2),
    )
    train_stage2(run, config, "x", progress=False)
    got, want = Run(run).step("stage2-x").weights(), reference_stage2(run, config).state_dict()
    for name in want:
        if "num_batches" not in name:
            assert torch.allclose(got[name], want[name], atol=1e-5), name


@pytest.mark.parametrize("fusion", ["mixup", "noise", "zeros"])
def test_other_fusions_train_and_differ_from_a_swap(trained, tmp_path, fusion):
    run = copy_of(trained, tmp_path)
    train_stage2(run, stage2_config(fusion_ratio=0.5), "swap", progress=False)
    train_stage2(run, stage2_config(fusion_ratio=0.5, fusion=fusion), "other", progress=False)
    swap, other = (Run(run).step(f"stage2-{v}") for v in ("swap", "other"))
    assert not torch.equal(swap.weights()["head.weight"], other.weights()["head.weight"])
    assert all(np.isfinite(row["loss"]) for row in other.history())
    # the statistics see the same two streams whatever is done with the second one
    assert all(
        torch.equal(a, other.weights()[k]) for k, a in swap.weights().items() if "running" in k
    )


def test_stage2_trains_the_classifier_alone(trained, tmp_path):
    run = copy_of(trained, tmp_path)
    train_stage2(run, stage2_config(), "h2t", progress=False)
    before, after = Run(run).step("stage1").weights(), Run(run).step("stage2-h2t").weights()
    for name in before:
        frozen = (
            name.startswith("backbone.") and "running" not in name and "num_batches" not in name
        )
        assert torch.equal(before[name], after[name]) == frozen, name


def test_statistics_see_the_streams_that_are_named(trained):
    model = load_model(trained, "stage1", "cpu")
    data = dataset(Run(trained))
    train = data.loader("train", torch.device("cpu"))
    x = next(iter(train.batches(32)))[0]
    bn = model.backbone.bn1
    before, momentum = bn.running_mean.clone(), bn.momentum
    with torch.no_grad():
        z = features(model.backbone, x, batch_statistics=True, update=False)
        assert torch.equal(bn.running_mean, before) and bn.momentum == momentum
        assert torch.equal(z, features(model.backbone, x, batch_statistics=True, update=True))
        assert not torch.equal(bn.running_mean, before)
        moved = bn.running_mean.clone()
        assert not torch.equal(z, features(model.backbone, x, batch_statistics=False, update=False))
        assert torch.equal(bn.running_mean, moved)


def test_bf16_autocast_keeps_weights_and_statistics_in_fp32(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    result = train_stage1(run, stage1_config(precision="bf16", stage1_epochs=1), progress=False)
    assert result["precision"] == "bf16"
    weights = Run(run).step("stage1").weights()
    assert {v.dtype for k, v in weights.items() if "num_batches" not in k} == {torch.float32}


def test_precision_auto_is_bf16_only_where_it_is_native():
    cpu = torch.device("cpu")
    assert (stepping.precision_of(cpu, "auto") == "bf16") == stepping.native_bf16(cpu)
    assert [stepping.precision_of(cpu, p) for p in ("bf16", "fp32")] == ["bf16", "fp32"]


def test_small_work_is_held_to_one_thread_and_the_setting_comes_back(
    monkeypatch, tmp_path, two_threads
):
    run, data = digits_run(tmp_path / "run")
    seen, before = [], torch.get_num_threads()
    real = torch.optim.SGD.step
    assert before == 2
    monkeypatch.setattr(
        torch.optim.SGD,
        "step",
        lambda self, *a: (seen.append(torch.get_num_threads()), real(self, *a))[1],
    )
    train_stage1(run, stage1_config(stage1_epochs=1), progress=False)
    assert set(seen) == {1} and torch.get_num_threads() == before
    large = types.SimpleNamespace(height=32, width=32)
    with stepping.threads_for(large, 128):
        assert torch.get_num_threads() == min(before, 32)
    with pytest.raises(RuntimeError), stepping.threads():
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_weights_that_the_last_step_left_infinite_are_named():
    from h2t.train.loop import check_finite

    model = models.build("resnet20", 3, in_channels=1)
    losses = torch.ones(3)
    check_finite(losses, model, 1, "stage 1", "stage1_lr")
    model.backbone.bn1.running_var[0] = torch.inf
    with pytest.raises(Error, match="stage 1 diverged: backbone.bn1.running_var .*lower stage1_lr"):
        check_finite(losses, model, 2, "stage 1", "stage1_lr")
