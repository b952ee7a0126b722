"""The feature bank and the cached stage 2, against one-at-a-time autograd training."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error, Run, Stage2, models, train_stage1
from h2t.base import rng
from h2t.data import samplers
from h2t.models.batchnorm import fold
from h2t.recipes.parameters import Stage2 as Config
from h2t.train.bn_statistics import BN_BATCHES
from h2t.train.cached import bank as banking
from h2t.train.cached import fit as fitting
from h2t.train.cached.descent import draws
from h2t.train.cached.key import bank_key
from h2t.train.evaluate import load_model
from h2t.train.schedule import stage2_lr
from tests.helpers import stage1_config, stage2_config


def toy(n=70, d=12, c=4, views=3, seed=0, scale=None):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(c, (n,), generator=g)
    labels[:c] = torch.arange(c)
    return banking.Bank(
        train=torch.randn(views, n, d, generator=g),
        lent=torch.randn(max(1, views - 1), n, d, generator=g),
        labels=labels,
        test=torch.randn(50, d, generator=g),
        test_labels=torch.randint(c, (50,), generator=g),
        counts=torch.bincount(labels).numpy(),
        weight=torch.randn(c, d, generator=g) * 0.1,
        bias=torch.zeros(c) if scale else torch.randn(c, generator=g) * 0.1,
        classes=tuple("abcd"[:c]),
        scheme="field",
        scale=scale,
        key="toy",
        bn_statistics="both",
    )


def slow_fit(bank, ratio, seed, config):
    """One pair at a time, autograd and torch's own SGD, channels swapped one by one."""
    w, b = bank.weight.clone().requires_grad_(), bank.bias.clone().requires_grad_()
    optimizer = torch.optim.SGD(
        [w] if bank.scale else [w, b],
        0.1,
        momentum=config.momentum,
        weight_decay=config.stage2_weight_decay,
    )
    for epoch in range(1, config.stage2_epochs + 1):
        optimizer.param_groups[0]["lr"] = stage2_lr(epoch, config, config.stage2_lr)
        ib, vb, ii, vi, rank = draws(bank, config, seed, epoch)
        for step, k in enumerate(range(0, len(bank.labels), config.batch_size)):
            rows = slice(k, k + config.batch_size)
            z, other = bank.train[vb[rows], ib[rows]].clone(), bank.lent[vi[rows], ii[rows]]
            for channel in range(bank.num_features):
                if rank[step, channel] < int(ratio * bank.num_features):
                    z[:, channel] = other[:, channel]
            logits = (
                z @ w.T + b
                if bank.scale is None
                else bank.scale * F.normalize(z) @ F.normalize(w).T
            )
            optimizer.zero_grad()
            F.cross_entropy(logits, bank.labels[ib[rows]]).backward()
            optimizer.step()
    return w.detach(), b.detach()


@pytest.mark.parametrize("scale", [None, 8.0])
def test_all_pairs_at_once_equal_one_at_a_time_to_rounding(
    scale, two_threads
):  # which share the ratios out
    bank, config = toy(scale=scale), Config(stage2_epochs=4, batch_size=16, stage2_lr=0.1)
    ratios, seeds = (0.0, 0.3, 0.75, 1.0), (0, 7)
    fits = fitting.fit(bank, ratios, seeds, config)
    assert fits.weight.shape == (4, 2, 4, 12) and fits.bias.shape == (4, 2, 4)
    for r, ratio in enumerate(ratios):
        for s, seed in enumerate(seeds):
            w, b = slow_fit(bank, ratio, seed, config)
            assert torch.allclose(fits.weight[r, s], w, atol=1e-5), (ratio, seed)
            assert torch.allclose(fits.bias[r, s], b, atol=1e-5)
            alone = fitting.fit(bank, [ratio], [seed], config)
            assert torch.allclose(fits.weight[r, s], alone.weight[0, 0], atol=1e-6)


