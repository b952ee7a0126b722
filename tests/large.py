"""Small image trees in the layouts of the large sets, with their list files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from h2t import Data

COUNTS = (12, 6, 3)  # training images by class
IMAGENET = ("n01440764", "n01443537", "n01484850")
PLACES = ("airfield", "flea_market-indoor", "zen_garden")
SPECIES = ("Aves/3021", "Plantae/7477", "Plantae/7478")


@pytest.fixture(autouse=True)
def one_worker(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("H2T_WORKERS", "1")
    monkeypatch.setenv("H2T_CACHE", str(tmp_path_factory.mktemp("cache")))


def photograph(label: int, seed: int, size=(44, 36)) -> Image.Image:
    """Smooth noise in the colour of its class."""
    r = np.random.default_rng(seed)
    rough = Image.fromarray(r.integers(0, 120, (6, 8, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    tint = np.zeros(3, np.uint8)
    tint[label % 3] = 110
    return Image.fromarray(np.asarray(rough) + tint)


def _write(root: Path, path: str, label: int, seed: int) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    photograph(label, seed, (44, 36) if seed % 2 else (36, 60)).save(
        file, **({"quality": 95} if path.lower().endswith("g") and "png" not in path else {})
    )


def _lists(folder: Path, lists: dict[str, list[tuple[str, int]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{path} {label}\n" for path, label in lines))


def _training(where) -> list[tuple[str, int]]:
    return [(where(c, k), c) for c, n in enumerate(COUNTS) for k in range(n)]


def imagenet_lt(root: Path, flat_val: bool = False) -> Path:
    train = _training(lambda c, k: f"train/{IMAGENET[c]}/{IMAGENET[c]}_{k}.JPEG")
    val = [
        (f"train/{IMAGENET[c]}/{IMAGENET[c]}_{90 + k}.JPEG", c) for c in range(3) for k in range(2)
    ]
    test = [
        (f"val/{IMAGENET[c]}/ILSVRC2012_val_{10 * c + k:08}.JPEG", c)
        for c in range(3)
        for k in range(4)
    ]
    for k, (path, label) in enumerate([*train, *val, *test]):
        _write(
            root,
            f"val/{path.rsplit('/', 1)[1]}" if flat_val and path.startswith("val/") else path,
            label,
            k,
        )
    _lists(root, {"ImageNet_LT_train": train, "ImageNet_LT_val": val, "ImageNet_LT_test": test})
    return root


def places_paths(layout: str) -> dict[str, list[tuple[str, int]]]:
    """The lists of Places-LT as one of two layouts has them: easy (train/flea_market-indoor) or
    nested (data_256/f/flea_market/indoor).
    """

    def place(c, file):
        return (
            f"train/{PLACES[c]}/{file}"
            if layout == "easy"
            else f"data_256/{PLACES[c][0]}/{PLACES[c].replace('-', '/')}/{file}"
        )

    def held(c, k):
        file = f"Places365_val_{10 * c + k:08}.jpg"
        return f"val/{PLACES[c]}/{file}" if layout == "easy" else f"val_256/{file}"

    return {
        "Places_LT_train": _training(lambda c, k: place(c, f"{k:08}.jpg")),
        "Places_LT_val": [(place(c, f"{90 + k:08}.jpg"), c) for c in range(3) for k in range(2)],
        "Places_LT_test": [(held(c, k), c) for c in range(3) for k in range(4)],
    }


def places_lt(root: Path, lists: str, tree: str) -> Path:
    for k, (path, label) in enumerate(
        line for lines in places_paths(tree).values() for line in lines
    ):
        _write(root, path, label, k)
    _lists(root, places_paths(lists))
    return root


def inaturalist2018(root: Path) -> Path:
    train = _training(lambda c, k: f"train_val2018/{SPECIES[c]}/{k:032x}.jpg")
    val = [(f"train_val2018/{SPECIES[c]}/{90 + k:032x}.jpg", c) for c in range(3) for k in range(3)]
    for k, (path, label) in enumerate([*train, *val]):
        _write(root, path, label, k)
    _lists(root, {"iNaturalist18_train": train, "iNaturalist18_val": val})
    return root


def streamed_data(root: Path, source: str = "imagenet_lt", **changes) -> Data:
    common = dict(
        image_size=16, image_fit="crop", loader="streamed", normalise="imagenet", profile="natural"
    )
    return Data(**{"source": source, "root": str(root), **common, **changes})


# how such a run is trained
CUT = dict(
    precision="fp32", crop="resized", color_jitter=0.4, crop_padding=0, batch_size=8, eval_every=2
)
ONE = dict(
    model="resnet20",
    stage1_epochs=2,
    warmup_epochs=0,
    stage1_schedule="cosine",
    mixup_alpha=0.2,
    stage1_lr=0.05,
    **CUT,
)
TWO = dict(stage2_epochs=2, **CUT)
