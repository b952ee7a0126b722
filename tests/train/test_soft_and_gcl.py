import numpy as np
import pytest
import torch
import torch.nn.functional as F

from h2t import Error, Run, train_stage1, train_stage2
from h2t.lab.explorer.engine import Explorer
from h2t.models.heads import tau_normalised
from h2t.recipes.parameters import Stage2
from h2t.train.cached import fit as fitting
from h2t.train.cached.descent import draws
from h2t.train.cached.steps import compare
from h2t.train.evaluate import classifier_of, load_model
from h2t.train.schedule import stage2_lr
from tests.helpers import (
    digits_run,
    same_weights,
    stage1_config,
    stage2_config,
    stop_after,
)
from tests.lab import explorer_reference as reference
from tests.train.test_bank import toy


def test_tau_norm_trains_nothing_and_divides_the_rows(run):
    result = train_stage2(
        run, stage2_config(stage2_method="tau", tau=0.7, fusion_ratio=0.0), "tau", progress=False
    )
    before, after = (Run(run).step(n).weights() for n in ("stage1", "stage2-tau"))
    for name in before:
        if name.startswith("backbone."):
            assert torch.equal(before[name], after[name]), name
    for row, new in zip(before["head.weight"], after["head.weight"], strict=True):
        length = sum(float(v) ** 2 for v in row) ** 0.5
        assert new.numpy() == pytest.approx(row.numpy() / length**0.7, rel=1e-5)
    assert (
        not after["head.bias"].any()
        and result["epochs"] == 0
        and "best" not in result
        and Run(run).step("stage2-tau").history() == []
    )
    assert (
        train_stage2(
            run,
            stage2_config(stage2_method="tau", tau=0.7, fusion_ratio=0.0),
            "tau",
            progress=False,
        )
        == result
    )
    w = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.equal(tau_normalised(w, 0.0), w) and torch.allclose(
        tau_normalised(w, 1.0), torch.tensor([[0.6, 0.8], [0.0, 0.0]])
    )


def test_the_explorer_follows_a_method_and_refuses_tau(run):
    with pytest.raises(Error, match="no ratio to drag"):
        Explorer(run, stage2_config(stage2_method="tau", fusion_ratio=0.0), views=1)
    engine = Explorer(run, stage2_config(stage2_method="mislas"), views=1)
    drawn, points = reference.boundary(engine, engine.start)
    assert np.isfinite(drawn.basis).all() and np.isfinite(points["fused"]).all()


def test_soft_fusion_exact_and_cached(run):
    config = stage2_config(fusion="soft", fusion_ratio=0.5, stage2_epochs=2, bn_statistics="none")
    for variant, fusion in (("soft", "soft"), ("swap", "swap")):
        train_stage2(
            run, stage2_config(**{**config.to_dict(), "fusion": fusion}), variant, progress=False
        )
    soft, swap = (classifier_of(Run(run).step(f"stage2-{v}"))[0] for v in ("soft", "swap"))
    assert np.isfinite(soft).all() and not np.allclose(soft, swap)
    bank = toy()
    fits = fitting.fit(
        bank,
        (0.0, 0.5, 1.0),
        (0, 7),
        Stage2(fusion="soft", stage2_epochs=2, batch_size=16, stage2_lr=0.1),
    )
    centres = torch.stack([bank.train[:, bank.labels == c].mean((0, 1)) for c in range(4)])
    config = Stage2(stage2_epochs=2, batch_size=16, stage2_lr=0.1)
    for r, ratio in enumerate((0.0, 0.5, 1.0)):
        w, b = bank.weight.clone().requires_grad_(), bank.bias.clone().requires_grad_()
        optimizer = torch.optim.SGD(
            [w, b], 0.1, momentum=0.9, weight_decay=config.stage2_weight_decay
        )
        for epoch in (1, 2):
            optimizer.param_groups[0]["lr"] = stage2_lr(epoch, config, config.stage2_lr)
            ib, vb, ii, vi, rank = draws(bank, config, 7, epoch)
            for step, k in enumerate(range(0, len(bank.labels), 16)):
                rows = slice(k, k + 16)
                z, other, y = (
                    bank.train[vb[rows], ib[rows]].clone(),
                    bank.lent[vi[rows], ii[rows]],
                    bank.labels[ib[rows]],
                )
                for i in range(len(z)):
                    keep = 0.2 + 0.8 / (1 + (z[i] - centres[y[i]]).norm())
                    z[i] = torch.where(
                        rank[step] < int(ratio * 12), keep * z[i] + (1 - keep) * other[i], z[i]
                    )
                optimizer.zero_grad()
                F.cross_entropy(z @ w.T + b, y).backward()
                optimizer.step()
        assert torch.allclose(fits.weight[r, 1], w, atol=1e-5) and torch.allclose(
            fits.bias[r, 1], b, atol=1e-5
        )


def test_the_second_stage_of_gcl(tmp_path):
    run, data = digits_run(tmp_path / "run")
    train_stage1(run, stage1_config(loss="gcl", head="cosine", stage1_epochs=2), progress=False)
    config = stage2_config(
        stage2_method="gcl",
        fused_branch="effective_number",
        bn_statistics="none",
        stage2_mixup_alpha=1.0,
        fusion_ratio=0.25,
    )
    train_stage2(run, config, "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_stage2(run, config, "parts", progress=False, on_epoch=stop_after(1))
    train_stage2(run, config, "parts", progress=False)
    assert same_weights(Run(run).step("stage2-whole"), Run(run).step("stage2-parts"))
    head, z = load_model(run, "stage2-whole", "cpu").head, torch.randn(3, 64)
    cosines = F.normalize(z) @ F.normalize(head.weight).T
    assert torch.allclose(head(z), 30 * cosines, atol=1e-4)  # the head's own scale
    plain = stage2_config(**{**config.to_dict(), "stage2_mixup_alpha": 0.0})
    train_stage2(run, plain, "plain", progress=False)
    assert not same_weights(Run(run).step("stage2-whole"), Run(run).step("stage2-plain"))
    for changed, why in (
        (config, "does not know method gcl; use crt, lws, tau, mislas, or the exact one"),
        (stage2_config(stage2_mixup_alpha=1.0), "cannot mix images"),
    ):
        with pytest.raises(Error, match=why):
            compare(run, changed, (0.0,), (0,), views=1, progress=False)


def test_gcl_wants_a_cosine_head(run):
    with pytest.raises(Error, match="method gcl lowers cosines; use a stage 1 with head cosine"):
        train_stage2(run, stage2_config(stage2_method="gcl"), "x", progress=False)
