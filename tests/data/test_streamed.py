"""The Streamed loader: the same iteration as Resident, whatever the processes that decode."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from h2t import load
from h2t.data import augment, samplers
from h2t.data.resident import Resident
from h2t.data.streamed import Streamed
from tests.helpers import ROOT
from tests.large import imagenet_lt, one_worker

__all__ = ["one_worker"]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return imagenet_lt(tmp_path_factory.mktemp("set"))


@pytest.fixture
def parts(root):
    return {
        loader: load(
            "imagenet_lt", root, image_size=16, image_fit="crop", loader=loader, progress=False
        )
        for loader in ("streamed", "resident")
    }


def same(a, b) -> bool:
    return all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True))


@pytest.mark.parametrize("pad_value", ["zero", "mean"])
@pytest.mark.parametrize(("jitter", "rotation"), [(0.0, 0.0), (0.4, 0.0), (0.4, 15.0)])
def test_padded_crops_are_those_of_resident_to_the_bit(parts, jitter, rotation, pad_value):
    how = dict(padding=2, pad_value=pad_value, color_jitter=jitter, rotation=rotation)
    streamed, resident = (
        Streamed(parts["streamed"].train, MEAN, STD, **how),
        Resident(parts["resident"].train, MEAN, STD, **how),
    )
    order = torch.randperm(21, generator=gen(5))
    for seed in (1, 2):
        assert same(streamed.epoch(order, 8, gen(seed)), resident.epoch(order, 8, gen(seed)))
    assert same(streamed.batches(9), resident.batches(9)) and same(
        streamed.batches(9), streamed.batches(9)
    )
    assert torch.equal(streamed.plain(torch.tensor([20, 3])), resident.plain(torch.tensor([20, 3])))
    assert (len(streamed), streamed.height, streamed.width, streamed.device) == (
        len(resident),
        16,
        16,
        resident.device,
    )
    x = next(streamed.epoch(order, 8, gen(0)))[0]
    assert x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32


def test_random_crops_are_turned_after_they_are_cut_and_mirrored(parts):
    order, loaders = (
        torch.arange(21),
        [
            Streamed(
                parts["streamed"].train,
                MEAN,
                STD,
                crop="resized",
                workers=0,
                rotation=r,
                color_jitter=0.3,
            )
            for r in (1e-6, 20.0)
        ],
    )
    for loader in loaders:
        generator = gen(1)
        _, _, mirror, _, *jitter = loader.draw(21, generator, True)
        crops = torch.randint(2**62, (21,), generator=generator), mirror
        straight = loader.finish(next(loader._pixels(order, [order], crops)), *jitter)
        x = next(loader.epoch(order, 21, gen(1)))[0]
        assert torch.equal(x, straight) == (loader.rotation < 1) and torch.allclose(
            x[:, :, 8, 8], straight[:, :, 8, 8], atol=1.5
        )


@pytest.mark.parametrize("crop", ["padded", "resized"])
def test_batches_do_not_depend_on_the_number_of_workers(parts, crop, monkeypatch):
    monkeypatch.setattr("h2t.data.streamed.CHUNK", 3)
    labels, state = torch.from_numpy(parts["streamed"].train.labels), torch.random.get_rng_state()
    epochs = []
    for number in (0, 1, 3):
        loader = Streamed(
            parts["streamed"].train,
            MEAN,
            STD,
            padding=1,
            color_jitter=0.3,
            crop=crop,
            workers=number,
        )
        order = samplers.epoch("balanced", labels, 21, gen(3))
        epochs.append([b for e in range(2) for b in loader.epoch(order, 8, gen(e))])
    assert same(epochs[0], epochs[1]) and same(epochs[0], epochs[2])
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(
        torch.cat([y for _, y in epochs[0][:3]]), labels[order]
    )  # by the balanced order
    assert not torch.equal(epochs[0][0][0], epochs[0][3][0])  # the second epoch draws anew


def test_two_streams_of_one_loader_take_turns(parts):
    """As the two branches of stage 2 do; the second is left where it is after its last batch."""
    loader = Streamed(parts["streamed"].train, MEAN, STD, crop="resized")
    order = torch.arange(21)
    alone = [list(loader.epoch(order, 8, gen(s))) for s in (1, 2)]
    both = list(zip(loader.epoch(order, 8, gen(1)), loader.epoch(order, 8, gen(2)), strict=False))
    assert same([a for a, _ in both], alone[0]) and same([b for _, b in both], alone[1])
    assert len(loader._idle) == 2


def test_a_random_crop_differs_by_image_and_keeps_its_labels(parts):
    loader = Streamed(parts["streamed"].train, (0.0,) * 3, (1 / 255,) * 3, crop="resized")
    x, y = (
        torch.cat(t)
        for t in zip(*loader.epoch(torch.zeros(40, dtype=torch.long), 16, gen()), strict=True)
    )
    assert (y == parts["streamed"].train.labels[0]).all()
    assert len({t.numpy().tobytes() for t in x}) == 40  # one image, forty parts of it
    plain = torch.cat(
        [x for x, _ in loader.epoch(torch.zeros(40, dtype=torch.long), 16, gen(), flip=False)]
    )
    mirrored = sum(torch.equal(a, b.flip(2)) for a, b in zip(x, plain, strict=True))
    assert 8 < mirrored < 32 and all(
        torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(x, plain, strict=True)
    )


@pytest.mark.parametrize("crop", ["padded", "resized"])
def test_shards_are_disjoint_and_together_the_whole_batch(parts, crop):
    whole = Streamed(parts["streamed"].train, MEAN, STD, padding=1, crop=crop, workers=0)
    order = samplers.epoch("balanced", torch.from_numpy(parts["streamed"].train.labels), 21, gen(3))
    shards = [
        Streamed(parts["streamed"].train, MEAN, STD, padding=1, crop=crop, workers=0, shard=(r, 2))
        for r in range(2)
    ]
    resident = Resident(parts["resident"].train, MEAN, STD, padding=1, shard=(1, 2))
    for (x, y), (x0, y0), (x1, y1), (xr, yr) in zip(
        whole.epoch(order, 8, gen(1)),
        *[s.epoch(order, 8, gen(1)) for s in (*shards, resident)],
        strict=True,
    ):
        assert torch.equal(x[0::2], x0) and torch.equal(x[1::2], x1)
        assert (
            torch.equal(y, y0) and torch.equal(y, y1) and torch.equal(y, yr)
        )  # the labels are those of the whole batch
        assert crop == "resized" or torch.equal(x1, xr)
    for k, shard in enumerate(shards):
        x, y = (torch.cat(t) for t in zip(*shard.batches(4), strict=True))
        assert torch.equal(x, torch.cat([x for x, _ in whole.batches(4)])[k::2]) and torch.equal(
            y, whole.labels[k::2]
        )


def test_colour_jitter_is_torchvisions():
    images = torch.rand(7, 3, 20, 24, generator=gen(1))
    factors, order = augment.jitter_draws(7, 0.4, gen(2))
    changed = augment.jitter(images.clone(), factors, order)
    change = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for image, got, own, kinds in zip(images, changed, factors, order, strict=True):
        for k in kinds.tolist():
            image = change[k](image, own[k].item())
        assert torch.allclose(image, got, atol=1e-5)


def test_colour_jitter_draws_what_it_says():
    factors, order = augment.jitter_draws(4000, 0.4, gen(0))
    assert (
        factors.min() >= 0.6 and factors.max() <= 1.4 and (factors.mean(0) - 1).abs().max() < 0.02
    )
    assert augment.jitter_draws(1000, 1.5, gen(0))[0].min() >= 0
    counts = torch.unique(order, dim=0, return_counts=True)[1]
    assert len(counts) == 6 and counts.min() > 500
    grey = torch.rand(2, 1, 6, 6, generator=gen(1))
    same_grey = augment.jitter(
        grey.clone(), torch.tensor([[1.0, 1.0, 0.3]] * 2), torch.tensor([[2, 0, 1]] * 2)
    )
    assert torch.allclose(grey, same_grey)  # saturation means nothing to a grey image


INDEX = """
import sys, numpy as np, torch
from h2t.data import large, samplers
from h2t.data.split import Files, Split
from h2t.data.streamed import Streamed
import h2t.data.images, PIL.Image

