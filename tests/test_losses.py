"""Each loss against a slow loop of its own formula, on extreme counts, in both precisions; and a new one from the README."""

import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error, Stage1
from h2t.losses import LOSSES, loss_of
from h2t.losses.class_balanced import class_weights
from tests.helpers import ROOT

COUNTS = [100_000, 5_000, 120, 7, 1]


def soft(z):
    top = max(z)
    e = [math.exp(v - top) for v in z]
    return [v / sum(e) for v in e]


def by_hand(name, z, y, n):
    """The loss of one image, in double precision with the standard library alone, and its weight in the batch's mean."""
    log_p = lambda z: z[y] - max(z) - math.log(sum(math.exp(v - max(z)) for v in z))  # noqa: E731
    if name == "ce":
        return -log_p(z), 1.0
    if name == "focal":
        p = soft(z)[y]
        return (1 - p) ** 2 * -log_p(z), 1.0
    if name == "cb":
        raw = [(1 - 0.9999) / (1 - 0.9999**k) for k in n]
        return -log_p(z), raw[y] / sum(raw) * len(n)
    if name == "bsce":
        return -log_p([v + math.log(k) for v, k in zip(z, n, strict=True)]), 1.0
    if name == "la":
        return -log_p([v + math.log(k / sum(n)) for v, k in zip(z, n, strict=True)]), 1.0
    if name in ("ldam", "ride"):  # of one expert RIDE is LDAM
        margin = 0.5 * n[y] ** -0.25 / max(k**-0.25 for k in n)
        return -log_p([v - 30 * margin * (c == y) for c, v in enumerate(z)]), 1.0
    if name == "las":
        e = 0.1 + (0.4 - 0.1) * math.sin(math.pi / 2 * (n[y] - min(n)) / (max(n) - min(n)))
        logs = [v - max(z) - math.log(sum(math.exp(u - max(z)) for u in z)) for v in z]
        return -sum(((1 - e) * (c == y) + e / len(z)) * v for c, v in enumerate(logs)), 1.0
    if name in ("gcl", "reslt"):  # without its cloud, of one branch
        return -log_p(z), 1.0
    raise AssertionError(f"no slow computation for {name}")


def mean_by_hand(name, logits, labels, counts, weight=None):
    terms = [by_hand(name, z, y, counts) for z, y in zip(logits, labels, strict=True)]
    w = [t[1] * (weight[y] if weight else 1.0) for t, y in zip(terms, labels, strict=True)]
    return sum(v * t[0] for v, t in zip(w, terms, strict=True)) / sum(w)


logit = st.lists(st.floats(-40, 40), min_size=5, max_size=5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=30, deadline=None)
@given(batch=st.lists(st.tuples(logit, st.integers(0, 4)), min_size=1, max_size=6), weighted=st.booleans())
def test_value_and_gradient_are_those_of_a_slow_loop(name, dtype, batch, weighted):
    z = torch.tensor([b[0] for b in batch], dtype=dtype, requires_grad=True)
    labels, weight = [b[1] for b in batch], [0.5, 2.0, 1.0, 3.0, 0.1] if weighted else None
    value = loss_of(name)(z, torch.tensor(labels), torch.tensor(COUNTS), weight and torch.tensor(weight, dtype=dtype))
    given_logits = z.detach().double().tolist()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    assert value.item() == pytest.approx(mean_by_hand(name, given_logits, labels, COUNTS, weight), rel=tolerance, abs=tolerance)
    value.backward()
    assert z.grad.isfinite().all() and z.grad.dtype == dtype
    if dtype == torch.float64:
        i, c, h = 0, labels[0], 1e-5
        up, down = ([[v + s * h * (k == i and j == c) for j, v in enumerate(row)] for k, row in enumerate(given_logits)] for s in (1, -1))
        slope = (mean_by_hand(name, up, labels, COUNTS, weight) - mean_by_hand(name, down, labels, COUNTS, weight)) / (2 * h)
        assert z.grad[i, c].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_no_logits_make_it_nan(name):
    for value in (0.0, 1e4, -1e4):
        for label in range(5):
            z = torch.zeros(1, 5)
            z[0, label] = value
            z.requires_grad_()
            loss = loss_of(name)(z, torch.tensor([label]), torch.tensor(COUNTS))
            loss.backward()
            assert loss.isfinite() and z.grad.isfinite().all(), (name, value, label)


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=30))
def test_class_balanced_weights_sum_to_the_number_of_classes_and_favour_the_rare(counts):
    w = class_weights(torch.tensor(counts)).numpy()
    assert w.sum() == pytest.approx(len(counts)) and (w > 0).all()
    order = np.argsort(counts, kind="stable")
    assert (np.diff(w[order]) <= 1e-12).all()