@pytest.mark.parametrize("fusion", ["mixup", "noise", "zeros"])
def test_other_fusions_equal_a_loop_too(fusion):
    bank, config = toy(), Config(stage2_epochs=2, batch_size=16, stage2_lr=0.1, fusion=fusion)
    fits = fitting.fit(bank, (0.0, 0.6), (0, 7), config)
    for s, seed in enumerate((0, 7)):
        w, b = bank.weight.clone().requires_grad_(), bank.bias.clone().requires_grad_()
        optimizer = torch.optim.SGD(
            [w, b], 0.1, momentum=config.momentum, weight_decay=config.stage2_weight_decay
        )
        for epoch in (1, 2):
            optimizer.param_groups[0]["lr"] = stage2_lr(epoch, config, config.stage2_lr)
            ib, vb, ii, vi, rank = draws(bank, config, seed, epoch)
            other = bank.lent[vi, ii]
            if fusion == "noise":
                g = torch.randn(
                    other.shape, generator=rng.torch_generator(seed, "cached/noise", epoch)
                )
                other = other.mean(0) + other.std(0, correction=0) * g
            for step, k in enumerate(range(0, len(bank.labels), 16)):
                z, swapped = bank.train[vb[k : k + 16], ib[k : k + 16]], rank[step] < int(0.6 * 12)
                if fusion == "mixup":
                    z = 0.4 * z + 0.6 * other[k : k + 16]
                else:
                    z = z * ~swapped + (other[k : k + 16] if fusion == "noise" else 0) * swapped
                optimizer.zero_grad()
                F.cross_entropy(z @ w.T + b, bank.labels[ib[k : k + 16]]).backward()
                optimizer.step()
        assert torch.allclose(fits.weight[1, s], w.detach(), atol=1e-5) and torch.allclose(
            fits.bias[1, s], b.detach(), atol=1e-5
        )
    plain = fitting.fit(bank, (0.0,), (0, 7), Config(stage2_epochs=2, batch_size=16, stage2_lr=0.1))
    assert torch.equal(fits.weight[:1], plain.weight)  # without fusion all are DR


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_drawn_ranks_swap_int_p_times_d_channels_in_every_step(seed, ratio):
    bank = toy()
    *_, rank = draws(bank, Config(batch_size=16), seed, 1)
    assert rank.shape == (5, 12)
    assert ((rank < int(ratio * 12)).sum(1) == int(ratio * 12)).all()


def test_the_table_counts_what_the_classifiers_get_right():
    bank = toy()
    fits = fitting.fit(bank, (0.0, 0.5), (0, 1), Config(stage2_epochs=1, batch_size=16))
    table = fits.table()
    for (ratio, seed), rows in table.groupby(["ratio", "seed"]):
        r, s = fits.ratios.index(ratio), fits.seeds.index(seed)
        predicted = (bank.test @ fits.weight[r, s].T + fits.bias[r, s]).argmax(1)
        by_group = rows.set_index("group")["accuracy"]
        assert by_group["all"] == pytest.approx(
            100 * (predicted == bank.test_labels).float().mean().item()
        )
        medium = np.where((bank.counts >= 20) & (bank.counts <= 100))[0]
        each = [100 * (predicted[bank.test_labels == c] == c).float().mean().item() for c in medium]
        assert (
            by_group["medium"] == pytest.approx(np.mean(each))
            if each
            else np.isnan(by_group["medium"])
        )


