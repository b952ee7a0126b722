"""The losses of several experts against slow loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t.losses import loss_of
from h2t.losses.reslt import members
from tests.models.test_experts import COUNTS, gen


def slow_ride(logits, labels, weight, diversity):
    """One expert and one image at a time."""
    n, k, total = COUNTS.double(), len(logits), 0.0
    margin, t = 0.5 * n**-0.25 / (n**-0.25).max(), torch.ones(5).double()
    if weight is not None:
        t = 0.05 * 5 * n / n.sum() + 0.95
        t = t / t.max()
    mean = logits.detach().mean(0)
    for own in logits:
        terms, w, divergence = 0.0, 0.0, 0.0
        for row, centre, y in zip(own, mean, labels, strict=True):
            lowered = torch.stack([v - 30 * margin[c] * (c == y) for c, v in enumerate(row)])
            share = 1.0 if weight is None else weight[y]
            terms, w = terms - share * lowered.log_softmax(0)[y], w + share
            p, log_q = (centre / t).softmax(0), (row / t).log_softmax(0)
            divergence = divergence + sum(
                p[c] * (p[c].log() - log_q[c]) for c in range(5) if p[c] > 0
            )
        total = total + terms / w + diversity * t.mean() ** 2 * divergence / len(labels)
    assert k == len(logits)
    return total


def slow_reslt(logits, labels, weight, beta):
    terms, number, whole, w = 0.0, 0.0, 0.0, 0.0
    for b, y in enumerate(labels):
        share = 1.0 if weight is None else weight[y]
        for k, first in enumerate((0, 2, 4)):  # of five classes by size: from 35 % and from 70 % on
            if y >= first:
                terms, number = terms - share * logits[k, b].log_softmax(0)[y], number + share
        whole, w = whole - share * logits[:, b].sum(0).log_softmax(0)[y], w + share
    return beta * terms / number + (1 - beta) * whole / w


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "slow", "extra"),
    [("ride", slow_ride, {"ride_diversity": -0.45}), ("reslt", slow_reslt, {"reslt_beta": 0.9})],
)
def test_losses_of_experts_are_those_of_a_slow_loop(name, slow, extra, weighted, dtype):
    for seed in range(3):
        z = (
            (5 * torch.randn(3, 6, 5, generator=gen(seed), dtype=torch.float64))
            .to(dtype)
            .requires_grad_()
        )
        labels = torch.randint(5, (6,), generator=gen(seed))
        weight = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1], dtype=dtype) if weighted else None
        value = loss_of(name)(z, labels, COUNTS, weight, **extra)
        double = z.detach().double().requires_grad_()
        want = slow(double, labels, None if weight is None else weight.double(), *extra.values())
        tolerance = 1e-4 if dtype == torch.float32 else 1e-9
        assert value.item() == pytest.approx(want.item(), rel=tolerance, abs=tolerance)
        value.backward()
        want.backward()
        assert z.grad.dtype == dtype and torch.allclose(
            z.grad.double(), double.grad, atol=10 * tolerance
        )


def test_branches_are_of_the_classes_that_the_released_code_names():
    hundred, ten = torch.arange(500, 0, -5), torch.arange(100, 0, -10)
    for counts, shares, first in (
        (hundred, (0.35, 0.7), (0, 35, 70)),
        (ten, (0.2, 0.4), (0, 2, 4)),
    ):
        for row, k in zip(members(counts, shares), first, strict=True):
            assert row.nonzero().flatten().tolist() == list(range(k, len(counts)))
    shuffled = torch.randperm(100, generator=gen())  # by size, wherever the classes stand
    assert torch.equal(members(hundred[shuffled]), members(hundred)[:, shuffled])


anything = st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-100, 100, width=32)


@settings(max_examples=40)
@given(
    st.lists(anything, min_size=30, max_size=30),
    st.integers(0, 4),
    st.sampled_from([None, [1e-3, 2.0, 1.0, 3.0, 0.1]]),
)
def test_no_logits_of_experts_make_a_nan(values, label, weight):
    for name in ("ride", "reslt"):
        z = torch.tensor(values).view(3, 2, 5).requires_grad_()
        loss = loss_of(name)(
            z, torch.tensor([label, 4 - label]), COUNTS, weight and torch.tensor(weight)
        )
        loss.backward()
        assert loss.isfinite() and z.grad.isfinite().all(), name
