import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from h2t import Error
from h2t.fusion import blend, channel_mask, class_means, fuse, lend, soft_share
from h2t.models.heads import CosineHead


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


ratios = st.floats(0, 1)
channels = st.integers(1, 130)
seeds = st.integers(0, 2**31)


@given(channels, ratios, seeds)
def test_mask_swaps_int_p_times_d_channels(d, p, seed):
    mask = channel_mask(d, p, gen(seed))
    assert mask.dtype == torch.bool and mask.shape == (d,) and int(mask.sum()) == int(p * d)


def test_mask_is_the_start_of_one_permutation():
    order = torch.randperm(64, generator=gen(3))
    assert set(channel_mask(64, 0.3, gen(3)).nonzero().flatten().tolist()) == set(
        order[:19].tolist()
    )


def test_every_channel_is_swapped_equally_often():
    g = gen(1)
    share = torch.stack([channel_mask(20, 0.25, g).float() for _ in range(4000)]).mean(0)
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5  # five standard errors


def slow_fuse(fused, fusing, mask):
    out = fused.clone()
    for b in range(fused.shape[0]):
        for c in range(fused.shape[1]):
            if mask[c]:
                out[b, c] = fusing[b, c]
    return out


@given(st.integers(1, 5), st.integers(1, 12), st.sampled_from([(), (3, 2)]), ratios, seeds)
def test_fuse_equals_an_independent_loop(b, d, space, p, seed):
    g = gen(seed)
    x, y = torch.randn(b, d, *space, generator=g), torch.randn(b, d, *space, generator=g)
    mask = channel_mask(d, p, g)
    assert torch.equal(fuse(x, y, mask), slow_fuse(x, y, mask))


def test_ratio_zero_keeps_and_one_replaces():
    x, y = torch.randn(4, 8, 2, 2, generator=gen(0)), torch.randn(4, 8, 2, 2, generator=gen(1))
    assert torch.equal(fuse(x, y, channel_mask(8, 0.0, gen())), x)
    assert torch.equal(fuse(x, y, channel_mask(8, 1.0, gen())), y)


@given(ratios, seeds, st.sampled_from([torch.nn.Linear, CosineHead]))
def test_fusing_maps_equals_fusing_pooled_features(p, seed, head):
    g = gen(seed)
    x, y = torch.randn(3, 16, 4, 4, generator=g), torch.randn(3, 16, 4, 4, generator=g)
    mask = channel_mask(16, p, g)
    on_maps, pooled = fuse(x, y, mask).mean((2, 3)), fuse(x.mean((2, 3)), y.mean((2, 3)), mask)
    assert torch.equal(on_maps, pooled)
    classify = head(16, 5)
    torch.nn.init.normal_(classify.weight, generator=g)
    assert torch.equal(classify(on_maps), classify(pooled))


@given(ratios, seeds)
def test_gradients_reach_each_branch_only_through_its_own_channels(p, seed):
    x = torch.randn(2, 10, 3, 3, generator=gen(seed)).requires_grad_()
    y = torch.randn(2, 10, 3, 3, generator=gen(seed + 1)).requires_grad_()
    weight, mask = torch.randn(2, 10, 3, 3, generator=gen(seed + 2)), channel_mask(10, p, gen(seed))
    (fuse(x, y, mask) * weight).sum().backward()
    m = mask.view(1, -1, 1, 1)
    assert torch.equal(x.grad, weight * ~m) and torch.equal(y.grad, weight * m)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_ratio_outside_0_1_is_refused(p):
    with pytest.raises(Error, match=r"fusion_ratio .* \[0, 1\]"):
        channel_mask(8, p, gen())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(Error, match="one shape"):
        fuse(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(3, dtype=torch.bool))
    with pytest.raises(Error, match="mask"):
        fuse(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(4, dtype=torch.bool))


@given(st.integers(2, 6), st.integers(1, 12), ratios, seeds)
def test_blend_is_fuse_for_a_swap_and_a_straight_line_for_mixup(b, d, p, seed):
    g = gen(seed)
    x, y = torch.randn(b, d, generator=g), torch.randn(b, d, generator=g)
    mask = channel_mask(d, p, g)
    assert torch.equal(blend(x, y, mask, p, "swap"), fuse(x, y, mask))
    mixed = blend(x, y, mask, p, "mixup")
    for i in range(b):
        for c in range(d):
            assert mixed[i, c].item() == pytest.approx(
                (1 - p) * x[i, c].item() + p * y[i, c].item(), abs=1e-5
            )


def test_what_is_lent_is_features_zeros_or_noise_of_their_mean_and_spread():
    y = torch.randn(20_000, 3, generator=gen(1)) * torch.tensor([0.1, 1.0, 5.0]) + torch.tensor(
        [1.0, 0.0, -2.0]
    )
    assert lend(y, "swap", gen()) is y and lend(y, "mixup", gen()) is y
    assert torch.equal(lend(y, "zeros", gen()), torch.zeros(20_000, 3))
    noise = lend(y, "noise", gen(2))
    assert torch.allclose(noise.mean(0), y.mean(0), atol=0.15) and torch.allclose(
        noise.std(0), y.std(0), rtol=0.03
    )
    assert torch.equal(noise, lend(y, "noise", gen(2))) and not torch.equal(
        noise, lend(y, "noise", gen(3))
    )
    assert (
        abs(torch.corrcoef(torch.stack([noise[:, 1], y[:, 1]]))[0, 1]) < 0.03
    )  # no image's own feature
    assert lend(y[:1], "noise", gen()).isfinite().all()  # a batch of one


@given(st.integers(2, 6), st.integers(2, 12), ratios, seeds)
def test_a_soft_fusion_blends_the_swapped_channels_by_each_images_distance_to_its_class(
    b, d, p, seed
):
    g = gen(seed)
    x, y, centres = (
        torch.randn(b, d, generator=g),
        torch.randn(b, d, generator=g),
        torch.randn(b, d, generator=g),
    )
    mask, share = channel_mask(d, p, g), soft_share(x, centres)
    out = blend(x, y, mask, p, "soft", share)
    for i in range(b):
        distance = sum((float(x[i, c]) - float(centres[i, c])) ** 2 for c in range(d)) ** 0.5
        w = 0.2 + 0.8 / (1 + distance)
        assert share[i].item() == pytest.approx(w, rel=1e-5)
        for c in range(d):
            want = w * float(x[i, c]) + (1 - w) * float(y[i, c]) if mask[c] else float(x[i, c])
            assert out[i, c].item() == pytest.approx(want, abs=1e-5)


def test_an_image_at_its_classs_centre_is_kept_whole_and_a_far_one_keeps_a_fifth():
    z = torch.tensor([[1.0, 2.0]])
    assert soft_share(z, z).item() == 1.0 and soft_share(z, z + 1e6).item() == pytest.approx(
        0.2, abs=1e-5
    )
    assert (
        blend(
            z.bfloat16(),
            z.bfloat16(),
            torch.tensor([True, True]),
            1.0,
            "soft",
            soft_share(z, z + 1),
        ).dtype
        == torch.bfloat16
    )


def test_class_means_are_means():
    z, y = torch.randn(20, 3, generator=gen()), torch.arange(20) % 3
    for c in range(3):
        assert torch.allclose(class_means(z, y, 4)[c], z[y == c].mean(0), atol=1e-6)
    assert not class_means(z, y, 4)[3].any()
