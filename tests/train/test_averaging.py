"""Several heads averaged, and BN statistics estimated anew: against training and estimating one by one."""

import dataclasses
import shutil

import pytest
import torch

from h2t import Error, Run, train_stage1, train_stage2
from h2t.base import rng
from h2t.data import samplers
from h2t.train import bn_statistics as normalisation
from h2t.train import device as stepping
from h2t.train.averaging import members
from h2t.train.cached import bank as banking
from h2t.train.cached.steps import recipe_of, train_cached
from h2t.train.prepare import dataset, loaders
from h2t.train.stage1 import load_model
from tests.helpers import digits_run, same_weights, stage1_config, stage2_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("heads") / "run")
    train_stage1(run, stage1_config(), progress=False)
    return run


def test_the_heads_have_their_own_draws_and_ratios_in_turn():
    config = stage2_config(heads=3, head_ratios=[0.1, 0.4], fusion_ratio=0.25, seed=7)
    each = members(config)
    assert (
        [m.fusion_ratio for m in each] == [0.1, 0.4, 0.1]
        and each[0].seed == 7
        and len({m.seed for m in each}) == 3
    )
    assert (
        all(m.heads == 1 and m.head_ratios == () for m in each)
        and members(dataclasses.replace(config, seed=8))[1].seed != each[1].seed
    )
    assert [m.fusion_ratio for m in members(stage2_config(heads=2, fusion_ratio=0.3))] == [0.3, 0.3]


def test_the_mean_of_heads_trained_one_by_one(trained, tmp_path):
    run, alone = (shutil.copytree(trained, tmp_path / name) for name in ("run", "alone"))
    config = stage2_config(heads=2, head_ratios=[0.2, 0.6])
    result = train_stage2(run, config, "h2t", progress=False)
    for k, member in enumerate(members(config)):
        train_stage2(alone, member, f"m{k}", progress=False)
    singles = [Run(alone).step(f"stage2-m{k}").weights() for k in range(2)]
    mean = Run(run).step("stage2-h2t").weights()
    for name, value in mean.items():
        assert torch.allclose(
            value.double(), sum(s[name].double() for s in singles) / 2, atol=1e-6
        ), name
    before = Run(run).step("stage1").weights()
    assert all(
        mean[k].equal(before[k])
        for k in before
        if k.startswith("backbone") and k.endswith(("weight", "bias"))
    )
    assert not any(p.name.startswith(".heads") for p in run.iterdir()) and list(
        Run(run).results()
    ) == ["stage1", "stage2-h2t"]
    assert result["last"]["all"] > 0 and "best" not in result and result["params"]["heads"] == 2
    assert (
        train_stage2(run, config, "h2t", progress=False) == Run(run).step("stage2-h2t").result
    )  # and is not done again
    assert recipe_of(run).heads == 1 and recipe_of(run).head_ratios == ()  # the explorer moves one


def test_an_interrupted_average_goes_on_to_the_same_weights(trained, tmp_path):
    run, whole = (shutil.copytree(trained, tmp_path / name) for name in ("run", "whole"))
    config = stage2_config(heads=2)
    train_stage2(whole, config, "h2t", progress=False)
    rows = []

    def stop(history):
        rows.append(len(history))
        if len(rows) == 5:  # in the second head
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stage2(run, config, "h2t", progress=False, on_epoch=stop)
    assert not Run(run).step("stage2-h2t").done and Run(run).step(".heads-h2t/0").done
    train_stage2(run, config, "h2t", progress=False)
    assert same_weights(Run(run).step("stage2-h2t"), Run(whole).step("stage2-h2t"))


