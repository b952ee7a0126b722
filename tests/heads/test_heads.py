"""Every head against a slow computation of its own."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from h2t.base import rng
from h2t.base.errors import Error
from h2t.data import samplers
from h2t.heads import HEADS, head, sgd
from h2t.heads.features import Classifier, Features
from h2t.heads.sgd import BATCH, Batch, epochs_of

COUNTS = (60, 25, 9, 3)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """The slow computations below take as many steps as what they are held against."""
    monkeypatch.setattr(sgd, "STEPS", 12)


def toy(seed: int = 0, d: int = 12) -> Features:
    g = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.full((n,), c) for c, n in enumerate(COUNTS)])
    z = torch.randn(2, len(y), d, generator=g) + 1.5 * torch.randn(4, d, generator=g)[y]
    return Features(z, y, len(COUNTS)).scaled()[0]


def draws(f: Features, seed: int, epoch: int, stream: str, sampler: str):
    g = rng.torch_generator(seed, f"head/{stream}", epoch)
    rows = samplers.epoch(sampler, f.labels, len(f.labels), g)
    views = torch.randint(len(f.views), (len(rows),), generator=g)
    return f.views[views, rows], f.labels[rows]


def slow(f: Features, setting, seed, sampler, change=None, loss=None, second=None, start=None):
    """One setting alone, by torch's own SGD, layer and cross entropy."""
    layer = nn.Linear(f.views.shape[2], f.num_classes)
    with torch.no_grad():
        layer.weight.copy_(start.weight if start else 0 * layer.weight)
        layer.bias.copy_(start.bias if start else 0 * layer.bias)
    lr, wd = setting.get("lr", 0.02), setting.get("weight_decay", 5e-4)
    optimiser = torch.optim.SGD(layer.parameters(), lr, 0.9, weight_decay=wd)
    epochs = epochs_of(len(f.labels))
    for epoch in range(epochs):
        optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        zs, ys = draws(f, seed, epoch, "fused", sampler)
        other = draws(f, seed, epoch, "fusing", second) if second else (None, None)
        g = rng.torch_generator(seed, "head/mix", epoch)
        for k in range(0, len(zs), BATCH):
            z, y = zs[k : k + BATCH], ys[k : k + BATCH]
            if change:
                lent = [None if o is None else o[k : k + BATCH] for o in other]
                z = change(z, y, *lent, setting, g)
            out = layer(z)
            optimiser.zero_grad()
            (loss(out, y) if loss else nn.functional.cross_entropy(out, y)).backward()
            optimiser.step()
    return layer


def same(found: Classifier, layer, tolerance=2e-4):
    torch.testing.assert_close(found.weight, layer.weight.detach(), atol=tolerance, rtol=1e-3)
    torch.testing.assert_close(found.bias, layer.bias.detach(), atol=tolerance, rtol=1e-3)


def swapped(z, y, other, other_y, setting, g):
    d = z.shape[1]
    rank, out = torch.randperm(d, generator=g).argsort(), z.clone()
    for channel in range(d):
        if rank[channel] < int(setting["strength"] * d):
            out[:, channel] = other[:, channel]
    return out


def test_probe_and_drawn_again_are_torchs_own_sgd():
    f = toy()
    for name, sampler in (("ce", "instance"), ("crt", "balanced")):
        settings = head(name).GRID[:3] + head(name).GRID[-1:]
        for found, setting in zip(head(name).fit(f, settings, 7), settings, strict=True):
            same(found, slow(f, setting, 7, sampler))


def test_balanced_softmax_adds_log_counts_in_the_loss():
    f = toy(1)
    prior = torch.tensor([math.log(n) for n in COUNTS])
    setting = {"lr": 0.02, "weight_decay": 2e-3}
    (found,) = head("balanced_softmax").fit(f, [setting], 3)
    same(
        found,
        slow(
            f, setting, 3, "instance", loss=lambda o, y: nn.functional.cross_entropy(o + prior, y)
        ),
    )


@pytest.mark.parametrize(("name", "second"), [("h2t", "instance"), ("h2t_balanced", "balanced")])
def test_fusion_swaps_int_p_d_channels_of_a_batch(name, second):
    f = toy(2)
    settings = [{"strength": 0.3, "lr": 0.02}, {"strength": 0.6, "lr": 0.02, "weight_decay": 8e-3}]
    for found, setting in zip(head(name).fit(f, settings, 1), settings, strict=True):
        same(found, slow(f, setting, 1, "balanced", swapped, second=second))


def test_h2t_at_zero_is_dr():
    f = toy(3)
    (found,) = head("h2t").fit(f, [{"strength": 0.0, "lr": 0.02}], 4)
    (dr,) = head("crt").fit(f, [{"lr": 0.02}], 4)
    torch.testing.assert_close(found.weight, dr.weight)


def test_zeros_mixup_noise_and_gaussian_change_features_as_they_say():
    f, g = toy(4), torch.Generator().manual_seed(0)
    zeros, mixup, noise, gaussian = map(head, ("zeros", "mixup", "noise", "gaussian"))

    def cut(z, y, other, other_y, setting, g):
        return swapped(z, y, 0 * z, None, setting, g)

    setting = {"strength": 0.45, "lr": 0.02}
    same(zeros.fit(f, [setting], 1)[0], slow(f, setting, 1, "balanced", cut))

    def blended(z, y, other, other_y, setting, g):
        return (1 - setting["strength"]) * z + setting["strength"] * other

    setting = {"strength": 0.2, "lr": 0.02}
    same(mixup.fit(f, [setting], 1)[0], slow(f, setting, 1, "balanced", blended, second="instance"))

    def moved(z, y, other, other_y, setting, g):
        rows = []
        for a, c, b, k in zip(z, y, other, other_y, strict=True):
            mean = torch.stack(
                [v for v, own in zip(f.views.mean(0), f.labels, strict=True) if own == k]
            )
            short = 1 - COUNTS[c] / COUNTS[0]
            rows.append(a + setting["strength"] * short * (b - mean.mean(0)))
        return torch.stack(rows)

    same(
        gaussian.fit(f, [setting], 1)[0], slow(f, setting, 1, "balanced", moved, second="instance")
    )
    other = torch.randn(4000, 12, generator=g) * 3 + 5
    batch = Batch(torch.zeros(4000, 12), torch.zeros(4000).long(), other, None, g)
    drawn = asked(noise, f)["mix"](batch, torch.tensor([1.0]))[0]
    torch.testing.assert_close(drawn.mean(0), other.mean(0), atol=0.3, rtol=0)
    torch.testing.assert_close(drawn.std(0), other.std(0), atol=0.3, rtol=0)


