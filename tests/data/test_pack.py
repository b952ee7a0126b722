"""A packed long tail stands for its whole set: the same images and hashes, and no others."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from h2t import Data, Error, load, prepare
from h2t.cli import main
from h2t.train.prepare import pack
from h2t.train.rundata import dataset

NPZ = dict(source="npz", normalise="train", n_max=40)


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def files(request, tmp_path_factory):
    """5 classes of 40 to 50 images in mixed order, and their long tail of factor 4, packed."""
    r, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pack")
    labels = r.permutation(np.repeat(np.arange(5), [50, 44, 40, 41, 47]))
    shape = (8, 8) if request.param == 1 else (8, 8, 3)
    images, test = (r.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (len(labels), 20))
    np.savez(
        folder / "whole.npz",
        train_images=images,
        train_labels=labels[:, None],
        test_images=test,
        test_labels=np.arange(20) % 5,
        class_names=np.array(list("abcde")),
    )
    manifest, size = pack(
        Data(root=str(folder / "whole.npz"), imbalance_factor=4.0, **NPZ),
        folder / "packed.npz",
        progress=False,
    )
    assert (
        size == (folder / "packed.npz").stat().st_size
        and sum(manifest.counts) < len(labels) / 2 + 10
    )
    return folder / "whole.npz", folder / "packed.npz"


@pytest.mark.parametrize(
    "how",
    [
        {"imbalance_factor": 4.0},
        {"imbalance_factor": 8.0},
        {"imbalance_factor": 20.0, "val_fraction": 0.2},
        {"imbalance_factor": 10.0, "n_max": 30},
    ],
)
def test_what_is_drawn_from_it_is_drawn_from_the_whole_set(files, tmp_path, how):
    runs = [
        prepare(tmp_path / file.stem, Data(root=str(file), **{**NPZ, **how}), progress=False)
        for file in files
    ]
    for part in ("train", "test", *(["val"] if "val_fraction" in how else [])):
        a, b = (getattr(data, part) for data in runs)
        assert (
            np.array_equal(a.images, b.images)
            and np.array_equal(a.labels, b.labels)
            and a.classes == b.classes == tuple("abcde")
        ), part
    kept = [
        {
            **json.loads((tmp_path / f.stem / "split.json").read_text()),
            "params": (tmp_path / f.stem / "params.yaml").read_text().replace(str(f), ""),
        }
        for f in files
    ]
    assert kept[0] == kept[1]  # indices, hash, pixels, statistics
    moved = (tmp_path / "whole" / "params.yaml").read_text().replace(str(files[0]), str(files[1]))
    (tmp_path / "whole" / "params.yaml").write_text(
        moved
    )  # a run goes on elsewhere, on the packed file
    assert np.array_equal(dataset(tmp_path / "whole").train.images, runs[0].train.images)


@pytest.mark.parametrize(
    "how",
    [
        {"imbalance_factor": 2.0},
        {"imbalance_factor": 4.0, "split_seed": 1},
        {"profile": "natural"},
        {"imbalance_factor": 5.0, "n_max": 41},
    ],
)
def test_images_that_are_not_in_it_are_not_made_up(files, tmp_path, how):
    with pytest.raises(
        Error,
        match=r"the packed file holds \d+ of 222 training images, those of profile exponential, "
        "imbalance_factor 4, n_max 40, split_seed 0",
    ):
        prepare(tmp_path / "run", Data(root=str(files[1]), **{**NPZ, **how}), progress=False)
    assert not (tmp_path / "run" / "split.json").exists()


def test_the_file_is_also_an_ordinary_one(files):
    with np.load(files[1]) as arrays:
        assert (
            len(arrays["train_images"])
            == len(arrays["train_labels"])
            == len(arrays["source_indices"])
            < 222
            == len(arrays["source_labels"])
        )
        assert arrays["train_images"].ndim == np.load(files[0])["train_images"].ndim
    assert load("npz", files[1]).train.counts.tolist() == [50, 44, 40, 41, 47]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(source_labels=a["source_labels"][::-1]),
        lambda a: a.update(source_indices=a["source_indices"][:-1]),
        lambda a: a.update(source_indices=a["source_indices"] + 200),
        lambda a: a.update(source_indices=a["source_indices"] * 1.0),
    ],
)
def test_a_file_that_does_not_fit_itself_is_refused(files, tmp_path, change):
    with np.load(files[1]) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(
        Error,
        match="x.npz: source_indices and source_labels do not fit train_labels; pack it again",
    ):
        load("npz", tmp_path / "x.npz")


def test_from_the_command_line(tmp_path):
    recipe = "notebooks/recipes/digits.yaml"
    done = CliRunner().invoke(main, ["pack", recipe, str(tmp_path / "d.npz")])
    assert done.exit_code == 0 and "-p source npz -p root" in done.output, done.output
    digits = prepare(
        tmp_path / "a",
        Data(source="digits", imbalance_factor=50.0, test_fraction=0.4),
        progress=False,
    )
    packed = prepare(
        tmp_path / "b",
        Data(source="npz", root=str(tmp_path / "d.npz"), imbalance_factor=50.0),
        progress=False,
    )
    assert np.array_equal(digits.train.images, packed.train.images) and np.array_equal(
        digits.test.images, packed.test.images
    )
    bad = CliRunner().invoke(
        main, ["pack", recipe, str(tmp_path / "e.npz"), "-p", "imbalance_facto", "3"]
    )
    assert bad.exit_code == 2 and "did you mean 'imbalance_factor'" in bad.output


def test_cifar_100_lt_at_200_and_100_is_in_50(shared, tmp_path):
    whole = dict(
        source="npz", root=str(shared / "data" / "cifar100.npz"), normalise="cifar", n_max=500
    )
    manifest, _ = pack(Data(imbalance_factor=50.0, **whole), tmp_path / "lt.npz", progress=False)
    assert sum(manifest.counts) == 12608
    packed = load("npz", tmp_path / "lt.npz")
    assert packed.train.counts.tolist() == [500] * 100
    for factor, total in ((200.0, 9502), (100.0, 10847)):
        data = prepare(
            tmp_path / f"{factor}",
            Data(**{**whole, "root": str(tmp_path / "lt.npz"), "imbalance_factor": factor}),
            progress=False,
        )
        assert len(data.train) == total
        if factor == 100:
            assert np.array_equal(
                np.load(tmp_path / "100.0" / "indices.npy"),
                np.load(shared / "checkpoints" / "cifar100_if100_indices.npy"),
            )
