"""RIDE and ResLT: the networks and their sizes, their losses, and that everything behind stage 1
works on them.
"""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from h2t import Error, Run, Stage1, models, train_stage1, train_stage2
from h2t.fusion import channel_mask
from h2t.lab.explorer.boundary import pair_table, plane
from h2t.lab.explorer.engine import Explorer
from h2t.models.batchnorm import fold
from h2t.models.heads import CosineHead, SharedHead
from h2t.recipes.parameters import Stage2
from h2t.train.cached import bank as banking
from h2t.train.cached import fit as fitting
from h2t.train.cached.descent import draws
from h2t.train.cached.steps import save_variant
from h2t.train.evaluate import classifier_of, load_model
from h2t.train.schedule import stage2_lr
from tests.helpers import digits_run, same_weights, stage1_config, stage2_config, stop_after
from tests.lab import explorer_reference as reference

COUNTS = torch.tensor([100_000, 5_000, 120, 7, 1])
KINDS = {
    "ride": dict(model="ride2_resnet20_narrow", loss="ride", head="cosine"),
    "reslt": dict(model="reslt_resnet20", loss="reslt"),
}


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "head", "total"),
    [
        ("ride3_resnet32", "cosine", 1_362_064),
        ("ride3_resnet32_narrow", "cosine", 783_856),
        ("reslt_resnet32", "linear", 470_388),
    ],
)
def test_parameter_counts(name, head, total):
    def stage(before, width):
        return (
            9 * before * width
            + 9 * width * width
            + 4 * width
            + 4 * (18 * width * width + 4 * width)
        )

    middle, last = (24, 48) if "narrow" in name else (32, 64)
    by_hand = 27 * 16 + 32 + stage(16, 16)
    if name.startswith("ride"):
        by_hand += 3 * (stage(16, middle) + stage(middle, last) + 100 * last)
    else:
        by_hand += stage(16, 32) + stage(32, 64) + 2 * 192 + 64 * 100 + 100
    assert models.num_parameters(models.build(name, 100, head=head)) == by_hand == total


