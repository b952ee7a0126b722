"""Which images, and how long a tail: the parameters of notebook 01."""

from __future__ import annotations

from typing import Literal

from h2t.data.images import fitting
from h2t.data.longtail import PROFILES
from h2t.data.sources import LOADERS, SOURCES
from h2t.metrics import SCHEMES
from h2t.recipes.validation import SEED, Parameters, block, step

NORMALISATIONS = ("auto", "cifar", "imagenet", "inaturalist", "train", "none")
IMAGES, TAIL, HELD_OUT = map(block, ("images", "long tail", "held out"))


@step
class Data(Parameters):
    """Images and their long tail: the parameters of notebook 01."""

    source: Literal[SOURCES] = IMAGES(
        "digits",
        "digits, cifar10, cifar100, npz, folder, lists, or a large set by its lists\n"
        "digits are embedded in scikit-learn; cifar10 and cifar100 are downloaded; npz is a file "
        "in the MedMNIST layout or one of `h2t pack`; folder is class folders; lists are list "
        "files; the others are the large sets by their published lists.",
    )
    root: str = IMAGES("", "folder or file of the images; digits need none")
    image_size: int = IMAGES(0, "pixels a side to resize to; 0 keeps the size", ge=0, le=4096)
    image_fit: str = IMAGES(
        "stretch",
        "to that size: stretch, or crop the middle\n"
        "crop brings the shorter side to 8/7 of image_size and cuts the middle out (256 and 224); "
        "`crop 0.95 bicubic` says how much is seen, and Pillow's filter. An encoder's own way "
        "takes the place of stretch, but not of `stretch bilinear`.",
    )
    encoder: str = IMAGES(
        "",
        "a frozen network of others: lite0, timm:NAME; empty: train one\n"
        "Or torchvision:NAME, onnx:FILE, features:FILE.npz. It has its own colours and, where "
        "image_size is 0, its own size; both stages train a classifier on its features.",
    )
    channels: Literal[0, 1, 3] = IMAGES(0, "1 grey, 3 colour, 0 as they are")
    normalise: Literal[NORMALISATIONS] = IMAGES(
        "auto",
        "mean and deviation: auto, cifar, imagenet, inaturalist, train or none\n"
        "auto is cifar for the CIFARs, else train: those of the training images.",
    )
    loader: Literal[LOADERS] = IMAGES(
        "auto",
        "image files: resident (decoded once), streamed, auto\n"
        "resident decodes all once, into a cache and onto the device; streamed decodes each "
        "whenever it is used, by worker processes; auto streams what would take over 4 GiB.",
    )
    profile: Literal[PROFILES] = TAIL(
        "exponential", "exponential, step, or natural (the set as it is)"
    )
    imbalance_factor: float = TAIL(50.0, "n_max / n_min, largest over smallest class", ge=1, le=1e6)
    n_max: int = TAIL(
        0, "images of the largest class; 0: as many as the set allows", ge=0, le=10**9
    )
    split_seed: int = TAIL(0, "draws the subset, and the test part where a set has none", **SEED)
    groups: Literal[SCHEMES] = TAIL(
        "field",
        "many > 100, medium, few < 20; reference: 0-35, 36-70, 71-99\n"
        "field goes by the training images of a class (medium: 20 to 100), reference by the fixed "
        "class ranges of the H2T reference, for comparing with its table.",
    )
    test_fraction: float = HELD_OUT(
        0.4, "share held out for testing where a set has no test part", ge=0.01, le=0.9
    )
    val_fraction: float = HELD_OUT(
        0.0,
        "share of each class held out to choose by; 0: none\n"
        "Of every class at least one image, drawn from the long-tailed training images.",
        ge=0,
        le=0.9,
    )
    val_seed: int = HELD_OUT(0, "draws that part", **SEED)
    white_level: int = IMAGES(
        0, "white in files of more than 8 bits, such as 4095; 0: 65535", ge=0, le=2**32 - 1
    )
    follow_links: bool = IMAGES(False, "source folder: follow links that lead out of it")
    skip_damaged: bool = IMAGES(False, "leave out images that cannot be decoded")
    drop_identical: bool = HELD_OUT(False, "drop training images that are also in the test part")
    keep_together: bool = HELD_OUT(
        False,
        "images of one folder stay on one side of a split\n"
        "Of a folder below that of their class, such as photographs of one object.",
    )

    def __post_init__(self):
        fitting(self.image_fit)
