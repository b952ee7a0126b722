"""The toy of notebook 00 against slow independent computations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from h2t import Error
from h2t.base import rng
from h2t.lab.toy import classes as toy


def data(seed=0, n_head=60, n_tail=5, num_features=2, separation=3.0):
    return toy.two_classes(
        n_head, n_tail, num_features, separation, rng.torch_generator(seed, "test")
    )


def test_classes_have_unit_variance_and_the_asked_separation():
    points, labels = data(n_head=20000, n_tail=20000, num_features=8, separation=4.0)
    head, tail = points[labels == 0].numpy(), points[labels == 1].numpy()
    assert np.linalg.norm(tail.mean(0) - head.mean(0)) == pytest.approx(4.0, abs=0.05)
    assert np.allclose((tail + head).mean(0) / 2, 0, atol=0.03)
    for cloud in (head, tail):
        assert np.allclose(np.cov(cloud.T), np.eye(8), atol=0.05)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1e-3, 1e-2, 1.0]), st.integers(1, 8)
)
def test_train_finds_the_optimum_that_scipy_finds(seed, num_features, weight_decay, n_tail):
    points, labels = data(seed, 40, n_tail, num_features)
    weight, bias = toy.train(points, labels, weight_decay)
    x, sign = points.numpy(), 2 * labels.numpy() - 1

    def loss(t):
        return (
            np.logaddexp(0, -sign * (x @ t[:-1] + t[-1])).mean()
            + weight_decay / 2 * (t[:-1] ** 2).sum()
        )

    reference = minimize(loss, np.zeros(num_features + 1), method="BFGS", options={"gtol": 1e-7})
    found = np.append(weight.numpy(), bias.item())
    assert loss(found) <= reference.fun + 1e-9
    assert np.allclose(found, reference.x, atol=2e-2 * (1 + np.abs(reference.x).max()))


@pytest.mark.parametrize("ratio", [0.0, 0.125, 0.375])
def test_a_draw_is_its_own_point_but_for_one_mask_a_batch(ratio):
    """Every number names the point and the coordinate that it comes from, so a loop can trace each
    draw."""
    labels = torch.cat([torch.zeros(30), torch.ones(4)]).double()
    points = torch.arange(34).double()[:, None] * 100 + torch.arange(8)
    x, y = toy.fused_draws(
        points, labels, ratio, rng.torch_generator(0, "draws"), batches=10, batch_size=20
    )
    masks = set()
    for start in range(0, 200, 20):
        foreign = set()
        for row, label in zip(
            x[start : start + 20].tolist(), y[start : start + 20].tolist(), strict=True
        ):
            origin = [int(v // 100) for v in row]
            assert [int(v % 100) for v in row] == list(range(8))
            own = max(set(origin), key=origin.count)
            assert labels[own] == label
            foreign |= {d for d in range(8) if origin[d] != own}
        assert len(foreign) == ratio * 8
        masks.add(frozenset(foreign))
    assert len(masks) > 1 or ratio == 0
    assert 60 < y.sum() < 140  # the classes are drawn alike, whatever their size


@pytest.mark.parametrize("num_features", [1, 2, 3, 64])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.29, 0.5, 0.77, 1.0])
def test_the_mean_share_of_swapped_coordinates_is_the_ratio(num_features, ratio):
    """Tail points are all 1, head points all 0, the partners all but one of the head: the mean
    tells the share."""
    labels = torch.cat([torch.zeros(100000), torch.ones(1)]).double()
    points = labels[:, None].repeat(1, num_features)
    x, y = toy.fused_draws(points, labels, ratio, rng.torch_generator(0, "draws"))
    assert 1 - x[y == 1].mean().item() == pytest.approx(
        ratio, abs=0.03 if num_features < 4 else 0.005
    )
    swapped = (x[y == 1] < 0.5).sum(1)
    assert set(swapped.tolist()) <= {
        int(np.floor(ratio * num_features + 1e-9)),
        int(np.ceil(ratio * num_features - 1e-9)),
    }


def test_draws_of_a_smaller_ratio_are_nested_in_those_of_a_larger():
    points, labels = data(2, 50, 5, 6)
    plain, y0 = toy.fused_draws(points, labels, 0.0, rng.torch_generator(3, "draws"))
    few, y1 = toy.fused_draws(points, labels, 0.3, rng.torch_generator(3, "draws"))
    many, y2 = toy.fused_draws(points, labels, 0.7, rng.torch_generator(3, "draws"))
    assert torch.equal(y0, y1) and torch.equal(y1, y2)
    changed = few != plain
    assert changed.any() and torch.equal(many[changed], few[changed])


@pytest.mark.parametrize(
    ("branch", "tail_share"), [("instance", 5 / 105), ("balanced", 0.5), ("reversed", 100 / 105)]
)
def test_the_fusing_branch_lends_from_the_class_it_says(branch, tail_share):
    labels = torch.cat([torch.zeros(100), torch.ones(5)]).double()
    x, _ = toy.fused_draws(
        labels[:, None],
        labels,
        1.0,
        rng.torch_generator(0, "draws"),
        fusing_branch=branch,
        batches=200,
    )
    assert x.mean().item() == pytest.approx(tail_share, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.9))
def test_forces_are_the_slope_of_the_loss_and_balance_where_training_ends(seed, ratio):
    draws = toy.fused_draws(*data(seed), ratio, rng.torch_generator(seed, "draws"))
    weight, bias = toy.train(*draws, 1e-2)
    pull, push = toy.forces(weight, bias, *draws)
    assert pull.item() == pytest.approx(push.item(), abs=1e-7) and 0 < pull < 0.5
    moved = bias.clone().requires_grad_()
    score = draws[0] @ weight + moved - 0.7
    torch.nn.functional.binary_cross_entropy_with_logits(score, draws[1]).backward()
    pull, push = toy.forces(weight, bias - 0.7, *draws)
    assert (push - pull).item() == pytest.approx(moved.grad.item(), abs=1e-9) and pull > push


def test_forces_at_many_positions_are_those_at_each():
    points, labels = data()
    weight = torch.tensor([1.0, -0.5], dtype=torch.float64)
    at = torch.linspace(-2, 2, 5, dtype=torch.float64)
    pull, push = toy.forces(weight, at, points, labels)
    for k, bias in enumerate(at):
        p = [1 / (1 + np.exp(-(x @ weight.numpy() + bias.item()))) for x in points.numpy()]
        assert pull[k].item() == pytest.approx(
            sum(1 - q for q, y in zip(p, labels, strict=True) if y == 1) / len(p)
        )
        assert push[k].item() == pytest.approx(
            sum(q for q, y in zip(p, labels, strict=True) if y == 0) / len(p)
        )


def test_position_and_regions_of_a_known_boundary():
    """Classes two apart on one axis, the boundary a quarter into the head: the normal distribution
    says the shares."""
    points, labels = data(n_head=50000, n_tail=50000, num_features=1, separation=2.0)
    weight, bias = torch.tensor([2.0], dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    assert toy.position(weight, bias) == pytest.approx(-0.25)
    got = toy.regions(weight, bias, points, labels)
    assert got["head"] == pytest.approx(100 * norm.cdf(0.75), abs=0.6)
    assert got["tail"] == pytest.approx(100 * norm.cdf(1.25), abs=0.6)
    assert got["balanced"] == pytest.approx((got["head"] + got["tail"]) / 2)
    assert got["tail_region"] == pytest.approx((100 - got["head"] + got["tail"]) / 2)


def test_the_curve_shows_what_the_notebook_claims():
    common = dict(n_head=500, separation=4.0, weight_decay=1e-3)
    short = toy.ratio_curve([0.5], 3, n_tail=5, num_features=64, **common)
    assert set(short["fusion_ratio"]) == {0.0, 0.5} and len(short) == 6
    mean = short.groupby("fusion_ratio").mean()
    assert (
        mean.loc[0.5, "tail_region"] > mean.loc[0.0, "tail_region"] + 15
        and mean.loc[0.5, "gain"] > 10
    )
    for seed, rows in short.groupby("seed"):
        dr, h2t = rows.sort_values("fusion_ratio")["balanced"]
        assert rows["gain"].tolist() == [0.0, h2t - dr], seed
    even = (
        toy.ratio_curve([0.6], 3, n_tail=500, num_features=64, **common)
        .groupby("fusion_ratio")
        .mean()
    )
    assert abs(even.loc[0.6, "tail_region"] - 50) < 2 and even.loc[0.6, "gain"] < 0
    assert torch.get_num_threads() == THREADS


THREADS = torch.get_num_threads()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data(n_tail=0), "n_tail is 0; each class needs at least one point"),
        (lambda: data(num_features=0), "num_features is 0"),
        (lambda: data(separation=0.0), "separation is 0.0"),
        (lambda: data(separation=float("nan")), "separation is nan"),
        (
            lambda: toy.fused_draws(*data(), 1.1, rng.torch_generator(0, "t")),
            r"fusion_ratio is 1.1; .*\[0, 1\]",
        ),
        (
            lambda: toy.fused_draws(
                *data(), 0.1, rng.torch_generator(0, "t"), fusing_branch="head"
            ),
            "fusing_branch is 'head'; choose",
        ),
        (lambda: toy.train(*data(), 0.0), "weight_decay is 0.0"),
        (lambda: toy.train(data()[0], torch.zeros(65).double(), 0.1), "both classes"),
        (
            lambda: toy.ratio_curve(
                [0.1], 1, n_head=5, n_tail=5, num_features=2, separation=1.0, weight_decay=0.1
            ),
            "seeds is 1",
        ),
    ],
)
def test_bad_input_ends_in_one_message(call, message):
    with pytest.raises(Error, match=message):
        call()