@pytest.mark.parametrize("name", ["ride3_resnet20", "ride2_resnet20_narrow", "reslt_resnet20"])
def test_features_are_the_experts_side_by_side(name):
    model = models.build(name, 7, in_channels=1).eval()
    x = torch.randn(2, 1, 12, 12, generator=gen())
    k, d = models.num_experts(name), 48 if "narrow" in name else 64
    assert model.features(x).shape == (2, k * d) and model.backbone.maps(x).shape == (
        2,
        k * d,
        3,
        3,
    )
    assert torch.allclose(model.features(x), model.backbone.maps(x).mean((2, 3)), atol=1e-6)
    if name.startswith("ride"):  # an expert's block depends on its own layers alone
        before = model.features(x)
        with torch.no_grad():
            model.backbone.layer3[1][0].conv1.weight.zero_()
        changed = (model.features(x) != before).any(0)
        assert not changed[:d].any() and changed[d : 2 * d].any() and not changed[2 * d :].any()
    else:  # a branch is the trunk through a BN of its own
        trunk = super(type(model.backbone), model.backbone).maps(x)
        with torch.no_grad():
            model.backbone.bn2.weight.copy_(torch.rand(3 * d, generator=gen(5)))
            model.backbone.bn2.running_mean.copy_(torch.rand(3 * d, generator=gen(6)))
        norm = model.backbone.bn2
        for c in (0, d, 2 * d + 3):
            want = (
                (trunk[:, c % d] - norm.running_mean[c])
                / (norm.running_var[c] + norm.eps).sqrt()
                * norm.weight[c]
            )
            assert torch.allclose(model.backbone.maps(x)[:, c], want, atol=1e-5)
    folded = fold(model.backbone)
    assert torch.allclose(folded(x), model.features(x), rtol=1e-3, atol=1e-4)
    left = [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(left) == name.startswith("reslt")  # its branches' BN follows no convolution


def test_heads_answer_for_all_experts():
    z = torch.randn(4, 12, generator=gen(1))
    cosine, shared = CosineHead(12, 5, num_experts=3), SharedHead(12, 5, 3)
    torch.nn.init.normal_(cosine.weight, generator=gen(2))
    cosine.requires_grad_(False), shared.requires_grad_(False)
    for b in range(4):
        for c in range(5):
            parts = [
                (z[b, 4 * k : 4 * k + 4], cosine.weight[c, 4 * k : 4 * k + 4]) for k in range(3)
            ]
            want = [30 * float(u @ w) / float(u.norm() * w.norm()) for u, w in parts]
            assert cosine.each(z)[:, b, c].tolist() == pytest.approx(want, abs=1e-4)
            assert cosine(z)[b, c].item() == pytest.approx(np.mean(want), abs=1e-4)
            want = [float(u @ shared.weight[c] + shared.bias[c]) for u, _ in parts]
            assert shared.each(z)[:, b, c].tolist() == pytest.approx(want, abs=1e-5)
            assert shared(z)[b, c].item() == pytest.approx(sum(want), abs=1e-5)


def test_every_expert_has_a_permutation_of_its_own():
    mask, g = channel_mask(30, 0.5, gen(3), 3), gen(3)
    for k in range(3):
        assert set(mask[10 * k : 10 * k + 10].nonzero().flatten().tolist()) == set(
            torch.randperm(10, generator=g)[:5].tolist()
        )
    assert len({tuple(row.tolist()) for row in mask.view(3, 10)}) == 3


@pytest.fixture(scope="module", params=sorted(KINDS))
def trained(request, tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("experts") / request.param)
    train_stage1(
        run,
        stage1_config(mixup_alpha=0.0, drw_from=0.5, stage1_epochs=2, **KINDS[request.param]),
        progress=False,
    )
    return run


def test_stage1_stage2_and_their_model_fit_together(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    config = stage2_config(fusion_ratio=0.3, stage2_epochs=2)
    train_stage2(run, config, "h2t", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train_stage2(run, config, "parts", progress=False, on_epoch=stop_after(1))
    train_stage2(run, config, "parts", progress=False)
    assert same_weights(Run(run).step("stage2-h2t"), Run(run).step("stage2-parts"))
    model = load_model(run, "stage2-h2t", "cpu")
    x = torch.randn(3, 1, 8, 8, generator=gen())
    weight, bias = map(torch.from_numpy, classifier_of(Run(run).step("stage2-h2t")))
    scale = 30.0 if isinstance(model.head, CosineHead) else None
    kind = SimpleNamespace(scale=scale, num_experts=model.backbone.num_experts)
    assert torch.allclose(
        banking.Bank.classify(kind, model.features(x), weight, bias),
        model(x),
        atol=1e-4,
    )


def test_the_bank_and_the_cached_stage2_equal_autograd(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    config = stage2_config(stage2_epochs=2, bn_statistics="none")
    bank = banking.build_bank(run, config, 2, progress=False)
    k, d = bank.num_experts, bank.num_features // bank.num_experts
    assert (k, d) == ((2, 48) if bank.scale else (3, 64))
    fits = fitting.fit(bank, (0.0, 0.4), (0, 7), config)
    head = load_model(run, "stage1", "cpu").head
    optimizer = torch.optim.SGD(
        head.parameters(), 0.1, momentum=0.9, weight_decay=config.stage2_weight_decay
    )
    for epoch in (1, 2):
        optimizer.param_groups[0]["lr"] = stage2_lr(epoch, config, config.stage2_lr)
        ib, vb, ii, vi, rank = draws(bank, config, 7, epoch)
        assert all(
            sorted(block.tolist()) == list(range(d)) for row in rank for block in row.view(k, d)
        )
        for step, first in enumerate(range(0, len(bank.labels), 64)):
            rows = slice(first, first + 64)
            z = torch.where(
                rank[step] < int(0.4 * d),
                bank.lent[vi[rows], ii[rows]],
                bank.train[vb[rows], ib[rows]],
            )
            optimizer.zero_grad()
            F.cross_entropy(head(z), bank.labels[ib[rows]]).backward()
            optimizer.step()
    assert torch.allclose(fits.logits(1, 1), head(bank.test).detach(), atol=2e-3)
    save_variant(run, bank, (fits.weight[1, 1], fits.bias[1, 1]), config, "cached")
    assert torch.allclose(
        load_model(run, "stage2-cached", "cpu").head(bank.test), fits.logits(1, 1), atol=1e-4
    )


def test_boundaries_of_the_explorer_are_where_the_model_decides(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    engine = Explorer(run, stage2_config(stage2_epochs=2, bn_statistics="none"), views=1)
    state, bank = engine.start, engine.bank
    drawn, points = reference.boundary(engine, state)
    logits = bank.classify(bank.test, *engine.fit(state.recipe)).numpy()
    for name, c in (("test head", state.head), ("test tail", state.tail)):
        rows = logits[engine.labels == c]
        decided = rows[:, state.tail] > rows[:, state.head]
        a, b = drawn.after
        sure = np.abs(rows[:, state.tail] - rows[:, state.head]) > 1e-3
        assert np.array_equal((points[name] @ a + b > 0)[sure], decided[sure])
    table = pair_table(
        engine.stage1,
        engine.fit(state.recipe),
        bank.test.numpy(),
        engine.labels,
        [state.head],
        [state.tail],
        bank.scale,
        bank.num_experts,
    )
    rows = logits[engine.labels == state.tail]
    assert table["tail_after"][0] == pytest.approx(
        100 * (rows[:, state.tail] > rows[:, state.head]).mean(), abs=1
    )
    assert plane(
        engine.stage1, engine.stage1, state.head, state.tail, bank.scale, bank.num_experts
    ).basis.shape == (2, bank.num_features)


def test_methods_of_stage2_on_a_shared_head(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    train_stage1(
        run, stage1_config(mixup_alpha=0.0, stage1_epochs=1, **KINDS["reslt"]), progress=False
    )
    for method in ("lws", "mislas", "tau"):
        config = stage2_config(
            stage2_method=method, fusion_ratio=0.0, stage2_epochs=1, bn_statistics="none", tau=0.5
        )
        result = train_stage2(run, config, method, progress=False)
        assert load_model(run, f"stage2-{method}", "cpu").head.weight.shape == (
            10,
            64,
        ) and np.isfinite(result["last"]["all"])
    bank = banking.build_bank(run, config, 1, progress=False)
    fits = fitting.fit(bank, [0.0], [0], Stage2(stage2_method="tau", tau=0.5, fusion_ratio=0.0))
    exact = load_model(run, "stage2-tau", "cpu").head(bank.test)
    assert torch.allclose(fits.logits(), exact, atol=1e-4)


def test_a_checkpoint_of_experts_is_recognised(tmp_path):
    from h2t.exchange.reference import read_checkpoint

    for name, channels in (("ride3_resnet32_narrow", 3), ("ride2_resnet20", 1), ("resnet32", 3)):
        model = models.build(name, 10, in_channels=channels)
        parts = {
            "state_dict_model": model.backbone.state_dict(),
            "state_dict_classifier": model.head.state_dict(),
        }
        torch.save(parts, tmp_path / "c.pth.tar")
        assert read_checkpoint(tmp_path / "c.pth.tar")["model"] == name


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"loss": "ride", "head": "cosine"},
            "loss ride is of several experts, which model resnet20 has not; use it with a model "
            "such as ride3_resnet32",
        ),
        (
            {"loss": "reslt", "model": "ride3_resnet32"},
            "use it with a model such as reslt_resnet32",
        ),
        ({"loss": "ride", "model": "ride3_resnet32"}, "use it with head cosine"),
        (
            {"head": "cosine", "model": "reslt_resnet32"},
            "one linear classifier for all branches; use it with head linear",
        ),
        ({"ride_diversity": 0.1}, "ride_diversity"),
        ({"reslt_from": [0.7, 0.35]}, "two shares of the classes, ascending"),
        ({"reslt_from": [0.35]}, "two shares of the classes, ascending"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters, message):
    with pytest.raises(Error, match=message):
        Stage1(**parameters)
