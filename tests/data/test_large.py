"""The large sets by their list files, on small image trees in their layouts."""

import numpy as np
import pytest
from PIL import Image

from h2t import Error, load
from tests.large import (
    COUNTS,
    IMAGENET,
    PLACES,
    imagenet_lt,
    inaturalist2018,
    one_worker,
    places_lt,
)

__all__ = ["one_worker"]
HOW = dict(image_size=16, image_fit="crop", loader="streamed", progress=False)


def test_imagenet_lt_from_its_published_lists(tmp_path):
    data = load("imagenet_lt", imagenet_lt(tmp_path / "set"), **HOW)
    assert (
        data.train.counts.tolist() == list(COUNTS)
        and data.test.counts.tolist() == [4] * 3
        and data.val.counts.tolist() == [2] * 3
    )
    assert data.train.classes == IMAGENET
    path = tmp_path / "set" / data.test.paths[5]
    scaled = Image.open(path)
    w, h = (
        (18, int(18 * scaled.height / scaled.width))
        if scaled.width <= scaled.height
        else (int(18 * scaled.width / scaled.height), 18)
    )
    scaled = scaled.resize((w, h), Image.Resampling.BILINEAR)
    left, top = round((w - 16) / 2), round((h - 16) / 2)
    assert np.array_equal(
        data.test.images[5], np.asarray(scaled.crop((left, top, left + 16, top + 16)))
    )


def test_imagenet_lt_with_its_validation_images_in_one_folder_as_distributed(tmp_path):
    nested, flat = (
        load("imagenet_lt", imagenet_lt(tmp_path / name, flat), **HOW)
        for name, flat in (("nested", False), ("flat", True))
    )
    assert list(flat.test.paths)[0] == "val/ILSVRC2012_val_00000000.JPEG"
    assert np.array_equal(nested.test.images[:], flat.test.images[:])


def test_lists_may_lie_elsewhere_and_a_part_of_them_may_be_named_so(tmp_path):
    """As the reference has them, ImageNet_LT_train_part.txt, beside lists of other protocols."""
    root = imagenet_lt(tmp_path / "set")
    (tmp_path / "lists").mkdir()
    for part in ("train", "val", "test"):
        (root / f"ImageNet_LT_{part}.txt").rename(
            tmp_path / "lists" / f"ImageNet_LT_{part}_part.txt"
        )
    (tmp_path / "lists" / "ImageNet_LT_uniform.txt").write_text("no list")
    assert len(load("imagenet_lt", f"{tmp_path / 'lists'}:{root}", **HOW).train) == sum(COUNTS)
    (tmp_path / "lists" / "ImageNet_LT_test.txt").write_text(
        (tmp_path / "lists" / "ImageNet_LT_test_part.txt").read_text()
    )
    assert (
        len(load("imagenet_lt", f"{tmp_path / 'lists'}:{root}", **HOW).test) == 12
    )  # the exact name before another
    (tmp_path / "lists" / "ImageNet_LT_train_old.txt").write_text("")
    with pytest.raises(
        Error,
        match="list ImageNet_LT_train.txt is needed, but several begin so in .*lists .*; keep one",
    ):
        load("imagenet_lt", f"{tmp_path / 'lists'}:{root}", **HOW)


@pytest.mark.parametrize("lists", ["easy", "nested"])
@pytest.mark.parametrize("tree", ["easy", "nested"])
def test_places_lt_in_both_layouts_of_lists_and_images(tmp_path, lists, tree):
    data = load("places_lt", places_lt(tmp_path / "set", lists, tree), **HOW)
    assert data.train.classes == PLACES and data.train.counts.tolist() == list(COUNTS)
    first = {"easy": "train/airfield/00000000.jpg", "nested": "data_256/a/airfield/00000000.jpg"}[
        tree
    ]
    held = {
        "easy": "val/flea_market-indoor/Places365_val_00000010.jpg",
        "nested": "val_256/Places365_val_00000010.jpg",
    }[tree]
    assert data.train.paths[0] == first and data.test.paths[4] == held
    assert [
        c for c in np.asarray(data.test.images[:]).mean((1, 2)).argmax(1)
    ] == data.test.labels.tolist()  # each in its class's colour