def test_balanced_softmax_is_logit_adjustment_at_tau_1():
    z, y, n = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).double(), torch.arange(8) % 5, torch.tensor(COUNTS)
    assert loss_of("bsce")(z, y, n).item() == pytest.approx(loss_of("la")(z, y, n).item())


def test_ldam_without_cosines_is_refused():
    with pytest.raises(Error, match="use it with head cosine"):
        Stage1(loss="ldam")
    with pytest.raises(Error, match="loss is 'mine'; choose one of ce, focal, cb, bsce, la, ldam"):
        Stage1(loss="mine")


def test_re_weighting_begins_after_its_share_of_the_epochs(tmp_path, monkeypatch):
    from h2t import train_stage1
    from h2t.train import stage1
    from tests.helpers import digits_run, stage1_config

    seen = []
    real = loss_of("ce")
    monkeypatch.setattr(stage1, "bound", lambda *given: lambda z, y, n, w=None: (seen.append(w), real(z, y, n, w))[1])
    run, data = digits_run(tmp_path / "run")
    train_stage1(run, stage1_config(stage1_epochs=4, drw_from=0.5, mixup_alpha=0.0), progress=False)
    half = len(seen) // 2
    assert all(w is None for w in seen[:half]) and all(torch.allclose(w.double(), class_weights(torch.from_numpy(data.train.counts)), rtol=1e-5) for w in seen[half:])


