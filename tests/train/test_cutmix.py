"""CutMix with patches of the tail (CMO): its boxes, its pictures, when it is on, and what stage 1
makes of it."""

import numpy as np
import pytest
import torch

from h2t import Error, Run, Stage1, train_stage1
from h2t.base import rng
from h2t.data import augment, samplers
from h2t.train import mixing
from tests.helpers import digits_run, same_weights, stage1_config


def test_boxes_are_those_of_a_slow_loop_and_the_share_is_what_is_left():
    mixed, boxes, kept = augment.cutmix_draws(500, 8, 12, 0.5, np.random.default_rng(3))
    g = np.random.default_rng(3)
    lam, coin, rows = g.beta(1.0, 1.0, size=500), g.random(500), g.integers(8, size=500)
    columns = g.integers(12, size=500)
    for k in range(500):
        h, w = int(8 * (1 - lam[k]) ** 0.5), int(12 * (1 - lam[k]) ** 0.5)
        want = [
            max(0, rows[k] - h // 2),
            min(8, rows[k] + h // 2),
            max(0, columns[k] - w // 2),
            min(12, columns[k] + w // 2),
        ]
        assert boxes[k].tolist() == want and mixed[k] == (coin[k] < 0.5)
        picture = np.ones((8, 12))
        picture[want[0] : want[1], want[2] : want[3]] = 0
        assert kept[k] == pytest.approx(picture.mean())
    assert abs(mixed.mean() - 0.5) < 5 * 0.5 / 500**0.5
    assert (
        not augment.cutmix_draws(50, 8, 8, 0.0, g)[0].any()
        and augment.cutmix_draws(50, 8, 8, 1.0, g)[0].all()
    )


def test_paste_replaces_the_box_and_nothing_else():
    x, p = torch.zeros(2, 3, 5, 6), torch.ones(2, 3, 5, 6)
    for box in ([1, 3, 2, 6], [0, 5, 0, 6], [2, 2, 1, 4]):
        out, (top, bottom, left, right) = augment.paste(x, p, torch.tensor(box)), box
        for i in range(5):
            for j in range(6):
                inside = top <= i < bottom and left <= j < right
                assert (out[:, :, i, j] == float(inside)).all(), (box, i, j)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run, data = digits_run(tmp_path_factory.mktemp("cmo") / "run")
    train = data.loader("train", torch.device("cpu"), stage1_config())
    return train, torch.from_numpy(data.train.labels), data.train.counts


def batches(train, labels, config, epoch):
    order = samplers.epoch(
        "instance", labels, len(labels), rng.torch_generator(config.seed, "stage1/order", epoch)
    )
    return train.epoch(
        order,
        config.batch_size,
        rng.torch_generator(config.seed, "stage1/augment", epoch),
        config.flip,
    )


def test_patches_come_from_the_rare_classes_and_labels_go_by_area(made):
    train, labels, counts = made
    config = stage1_config(mixup_alpha=0.0, cmo_probability=1.0, stage1_epochs=200, batch_size=32)
    steps, seen = -(-len(labels) // 32), []
    for epoch in range(10, 20):
        plain = batches(train, labels, config, epoch)
        _, boxes, kept = augment.cutmix_draws(
            steps, 8, 8, 1.0, rng.numpy_generator(0, "stage1/cmo", epoch)
        )
        mixed = mixing.stream(
            batches(train, labels, config, epoch), steps, train, labels, config, epoch
        )
        for k, ((x, y), (out, same, other, share)) in enumerate(zip(plain, mixed, strict=True)):
            assert torch.equal(y, same) and share == kept[k] and len(other) == len(y)
            changed = (out != x).any(1)  # (B, H, W)
            t, b, left, r = boxes[k]
            changed[:, t:b, left:r] = False
            assert not changed.any()
            seen += other.tolist()
    p = samplers.class_probabilities("reversed", torch.from_numpy(counts)).numpy()
    drawn = np.bincount(seen, minlength=10) / len(seen)
    assert (np.abs(drawn - p) < 5 * np.sqrt(p * (1 - p) / len(seen)) + 1e-9).all()


@pytest.mark.parametrize(
    ("epoch", "on"), [(1, False), (4, False), (5, True), (7, True), (8, False), (10, False)]
)
def test_it_is_off_in_the_first_four_and_the_last_three_epochs(made, epoch, on):
    train, labels, _ = made
    config = stage1_config(mixup_alpha=0.0, cmo_probability=1.0, stage1_epochs=10)
    steps = -(-len(labels) // 64)
    others = [
        other
        for _, _, other, _ in mixing.stream(
            batches(train, labels, config, epoch), steps, train, labels, config, epoch
        )
    ]
    assert len(others) == steps and all((other is not None) == on for other in others)


def test_stage1_with_cmo_resumes_bit_for_bit_and_differs_from_plain(tmp_path):
    runs = {name: digits_run(tmp_path / name)[0] for name in ("whole", "parts", "plain")}
    config = stage1_config(mixup_alpha=0.0, cmo_probability=0.5, stage1_epochs=8, eval_every=8)
    train_stage1(runs["whole"], config, progress=False)

    def stop(rows):
        if len(rows) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stage1(runs["parts"], config, progress=False, on_epoch=stop)
    train_stage1(runs["parts"], config, progress=False)
    whole, parts = (Run(runs[k]).step("stage1") for k in ("whole", "parts"))
    assert same_weights(whole, parts)
    with pytest.raises(KeyboardInterrupt):
        train_stage1(
            runs["plain"],
            stage1_config(mixup_alpha=0.0, stage1_epochs=8, eval_every=8),
            progress=False,
            on_epoch=stop,
        )
    cmo, plain = (
        [r["loss"] for r in Run(runs[k]).step("stage1").history()[:5]] for k in ("whole", "plain")
    )
    assert cmo[:4] == plain[:4] and cmo[4] != plain[4]  # the same until it begins


def test_two_ways_to_mix_are_refused():
    with pytest.raises(Error, match="CMO and mixup both mix every image; set mixup_alpha or"):
        Stage1(cmo_probability=0.5)
    assert Stage1(cmo_probability=0.5, mixup_alpha=0.0).cmo_branch == "reversed"