def test_the_cached_heads_are_averaged_alike(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    config = stage2_config(heads=2, head_ratios=[0.0, 0.5], fusion_ratio=0.25)
    train_cached(run, config, views=2, progress=False)
    bank, each = banking.open_bank(run, config), members(config)
    fits = [banking.fit(bank, [m.fusion_ratio], [m.seed], m) for m in each]
    assert torch.allclose(
        Run(run).step("stage2-cached").weights()["head.weight"],
        (fits[0].weight[0, 0] + fits[1].weight[0, 0]) / 2,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"head_ratios": [0.1, 0.2]},
            "head_ratios names 2 ratios, one for each head, but heads is 1",
        ),
        (
            {"heads": 2, "head_ratios": [0.1], "fusion_ratio": 0.0},
            "head_ratios are fusion ratios, but fusion_ratio is 0",
        ),
        ({"heads": 2, "stage2_method": "tau", "fusion_ratio": 0.0}, "method tau trains nothing"),
        ({"heads": 0}, "heads is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_averaged_is_refused(changes, message):
    with pytest.raises(Error, match=message):
        stage2_config(**changes)


def test_a_cosine_head_is_not_averaged(tmp_path):
    run, _ = digits_run(tmp_path / "run")
    train_stage1(
        run, stage1_config(stage1_epochs=1, warmup_epochs=0, head="cosine"), progress=False
    )
    with pytest.raises(Error, match="for a cosine head is no average"):
        train_stage2(run, stage2_config(heads=2), progress=False)
    assert not Run(run).step("stage2-h2t").path.exists()


@pytest.mark.parametrize("streams", ["balanced", "instance", "both"])
def test_statistics_are_the_means_over_the_batches_of_the_named_streams(
    trained, streams, monkeypatch
):
    """Of the first BN layer, from its inputs, batch by batch."""
    monkeypatch.setattr(normalisation, "BN_BATCHES", 5)
    config, data = stage2_config(bn_reestimate=streams), dataset(trained)
    train, _ = loaders(Run(trained), data, "cpu", stage2_config())
    labels, model = torch.from_numpy(data.train.labels), load_model(trained, "stage1", "cpu")
    momentum = model.backbone.bn1.momentum
    with stepping.threads():
        normalisation.reestimate(model.backbone, train, labels, config)
    want = []
    for branch, sampler in (("fused", "balanced"), ("fusing", "instance")):
        if streams in ("both", sampler):
            order = samplers.epoch(
                sampler,
                labels,
                normalisation.BN_BATCHES * 64,
                rng.torch_generator(0, f"bank/bn-{branch}"),
            )
            with torch.no_grad():
                maps = [
                    model.backbone.conv1(x)
                    for x, _ in train.epoch(
                        order, 64, rng.torch_generator(0, f"bank/bn-{branch}-augment"), False
                    )
                ]
            want.append(
                (
                    torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0),
                    torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0),
                )
            )
    bn = model.backbone.bn1
    assert (
        torch.allclose(bn.running_mean, sum(m for m, _ in want) / len(want), atol=1e-5)
        and bn.momentum == momentum
    )
    assert (
        torch.allclose(bn.running_var, sum(v for _, v in want) / len(want), rtol=1e-4)
        and not bn.training
    )


def test_a_stage_2_with_statistics_estimated_anew_differs_in_them_alone(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(normalisation, "BN_BATCHES", 5)
    run = shutil.copytree(trained, tmp_path / "run")
    train_stage2(run, stage2_config(), "running", progress=False)
    train_stage2(run, stage2_config(bn_reestimate="instance"), "anew", progress=False)
    a, b = (Run(run).step(f"stage2-{name}").weights() for name in ("running", "anew"))
    differ = {k for k in a if not a[k].equal(b[k])}
    assert differ and all("running_" in k or "num_batches" in k for k in differ)
    banks = [
        banking.build_bank(run, stage2_config(bn_reestimate=s), 1, progress=False)
        for s in ("none", "instance")
    ]
    assert (
        banks[0].key != banks[1].key
        and torch.equal(banks[0].train, banks[1].train)
        and not torch.equal(banks[0].test, banks[1].test)
    )
    features = load_model(
        run, "stage2-anew", "cpu"
    ).backbone  # exact and cached test under the same statistics
    _, test = loaders(Run(run), dataset(run), "cpu")
    with torch.no_grad():
        want = torch.cat([features(x) for x, _ in test.batches()])
    assert torch.allclose(banks[1].test, want, atol=1e-3)