def peak():
    told = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(told.split()[1]) / 1e3

torch.randperm(10, generator=torch.Generator()); torch.bincount(torch.arange(3)).argsort()
before = peak()
parts, classes = large.find("inaturalist2018", sys.argv[1])
splits = {}
for part, listed in parts.items():
    files, sizes = Files(listed.root, listed.paths, 16), np.zeros(len(listed), np.int64)
    whole = Split(files, listed.labels, classes, listed.paths, sizes)
    splits[part] = whole.take(np.arange(len(whole)))
Files.path = lambda files, k: sys.argv[2]
train = Streamed(
    splits["train"], (.5,) * 3, (.2,) * 3, crop="resized", color_jitter=0.4, workers=0
)
order = samplers.epoch("balanced", train.labels, len(train), torch.Generator())
next(train.epoch(order, 256, torch.Generator()))
print(len(train), peak() - before)
"""


def test_an_index_of_437513_images_costs_under_200_mb(tmp_path):
    """The peak of a process that reads the lists and begins an epoch, less what it had before."""
    n, first = 437_513, tmp_path / f"train_val2018/Plantae/7477/{0:032x}.jpg"
    first.parent.mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(first)
    for part, number in (("train", n), ("val", 24_426)):
        with open(tmp_path / f"iNaturalist18_{part}.txt", "w") as f:
            f.writelines(
                f"train_val2018/Plantae/7477/{k:032x}.jpg {k % 8142}\n" for k in range(number)
            )
    command = [sys.executable, "-c", INDEX, str(tmp_path), str(first)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert not done.stderr, done.stderr
    images, megabytes = done.stdout.split()
    assert int(images) == n and float(megabytes) < 200, done.stdout


def test_auto_streams_what_would_take_too_much_decoded(root, monkeypatch):
    kinds = []
    for limit in (10**9, 10):
        monkeypatch.setattr("h2t.data.sources.STREAM_ABOVE", limit)
        kinds.append(
            type(load("imagenet_lt", root, image_size=16, progress=False).train.images).__name__
        )
    assert kinds == ["memmap", "Files"]


def test_a_subset_of_decoded_files_stays_on_disk(parts):
    split = parts["resident"].train
    part = split.take(np.array([5, 2, 20]))
    assert (
        isinstance(split.images, np.memmap)
        and type(part.images).__name__ == "Rows"
        and part.images.shape == (3, 16, 16, 3)
    )
    again = part.take(np.array([2, 0]))
    assert np.array_equal(again.images[:], split.images[[20, 5]]) and list(again.paths) == [
        split.paths[20],
        split.paths[5],
    ]
    assert (
        np.array_equal(part.images[1], split.images[2])
        and again.sizes.tolist() == split.sizes[[20, 5]].tolist()
    )
    x, y = next(Resident(again, MEAN, STD, padding=1).batches(5))
    assert (
        torch.equal(x, Resident(split, MEAN, STD).plain(torch.tensor([20, 5])))
        and y.tolist() == split.labels[[20, 5]].tolist()
    )
