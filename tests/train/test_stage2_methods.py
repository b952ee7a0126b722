"""The methods of stage 2 beside re-training the classifier: learned scales, tau-norm, MiSLAS; exact
and cached."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from h2t import Error, Run, train_stage1, train_stage2
from h2t.base import rng
from h2t.models.heads import ScaledHead
from h2t.recipes.parameters import Stage2
from h2t.train import device as stepping
from h2t.train.cached import fit as fitting
from h2t.train.cached.descent import draws
from h2t.train.cached.steps import compare
from h2t.train.evaluate import classifier_of, load_model
from h2t.train.rundata import dataset
from h2t.train.schedule import stage2_lr
from tests.helpers import (
    digits_run,
    same_weights,
    stage1_config,
    stage2_config,
    stop_after,
    train_cached,
)
from tests.train.test_bank import toy


def slow_loss(method, logits, labels, counts, head=0.4, tail=0.1):
    """Cross entropy, for mislas against labels softened one image at a time."""
    if method != "mislas":
        return F.cross_entropy(logits, labels)
    n, total = counts.double(), 0.0
    for row, y in zip(logits.log_softmax(1), labels, strict=True):
        e = tail + (head - tail) * torch.sin(torch.pi / 2 * (n[y] - n.min()) / (n.max() - n.min()))
        label = torch.full_like(row, float(e) / len(n))
        label[y] += 1 - float(e)
        total = total - (label * row).sum()
    return total / len(labels)


def slow_fit(bank, method, ratio, seed, config):
    """Autograd and torch's own SGD on weight, bias and scale, channels swapped one by one."""
    w, b, s = (
        bank.weight.clone().requires_grad_(),
        bank.bias.clone().requires_grad_(),
        torch.ones(len(bank.counts), requires_grad=True),
    )
    groups = {
        "lws": [([s], config.scale_lr)],
        "mislas": [([w, b], config.stage2_lr), ([s], config.scale_lr)],
    }[method]
    optimizer = torch.optim.SGD(
        [{"params": p} for p, _ in groups],
        0.1,
        momentum=0.9,
        weight_decay=config.stage2_weight_decay,
    )
    for epoch in range(1, config.stage2_epochs + 1):
        for group, (_, peak) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = peak * (1 + np.cos(np.pi * (epoch - 1) / config.stage2_epochs)) / 2
        ib, vb, ii, vi, rank = draws(bank, config, seed, epoch)
        for step, k in enumerate(range(0, len(bank.labels), config.batch_size)):
            rows = slice(k, k + config.batch_size)
            z, other = bank.train[vb[rows], ib[rows]].clone(), bank.lent[vi[rows], ii[rows]]
            for channel in range(bank.num_features):
                if rank[step, channel] < int(ratio * bank.num_features):
                    z[:, channel] = other[:, channel]
            optimizer.zero_grad()
            slow_loss(
                method,
                s * (z @ w.T + b),
                bank.labels[ib[rows]],
                torch.from_numpy(bank.counts),
                config.smooth_head,
                config.smooth_tail,
            ).backward()
            optimizer.step()
    return (s[:, None] * w).detach(), (s * b).detach(), s.detach()


@pytest.mark.parametrize("method", ["lws", "mislas"])
def test_the_cached_method_equals_autograd_one_pair_at_a_time(method):
    config = Stage2(
        stage2_method=method,
        stage2_epochs=3,
        batch_size=16,
        stage2_lr=0.05,
        scale_lr=0.3,
        smooth_head=0.5,
        fused_branch="class_aware",
    )
    bank = toy()
    fits = fitting.fit(bank, (0.0, 0.6), (0, 7), config)
    for r, ratio in enumerate((0.0, 0.6)):
        for s, seed in enumerate((0, 7)):
            w, b, scale = slow_fit(bank, method, ratio, seed, config)
            assert torch.allclose(fits.weight[r, s], w, atol=1e-5) and torch.allclose(
                fits.bias[r, s], b, atol=1e-5
            )
            assert (scale - 1).abs().max() > 0.01  # it has moved


def reference(run, config, counts):
    """The exact stage 2 with fixed statistics, plain: features of both branches, a loss, torch's
    own SGD."""
    from h2t.data import samplers

    data = dataset(Run(run))
    train = data.loader("train", torch.device("cpu"), config)
    model, labels = load_model(run, "stage1", "cpu"), torch.from_numpy(data.train.labels)
    w, b = (p.detach().clone().requires_grad_() for p in (model.head.weight, model.head.bias))
    s = torch.ones(10, requires_grad=True)
    groups = (
        [([s], config.scale_lr)]
        if config.stage2_method == "lws"
        else [([w, b], config.stage2_lr), ([s], config.scale_lr)]
    )
    optimizer = torch.optim.SGD(
        [{"params": p} for p, _ in groups],
        0.1,
        momentum=0.9,
        weight_decay=config.stage2_weight_decay,
    )
    for epoch in range(1, config.stage2_epochs + 1):
        for group, (_, peak) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = stage2_lr(epoch, config, config.stage2_lr) / config.stage2_lr * peak
        streams = []
        for branch, kind in (("fused", config.fused_branch), ("fusing", config.fusing_branch)):
            order = samplers.epoch(
                kind, labels, len(labels), rng.torch_generator(0, f"stage2/{branch}", epoch)
            )
            streams.append(
                train.epoch(
                    order,
                    config.batch_size,
                    rng.torch_generator(0, f"stage2/{branch}-augment", epoch),
                    config.flip,
                )
            )
        g = rng.torch_generator(0, "stage2/mask", epoch)
        for (xb, yb), (xi, _) in zip(*streams, strict=True):
            with torch.no_grad():
                zb, zi = model.backbone(xb), model.backbone(xi)
                swapped = torch.randperm(64, generator=g)[: int(config.fusion_ratio * 64)]
                zb[:, swapped] = zi[:, swapped]
            optimizer.zero_grad()
            slow_loss(
                config.stage2_method,
                s * (zb @ w.T + b),
                yb,
                counts,
                config.smooth_head,
                config.smooth_tail,
            ).backward()
            optimizer.step()
    return (s[:, None] * w).detach(), (s * b).detach()


