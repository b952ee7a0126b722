"""The loss that draws: Gaussian clouded logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error, Stage1
from h2t.losses import loss_of
from tests.losses.test_losses import COUNTS, batches, slope


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=15)
@given(batch=batches, seed=st.integers(0, 99))
def test_the_clouded_loss_is_that_of_a_slow_loop(dtype, batch, seed):
    """With its cloud, in the settings of both its stages; the focal factor of the second is a
    constant to the gradient.
    """
    labels, tolerance = [b[1] for b in batch], 1e-4 if dtype == torch.float32 else 1e-6
    cloud = (
        torch.randn(len(batch), 5, generator=torch.Generator().manual_seed(seed)).double().tolist()
    )
    for scale, margin, gamma in ((30.0, 0.0, 0.0), (20.0, 0.1, 1.0)):

        def log_p_of(row, noise, y, scale=scale, margin=margin):
            lowered = []
            for j, v in enumerate(row):
                e = abs(max(-1.0, min(1.0, noise[j] / 3)))
                rarity = (math.log(max(COUNTS)) - math.log(COUNTS[j])) / (
                    math.log(max(COUNTS)) - math.log(min(COUNTS))
                )
                lowered.append(scale * (v / 30 - 0.5 * e * rarity - margin * (j == y)))
            return (
                lowered[y]
                - max(lowered)
                - math.log(sum(math.exp(v - max(lowered)) for v in lowered))
            )

        z = torch.tensor([b[0] for b in batch], dtype=dtype, requires_grad=True)
        rows = z.detach().double().tolist()
        factors = [
            (-math.expm1(log_p_of(row, noise, y))) ** gamma
            for row, noise, y in zip(rows, cloud, labels, strict=True)
        ]

        def slow(rows, factors=factors, log_p_of=log_p_of):
            return sum(
                f * -log_p_of(row, noise, y)
                for f, row, noise, y in zip(factors, rows, cloud, labels, strict=True)
            ) / len(rows)

        value = loss_of("gcl")(
            z,
            torch.tensor(labels),
            torch.tensor(COUNTS),
            generator=torch.Generator().manual_seed(seed),
            scale=scale,
            margin=margin,
            gamma=gamma,
        )
        assert value.item() == pytest.approx(slow(rows), rel=tolerance, abs=tolerance)
        value.backward()
        assert z.grad.dtype == dtype
        for i in range(len(rows)):
            for c in range(5):
                assert z.grad[i, c].item() == pytest.approx(
                    slope(slow, rows, i, c), rel=1e-3, abs=1e-5
                ), (scale, i, c)


def test_the_cloud_lowers_the_tail_alone_and_survives_anything():
    loss, n, y = loss_of("gcl"), torch.tensor(COUNTS), torch.tensor([0])
    gen = lambda s: torch.Generator().manual_seed(s)  # noqa: E731
    z = torch.zeros(1, 5, requires_grad=True)
    assert (
        loss(z, y, n, generator=gen(0))
        < loss(z, y, n)
        < loss(z, torch.tensor([4]), n, generator=gen(0))
    )
    assert (
        loss(z, y, n, generator=gen(0))
        == loss(z, y, n, generator=gen(0))
        != loss(z, y, n, generator=gen(1))
    )
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
        train_stage1(
            run,
            stage1_config(loss="gcl", head="cosine", stage1_epochs=2, seed=seed),
            progress=False,
        )
    a, b, c = (Run(run).step("stage1") for run in runs)
    assert same_weights(a, b) and not same_weights(a, c)
    with pytest.raises(
        Error, match="loss gcl sets margins between cosines; use it with head cosine"
    ):
        Stage1(loss="gcl")