def test_the_readmes_new_loss_trains(tmp_path):
    """The README's example, as written: its file and its entry in a copy of the package, and its command."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("### A loss of your own") :]
    file = re.search(r"`(h2t/losses/\w+\.py)`", section)[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    entry = re.search(r'`("\w+": "\w+",)`', section)[1]
    command = re.search(r"```sh\nuv run (h2t .*?)\n```", section, re.S)[1]
    assert len(code.splitlines()) < 30
    shutil.copytree(ROOT / "h2t", tmp_path / "h2t", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"))
    (tmp_path / file).write_text(code)
    registry = tmp_path / "h2t" / "losses" / "__init__.py"
    registry.write_text(registry.read_text().replace('    "ce"', f'    {entry}\n    "ce"'))
    short = ["--plain", "-p", "stage1_epochs", "3", "-p", "stage2_epochs", "1", "-p", "run", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "h2t.cli", *command.split()[1:], *short], capture_output=True, text=True, cwd=tmp_path, env={**__import__("os").environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    name = entry.split('"')[1]
    assert f"loss: {name}" in (tmp_path / "run" / "stage1" / "params.yaml").read_text()


def test_label_aware_smoothing_takes_most_from_the_largest_class_and_bears_equal_ones():
    from h2t.losses.label_aware_smoothing import smoothing

    e = smoothing(torch.tensor([100, 50, 1]), 0.4, 0.1)
    assert e.tolist() == pytest.approx([0.4, 0.1 + 0.3 * math.sin(math.pi / 2 * 49 / 99), 0.1])
    assert smoothing(torch.tensor([7, 7]), 0.4, 0.1).tolist() == pytest.approx([0.1, 0.1])
    z, y, n = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5, torch.tensor(COUNTS)
    plain = loss_of("las")(z, y, n, smooth_head=0.0, smooth_tail=0.0)
    assert plain.item() == pytest.approx(loss_of("ce")(z, y, n).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extra", [{}, {"scale": 20.0, "margin": 0.1, "gamma": 1.0}])
@settings(max_examples=20, deadline=None)
@given(batch=st.lists(st.tuples(st.lists(st.floats(-30, 30), min_size=5, max_size=5), st.integers(0, 4)), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_clouded_loss_is_that_of_a_slow_loop(dtype, extra, batch, seed):
    z, labels = torch.tensor([b[0] for b in batch], dtype=dtype, requires_grad=True), [b[1] for b in batch]
    cloud = torch.randn(len(batch), 5, generator=torch.Generator().manual_seed(seed)).double().tolist()
    scale, margin, gamma = extra.get("scale", 30.0), extra.get("margin", 0.0), extra.get("gamma", 0.0)

    def slow(rows):
        total = 0.0
        for row, noise, y in zip(rows, cloud, labels, strict=True):
            lowered = []
            for j, v in enumerate(row):
                e = abs(max(-1.0, min(1.0, noise[j] / 3)))
                rarity = (math.log(max(COUNTS)) - math.log(COUNTS[j])) / (math.log(max(COUNTS)) - math.log(min(COUNTS)))
                lowered.append(scale * (v / 30 - 0.5 * e * rarity - margin * (j == y)))
            p = soft(lowered)[y]
            log_p = lowered[y] - max(lowered) - math.log(sum(math.exp(v - max(lowered)) for v in lowered))
            total += (1 - p) ** gamma * -log_p
        return total / len(rows)

    value = loss_of("gcl")(z, torch.tensor(labels), torch.tensor(COUNTS), generator=torch.Generator().manual_seed(seed), **extra)
    rows, tolerance = z.detach().double().tolist(), 1e-4 if dtype == torch.float32 else 1e-6
    assert value.item() == pytest.approx(slow(rows), rel=tolerance, abs=tolerance)
    value.backward()
    assert z.grad.isfinite().all()
    if dtype == torch.float64:
        c, h = labels[0], 1e-5
        up, down = ([[v + s * h * (k == 0 and j == c) for j, v in enumerate(row)] for k, row in enumerate(rows)] for s in (1, -1))
        assert z.grad[0, c].item() == pytest.approx((slow(up) - slow(down)) / (2 * h), rel=1e-3, abs=1e-6)


def test_the_cloud_lowers_the_tail_alone_and_survives_anything():
    loss, n, y = loss_of("gcl"), torch.tensor(COUNTS), torch.tensor([0])
    gen = lambda s: torch.Generator().manual_seed(s)  # noqa: E731
    z = torch.zeros(1, 5, requires_grad=True)
    assert loss(z, y, n, generator=gen(0)) < loss(z, y, n) < loss(z, torch.tensor([4]), n, generator=gen(0))
    assert loss(z, y, n, generator=gen(0)) == loss(z, y, n, generator=gen(0)) != loss(z, y, n, generator=gen(1))
    equal = torch.full((5,), 9)
    assert loss(z, y, equal, generator=gen(0)) == loss(z, y, equal)  # no class is rarer
    for value in (0.0, 1e4, -1e4):
        z = torch.zeros(1, 5)
        z[0, 0] = value
        z.requires_grad_()
        out = loss(z, y, n, generator=gen(0), scale=20.0, margin=0.1, gamma=1.0)
        out.backward()
        assert out.isfinite() and z.grad.isfinite().all()


def test_a_loss_that_draws_gets_a_generator_of_its_own_for_every_epoch(tmp_path):
    from h2t import Run, train_stage1
    from tests.helpers import digits_run, same_weights, stage1_config

    runs = [digits_run(tmp_path / name)[0] for name in "abc"]
    for run, seed in zip(runs, (0, 0, 1), strict=True):
        train_stage1(run, stage1_config(loss="gcl", head="cosine", stage1_epochs=2, seed=seed), progress=False)
    a, b, c = (Run(run).step("stage1") for run in runs)
    assert same_weights(a, b) and not same_weights(a, c)
    with pytest.raises(Error, match="loss gcl sets margins between cosines; use it with head cosine"):
        Stage1(loss="gcl")