def test_folding_bn_changes_nothing_but_the_time():
    model = models.build("resnet20", 3, in_channels=1)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.normal_(generator=g)
                m.running_var.uniform_(0.5, 2, generator=g)
                m.weight.uniform_(0.5, 2, generator=g)
                m.bias.normal_(generator=g)
        x = torch.randn(5, 1, 12, 12, generator=g)
        assert torch.allclose(
            fold(model.backbone)(x), model.backbone.eval()(x), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("bn", ["balanced", "both", "none"])
def test_a_bank_holds_the_features_of_the_backbone_it_names(trained, tmp_path, bn):
    run = shutil.copytree(trained, tmp_path / "run")
    config = stage2_config(bn_statistics=bn)
    bank = banking.build_bank(run, config, 2, progress=False)
    model = load_model(run, "stage1", "cpu")
    kept = model.backbone.bn1.running_mean.clone()
    from safetensors.torch import load_file

    model.backbone.load_state_dict(load_file(bank.folder / "backbone.safetensors"))
    assert torch.equal(model.backbone.bn1.running_mean, kept) == (bn == "none")
    from h2t.train.rundata import dataset

    data = dataset(Run(run))
    test = data.loader("test", "cpu")
    with torch.no_grad():
        want = torch.cat([model.eval().features(x) for x, _ in test.batches()])
    assert torch.allclose(bank.test, want, atol=1e-3)
    assert bank.train.shape == (2, len(data.train), 64) and torch.equal(
        bank.labels, torch.from_numpy(data.train.labels)
    )
    assert not torch.equal(bank.train[0], bank.train[1])
    assert len(bank.lent) == (2 if bn == "none" else 1)  # one view of the fusing branch is enough
    assert torch.equal(bank.lent[0], bank.train[0]) == (bn == "none")


def test_each_branch_is_normalised_by_its_own_batches_and_the_test_set_by_the_named_streams(
    trained, tmp_path
):
    """The statistics of the first BN layer, computed here from its inputs, batch by batch."""
    from safetensors.torch import load_file

    from h2t.train.rundata import dataset

    data = dataset(Run(trained))
    train = data.loader("train", torch.device("cpu"), stage2_config())
    backbone = load_model(trained, "stage1", "cpu").backbone
    want = {}
    for branch, sampler in (("fused", "balanced"), ("fusing", "instance")):
        order = samplers.epoch(
            sampler,
            torch.from_numpy(data.train.labels),
            BN_BATCHES * 64,
            rng.torch_generator(0, f"bank/bn-{branch}"),
        )
        with torch.no_grad():
            maps = [
                backbone.conv1(x)
                for x, _ in train.epoch(
                    order, 64, rng.torch_generator(0, f"bank/bn-{branch}-augment"), False
                )
            ]
        want[branch] = (
            torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0),
            torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0),
        )
    assert not torch.allclose(
        want["fused"][0], want["fusing"][0], atol=1e-4
    )  # the branches do differ
    for bn in ("balanced", "both"):
        run = shutil.copytree(trained, tmp_path / bn)
        state = load_file(
            banking.build_bank(run, stage2_config(bn_statistics=bn), 1, progress=False).folder
            / "backbone.safetensors"
        )
        for k, name in enumerate(("running_mean", "running_var")):
            expected = (
                want["fused"][k] if bn == "balanced" else (want["fused"][k] + want["fusing"][k]) / 2
            )
            assert torch.allclose(state[f"bn1.{name}"], expected, rtol=1e-4, atol=1e-5), (bn, name)
    banks = [
        banking.open_bank(tmp_path / bn, stage2_config(bn_statistics=bn))
        for bn in ("balanced", "both")
    ]
    assert torch.equal(banks[0].train, banks[1].train) and torch.equal(banks[0].lent, banks[1].lent)
    assert not torch.equal(banks[0].test, banks[1].test)  # only the test set sees what is named


def test_a_bank_is_kept_extended_and_never_stale(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    one = banking.build_bank(run, stage2_config(), 1, progress=False)
    stamp = (one.folder / "view0.npy").stat().st_mtime_ns
    three = banking.build_bank(run, stage2_config(), 3, progress=False)
    assert (three.folder / "view0.npy").stat().st_mtime_ns == stamp and three.train.shape[0] == 3
    (three.folder / "view1.npy").unlink()  # as an interrupted build leaves it
    again = banking.build_bank(run, stage2_config(), 3, progress=False)
    assert torch.equal(again.train, three.train)
    assert bank_key(Run(run), stage2_config(bn_statistics="none")) != three.key
    with pytest.raises(Error, match="no feature bank for these settings; build it with"):
        banking.open_bank(run, stage2_config(bn_statistics="none"))
    train_stage1(run, stage1_config(seed=3), again=True, progress=False)
    with pytest.raises(Error, match="no feature bank"):
        banking.open_bank(run, stage2_config())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: fitting.fit(toy(), [1.2]), r"fusion_ratio is 1.2; it must be in \[0, 1\]"),
        (lambda run: fitting.fit(toy(), []), "at least one ratio"),
        (lambda run: banking.build_bank(run, Stage2(), 0), "views is 0"),
        (lambda run: banking.build_bank(run / "none", Stage2()), "no run directory"),
    ],
)
def test_mistakes_end_in_one_message(trained, call, message):
    with pytest.raises(Error, match=message):
        call(trained)