@pytest.mark.parametrize(("method", "ratio"), [("lws", 0.4), ("mislas", 0.4)])
def test_the_exact_method_equals_an_independent_loop_and_ends_as_a_plain_head(
    trained, run, method, ratio
):
    config = stage2_config(
        stage2_method=method,
        fusion_ratio=ratio,
        stage2_epochs=2,
        bn_statistics="none",
        precision="fp32",
        fused_branch="class_aware",
    )
    # on the CPU, as the independent loop
    result = train_stage2(run, config, "x", device="cpu", progress=False)
    with stepping.threads():
        counts = torch.from_numpy(dataset(trained).train.counts)
        weight, bias = reference(trained, config, counts)
    got = classifier_of(Run(run).step("stage2-x"))
    assert np.allclose(got[0], weight, atol=1e-5) and np.allclose(got[1], bias, atol=1e-5)
    model = load_model(run, "stage2-x", "cpu")  # rebuilt from result.json alone
    assert isinstance(model.head, torch.nn.Linear) and result["head"] == "linear"
    rows, before = (Run(run).step(n).weights()["head.weight"] for n in ("stage2-x", "stage1"))
    if method == "lws":  # each row is stage 1's, longer or shorter, or turned round
        assert torch.allclose(F.cosine_similarity(rows, before).abs(), torch.ones(10), atol=1e-5)
    assert all(np.isfinite(row["loss"]) for row in Run(run).step("stage2-x").history())


@pytest.mark.parametrize(("method", "ratio"), [("lws", 0.0), ("mislas", 0.5)])
def test_an_interrupted_method_ends_bit_for_bit_as_if_undisturbed(run, method, ratio):
    config = stage2_config(stage2_method=method, fusion_ratio=ratio)
    train_stage2(run, config, "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_stage2(run, config, "parts", progress=False, on_epoch=stop_after(2))
    # on a GPU an epoch is shorter than saving it, and not every one is
    saved = Run(run).step("stage2-parts").load_checkpoint()["epoch"]
    assert saved in (1, 2) if torch.cuda.is_available() else saved == 2
    train_stage2(run, config, "parts", progress=False)
    assert same_weights(Run(run).step("stage2-whole"), Run(run).step("stage2-parts"))


def test_a_scaled_head_folds_into_the_linear_one():
    head = ScaledHead(torch.nn.Linear(5, 3))
    head.scale.data = torch.tensor([2.0, 0.5, -1.0])
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    scaled = head(z)
    folded = head.folded()
    assert type(folded) is torch.nn.Linear and torch.allclose(folded(z), scaled, atol=1e-6)


def test_exact_and_cached_meet_for_every_method(run):
    """Also that a cached variant of each method is saved as any other, and that tau knows one ratio
    alone."""
    for method in ("lws", "mislas", "tau"):
        config = stage2_config(
            stage2_method=method,
            fusion_ratio=0.0 if method == "tau" else 0.25,
            bn_statistics="none",
            scale_lr=0.01,
        )
        table = compare(run, config, (0.0, 0.5), (0,), views=2, progress=False)
        assert sorted(set(table["ratio"])) == ([0.0] if method == "tau" else [0.0, 0.5])
        # without fusion, and several seeds: so short a stage 1 leaves 5 points from seed to seed,
        # and half the channels swapped more
        table = compare(
            run, config, (0.0,), range(1 if method == "tau" else 6), views=2, progress=False
        )
        exact, cached = (
            table.loc[table["kind"] == kind, "all"].mean() for kind in ("exact", "cached")
        )
        assert abs(exact - cached) < (0.3 if method == "tau" else 8), (method, exact, cached)
        train_cached(run, config, f"cached-{method}", views=2)
        assert load_model(run, f"stage2-cached-{method}", "cpu").head.weight.shape == (10, 64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Stage2(stage2_method="tau"),
            "method tau trains nothing, so there is nothing to fuse at ratio 0.3; "
            "set fusion_ratio to 0",
        ),
        (
            lambda: Stage2(stage2_method="lws", reinitialise_head=True),
            "method lws keeps the classifier of stage 1",
        ),
        (
            lambda: Stage2(stage2_method="magic"),
            "stage2_method is 'magic'; choose one of crt, lws, tau, mislas",
        ),
        (
            lambda: fitting.fit(toy(scale=8.0), [0.3], config=Stage2(stage2_method="lws")),
            "which a cosine head ignores",
        ),
        (
            lambda: fitting.fit(
                toy(), [0.0, 0.3], config=Stage2(stage2_method="tau", fusion_ratio=0.0)
            ),
            "its only ratio is 0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(Error, match=message):
        call()


def test_a_cosine_stage1_is_refused_before_the_step_begins(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    train_stage1(run, stage1_config(head="cosine", stage1_epochs=1), progress=False)
    for method in ("lws", "tau", "mislas"):
        with pytest.raises(
            Error,
            match=f"method {method} changes the lengths of the classifier's rows, which a cosine",
        ):
            train_stage2(
                run, stage2_config(stage2_method=method, fusion_ratio=0.0), "x", progress=False
            )
    assert not Run(run).step("stage2-x").path.exists()