def test_what_comes_after_a_probe_follows_its_formula():
    f = toy(5)
    settings = [{"tau": 0.75, "probe_weight_decay": 8e-3, "probe_lr": 0.1}]
    probe = slow(f, {"lr": 0.1, "weight_decay": 8e-3}, 2, "instance")
    (found,) = head("logit_adjustment").fit(f, settings, 2)
    expected = [
        probe.bias[c].item() - 0.75 * math.log(n / sum(COUNTS)) for c, n in enumerate(COUNTS)
    ]
    np.testing.assert_allclose(found.bias.numpy(), expected, atol=1e-4)
    (found,) = head("tau_norm").fit(f, settings, 2)
    for row, own in zip(found.weight, probe.weight, strict=True):
        length = math.sqrt(sum(float(v) ** 2 for v in own.detach()))
        np.testing.assert_allclose(row.numpy(), (own / length**0.75).detach().numpy(), atol=1e-4)
    (found,) = head("lws").fit(f, [{**settings[0], "lr": 0.1}], 2)
    factor = found.weight / probe.weight.detach()
    assert factor.std(1).max() < 1e-3 and factor.mean(1).std() > 0  # one factor a class


def asked(module, f: Features) -> dict:
    """What a head asks ``train`` for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "train", lambda *a, **how: how)
        return module.fit(f, [], 0)


def test_mislas_loss_is_equation_5():
    f = toy(6)
    caught = asked(head("mislas"), f)
    logits, y = torch.randn(1, 5, 4), torch.tensor([0, 1, 2, 3, 3])
    total = 0.0
    for row, c in zip(logits[0], y, strict=True):
        share = (COUNTS[c] - min(COUNTS)) / (max(COUNTS) - min(COUNTS))
        e = 0.1 + 0.3 * math.sin(math.pi / 2 * share)
        norm = math.log(sum(math.exp(v) for v in row))
        nll = [norm - float(v) for v in row]
        total += (1 - e) * nll[c] + e * sum(nll) / 4
    found = caught["loss"](logits[0], y, f.counts)
    assert found.item() == pytest.approx(total / 5, abs=1e-5)
    assert caught["learn"] == ("weight", "factor") and caught["sampler"] == "class_aware"


def test_nearest_mean_is_the_smallest_distance():
    f = toy(7)
    plain, whitened = head("nearest_mean").fit(f, [{"shrinkage": 1.0}, {"shrinkage": 0.3}], 0)
    z, means = f.views[0], [f.views.mean(0)[f.labels == c].mean(0) for c in range(4)]
    apart = torch.stack([v - means[c] for v, c in zip(z, f.labels, strict=True)])
    covariance = sum(torch.outer(a, a) for a in apart) / (len(z) - 4)
    identity = torch.eye(12) * covariance.diagonal().mean()
    for found, metric in ((plain, identity), (whitened, 0.7 * covariance + 0.3 * identity)):
        inverse = torch.linalg.inv(metric)
        far = torch.stack([torch.stack([(v - m) @ inverse @ (v - m) for m in means]) for v in z])
        assert torch.equal(found.logits(z).argmax(1), far.argmin(1))


def test_logistic_regression_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    f = toy(8)
    (found,) = head("logistic").fit(f, [{"C": 0.01}], 0)
    z, y = f.views[0].numpy(), f.labels.numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced"))
    expected = model.fit(z, y).predict_proba(z)
    np.testing.assert_allclose(found.logits(f.views[0]).softmax(1).numpy(), expected, atol=2e-3)


def test_two_classes_have_two_rows():
    f = toy(9)
    two = f.take((f.labels < 2).nonzero().flatten())
    two = Features(two.views, two.labels, 2)
    for name in HEADS:
        (found,) = head(name).fit(two, head(name).GRID[:1], 0)
        assert found.logits(two.views[0]).shape == (85, 2), name


def test_a_cosine_head_does_not_see_lengths():
    f = toy(10)
    (found,) = head("cosine").fit(f, [{"scale": 16.0, "lr": 0.02, "weight_decay": 5e-4}], 0)
    z = f.views[0]
    rows = [w / w.norm() for w in found.weight]
    slow_logits = torch.stack([torch.stack([16 * (v / v.norm()) @ r for r in rows]) for v in z[:9]])
    torch.testing.assert_close(found.logits(z[:9]), slow_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.logits(3 * z[:9]), slow_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_tuned_among_as_many_settings_and_the_same_twice(name):
    module, f = head(name), toy(11)
    assert len(module.GRID) == 8
    once, again = (module.fit(f, module.GRID[:2], 5) for _ in range(2))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias)
        assert torch.isfinite(a.logits(f.views[0])).all()


def test_a_head_that_is_not_there_is_named():
    with pytest.raises(Error, match="no head 'nonsense'"):
        head("nonsense")
