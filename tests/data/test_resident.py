import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from h2t.data.augment import mixup, mixup_draws
from h2t.data.resident import Resident
from h2t.data.split import Split

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def make(n=6, h=8, w=10, c=3, seed=0):
    r = np.random.default_rng(seed)
    return Split(
        r.integers(0, 256, (n, h, w, c), dtype=np.uint8),
        np.arange(n, dtype=np.int64) % 3,
        ("a", "b", "c"),
        None,
    )


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def slow_cut(image, top, left, flip, padding, fill):
    """One image, pixel by pixel: pad, crop, mirror, normalise."""
    h, w, c = image.shape
    out = np.empty((c, h, w))
    for i in range(h):
        for j in range(w):
            y, x = i + top - padding, (w - 1 - j if flip else j) + left - padding
            inside = 0 <= y < h and 0 <= x < w
            for k in range(c):
                value = image[y, x, k] if inside else fill[k]
                out[k, i, j] = (value / 255 - MEAN[k]) / STD[k]
    return out


@settings(max_examples=20)
@given(st.integers(0, 4), st.integers(0, 1000), st.sampled_from(["zero", "mean"]))
def test_crop_flip_normalise_equal_a_pixel_loop(padding, seed, pad_value):
    split, r = make(), np.random.default_rng(seed)
    loader = Resident(split, MEAN, STD, padding=padding, pad_value=pad_value)
    index = torch.from_numpy(r.integers(0, 6, 4))
    top, left = (torch.from_numpy(r.integers(0, 2 * padding + 1, 4)) for _ in range(2))
    flip = torch.from_numpy(r.random(4) < 0.5)
    got = loader.cut(index, top, left, flip)
    fill = [round(255 * m) if pad_value == "mean" else 0 for m in MEAN]
    for b in range(4):
        want = slow_cut(
            split.images[index[b]], int(top[b]), int(left[b]), bool(flip[b]), padding, fill
        )
        assert np.allclose(got[b].numpy(), want, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_gives_each_index_once_with_its_label_and_a_short_tail_batch():
    split = make(n=11)
    loader = Resident(split, MEAN, STD, padding=2)
    order = torch.randperm(11, generator=gen(3))
    batches = list(loader.epoch(order, 4, gen(1)))
    assert [len(y) for _, y in batches] == [4, 4, 3]
    assert torch.equal(torch.cat([y for _, y in batches]), torch.from_numpy(split.labels)[order])


def test_crops_and_flips_differ_by_image_and_cover_their_range():
    split = Split(
        np.tile(np.arange(100, dtype=np.uint8).reshape(1, 10, 10, 1), (400, 1, 1, 1)),
        np.zeros(400, np.int64),
        ("a",),
        None,
    )
    loader = Resident(split, (0.0,), (1 / 255,), padding=2)
    x = torch.cat([x for x, _ in loader.epoch(torch.arange(400), 64, gen(0))]).round().long()[:, 0]
    middle = x[:, 4:6, 4:6]  # never padding
    mirrored = middle[:, 0, 0] > middle[:, 0, 1]
    top = middle[:, 0, 0] // 10 - 4 + 2
    assert 0.4 < mirrored.float().mean() < 0.6
    assert sorted(set(top.tolist())) == [0, 1, 2, 3, 4]
    plain = torch.cat(
        [x for x, _ in loader.epoch(torch.arange(400), 64, gen(0), flip=False)]
    ).round()[:, 0]
    assert (plain[:, 4, 4] < plain[:, 4, 5]).all()


def test_batches_give_the_images_as_they_are():
    split = make()
    loader = Resident(split, MEAN, STD, padding=3)
    x = torch.cat([x for x, _ in loader.batches(4)])
    want = (split.images / 255 - np.array(MEAN)) / np.array(STD)
    assert np.allclose(x.permute(0, 2, 3, 1).numpy(), want, atol=1e-5)


def test_the_same_generator_gives_the_same_epoch_and_global_state_is_untouched():
    loader, state = Resident(make(), MEAN, STD, padding=2), torch.random.get_rng_state()
    a, b, c = (
        torch.cat([x for x, _ in loader.epoch(torch.arange(6), 4, gen(s))]) for s in (1, 1, 2)
    )
    assert (
        torch.equal(a, b)
        and not torch.equal(a, c)
        and torch.equal(state, torch.random.get_rng_state())
    )


@given(st.floats(0, 1), st.integers(0, 100))
def test_mixup_is_the_weighted_sum_with_the_partner(lam, seed):
    x = torch.randn(5, 3, 4, 4, generator=gen(seed))
    partner = torch.randperm(5, generator=gen(seed + 1))
    got = mixup(x, x[partner], torch.tensor(lam))
    for b in range(5):
        assert torch.allclose(got[b], lam * x[b] + (1 - lam) * x[partner[b]], atol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_weights_are_beta_distributed(alpha):
    lam = mixup_draws(20_000, alpha, np.random.default_rng(0)).astype(float)
    assert lam.min() >= 0 and lam.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(lam.mean() - 0.5) < 0.02 and abs(lam.var() / variance - 1) < 0.05


def test_turning_is_what_pil_does_after_crop_and_flip():
    """As torchvision's RandomRotation turns a PIL image: the nearest pixel, black outside."""
    split, n, p = make(n=5, h=32, w=32), 60, 4
    loader, r = Resident(split, MEAN, STD, padding=p), np.random.default_rng(0)
    index, flip = torch.from_numpy(r.integers(0, 5, n)), torch.from_numpy(r.random(n) < 0.5)
    top, left = (torch.from_numpy(r.integers(0, 2 * p + 1, n)) for _ in range(2))
    angle = torch.from_numpy(r.uniform(-15, 15, n).astype(np.float32))
    angle[:3] = torch.tensor([0.0, 15.0, -15.0])
    loader.rotation = 15.0
    got = loader.cut(index, top, left, flip, angle)
    bytes_of = (got.permute(0, 2, 3, 1).numpy() * STD + MEAN) * 255
    wrong = 0
    for b in range(n):
        padded = np.pad(split.images[index[b]], ((p, p), (p, p), (0, 0)))
        cropped = padded[top[b] : top[b] + 32, left[b] : left[b] + 32]
        picture = Image.fromarray(cropped[:, ::-1] if flip[b] else cropped).rotate(float(angle[b]))
        wrong += (np.abs(bytes_of[b] - np.asarray(picture)) > 0.5).any(-1).sum()
    assert (
        wrong / (n * 32 * 32) < 1e-3
    )  # PIL counts in 1/65536 of a pixel, so that it differs where two are all but equally near
    assert torch.equal(got[0], loader.cut(index[:1], top[:1], left[:1], flip[:1])[0])
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_turns_are_uniform_and_only_drawn_when_asked_for():
    split = make(n=300, h=8, w=8)
    loader, plain = Resident(split, MEAN, STD, padding=1), Resident(split, MEAN, STD, padding=1)
    seen, cut = [], loader.cut
    loader.cut = lambda *draws: (seen.append(draws), cut(*draws))[1]
    order = torch.arange(300)
    assert all(
        torch.equal(a, b)
        for (a, _), (b, _) in zip(
            loader.epoch(order, 50, gen(1)), plain.epoch(order, 50, gen(1)), strict=True
        )
    )
    assert all(len(draws) == 4 for draws in seen)
    seen.clear()
    loader.rotation = 15.0
    assert sum(len(y) for _, y in loader.epoch(order, 50, gen(1))) == 300
    angle = torch.cat([draws[4] for draws in seen])
    assert angle.abs().max() <= 15 and abs(angle.mean()) < 5 * 15 / 3**0.5 / 300**0.5
    counts = torch.histc(angle, 5, -15, 15)
    assert ((counts - 60) ** 2 / 60).sum() < 20  # 4 degrees of freedom, p < 1e-3