def test_high_resolution_images_of_places_are_found(tmp_path):
    root = places_lt(tmp_path / "set", "nested", "nested")
    (root / "data_256").rename(root / "data_large_standard")
    (root / "val_256").rename(root / "val_large")
    data = load("places_lt", root, **HOW)
    assert data.train.paths[
        13
    ] == "data_large_standard/f/flea_market/indoor/00000001.jpg" and data.test.paths[0].startswith(
        "val_large/"
    )


def test_inaturalist_is_tested_on_its_validation_list_without_renaming(tmp_path):
    data = load("inaturalist2018", inaturalist2018(tmp_path / "set"), **HOW)
    assert (
        data.test.counts.tolist() == [3] * 3
        and data.val is None
        and data.train.classes == ("Aves-3021", "Plantae-7477", "Plantae-7478")
    )
    (tmp_path / "lists").mkdir()
    for name in ("iNaturalist18_train.txt", "iNaturalist18_val.txt"):
        (tmp_path / "set" / name).rename(tmp_path / "lists" / name)
    inner = load(
        "inaturalist2018", f"{tmp_path / 'lists'}:{tmp_path / 'set' / 'train_val2018'}", **HOW
    )  # the root one folder below
    assert (
        np.array_equal(inner.train.images[:], data.train.images[:])
        and inner.train.classes == data.train.classes
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: (r / "ImageNet_LT_test.txt").unlink(),
            "the list ImageNet_LT_test.txt is needed, but it is not in .*; root is the folder",
        ),
        (
            lambda r: (r / "train").rename(r / "training"),
            r"first image \(train\) lies nowhere in .*set where .*: train/n01440764/.*, n01440764/",
        ),
        (
            lambda r: (r / "train" / IMAGENET[1] / f"{IMAGENET[1]}_3.JPEG").unlink(),
            r"n01443537_3.JPEG \(train\) does not exist, or links to nothing; check the image",
        ),
        (
            lambda r: (r / "ImageNet_LT_train.txt").write_text(
                "train/n01440764/n01440764_0.JPEG 0\nbroken\n"
            ),
            "ImageNet_LT_train.txt, line 2: 'broken' is not",
        ),
        (
            lambda r: (r / "ImageNet_LT_train.txt").write_text(
                "train/n01440764/n01440764_0.JPEG 0\n"
            ),
            "label 2 is outside the range of the training list",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path, change, message):
    root = imagenet_lt(tmp_path / "set")
    change(root)
    with pytest.raises(Error, match=message):
        load("imagenet_lt", root, **HOW)


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ("imagenet_lt", dict(image_size=0), "image_fit crop needs image_size"),
        (
            "imagenet_lt",
            dict(image_size=0, image_fit="stretch"),
            "loader streamed needs image_size",
        ),
        (
            "imagenet_lt",
            dict(loader="fast"),
            "loader is 'fast'; choose one of auto, resident, streamed",
        ),
        (
            "imagenet_lt",
            dict(image_fit="pad"),
            "image_fit is 'pad'; choose stretch, crop, or",
        ),
        (
            "digits",
            dict(),
            "loader streamed and image_fit are for image files, which source 'digits'",
        ),
        ("places_lt", dict(), "the list Places_LT_train.txt is needed, but it is not in"),
        (
            "inaturalist2018",
            dict(root="/nowhere"),
            "list folder /nowhere does not exist; root is the folder of both, or LISTS:IMAGES",
        ),
        ("inaturalist2018", dict(root=""), "source 'inaturalist2018' needs root"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, source, changes, message):
    how = {"root": imagenet_lt(tmp_path / "set"), **HOW, **changes}
    with pytest.raises(Error, match=message):
        load(source, how.pop("root"), **how)


def test_a_set_whose_project_ships_no_validation_list_is_read(tmp_path):
    root = imagenet_lt(tmp_path / "set")
    (root / "ImageNet_LT_val.txt").unlink()
    data = load("imagenet_lt", root, **HOW)
    assert data.val is None and data.train.counts.tolist() == list(COUNTS) and len(data.test) == 12
