"""The large sets of the field by their list files: ImageNet-LT, Places-LT and iNaturalist 2018.

Sources: Liu et al., "Large-scale long-tailed recognition in an open world", CVPR 2019, drew
ImageNet-LT and Places-LT; Van Horn et al., "The iNaturalist species classification and detection
dataset", CVPR 2018. Labels are those of the lists. Some projects number classes by descending count
instead, so that their checkpoints are not label-compatible with these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.data.lists import PARTS, Found, Listed, numbered, objects, read_list, split_root


@dataclass(frozen=True)
class LargeSet:
    """``lists`` part to the name of its list file, without .txt; ``places`` where else an image may
    lie, by its path and class."""

    lists: dict[str, str]
    places: Callable[[str, str], list[str]]


def _below_the_top(path: str, _: str) -> list[str]:
    """The same path under a root that is the listed paths' first folder itself."""
    return [path.split("/", 1)[1]] if "/" in path else []


def _imagenet(path: str, name: str) -> list[str]:
    """The validation images of ImageNet lie in a folder for each class, or all in one."""
    file = path.rsplit("/", 1)[-1]
    if file.startswith("ILSVRC2012_val_"):
        return [f"val/{file}", file]
    return _below_the_top(path, name)


def _places365(path: str, name: str) -> list[str]:
    """Places365 and its lists come in two layouts: ``train/flea_market-indoor/00001354.jpg`` and
    ``val/flea_market-indoor/*.jpg``, or ``data_256/f/flea_market/indoor/00001354.jpg`` and
    ``val_256/*.jpg`` (large for 256 in the high resolution, and torchvision adds _standard).
    """
    file = path.rsplit("/", 1)[-1]
    if file.startswith("Places365_val_"):
        return [f"val/{name}/{file}", *(f"{top}/{file}" for top in ("val_256", "val_large", "val"))]
    nested = f"{name[0]}/{name.replace('-', '/')}/{file}"
    tops = ("data_256", "data_large", "data_256_standard", "data_large_standard", "train")
    return [f"train/{name}/{file}", *(f"{top}/{nested}" for top in tops)]


SETS = {
    "imagenet_lt": LargeSet({part: f"ImageNet_LT_{part}" for part in PARTS}, _imagenet),
    "places_lt": LargeSet({part: f"Places_LT_{part}" for part in PARTS}, _places365),
    # the labels of its test part are not public: the field tests on the validation part
    "inaturalist2018": LargeSet(
        {"train": "iNaturalist18_train", "test": "iNaturalist18_val"}, _below_the_top
    ),
}


def find(name: str, root: str) -> Found:
    """Read the lists of one of ``SETS`` and find its images; classes are called as their folders.

    Arguments: ``root`` as in ``split_root``. A list of the validation part may be missing.
    Raises: ``h2t.Error`` for a missing or malformed list, labels with gaps or outside the training
    list's, or a part whose images lie in no known place.
    """
    large, (folder, images) = SETS[name], split_root(root)
    files = {part: _list_file(folder, part, stem) for part, stem in large.lists.items()}
    lists = {part: read_list(file) for part, file in files.items() if file}
    lists, classes = numbered(folder, lists)
    train = lists["train"]
    first = np.unique(train.labels, return_index=True)[1]
    names = tuple(_class_name(train.paths[k]) for k in first)
    if len(set(names)) == len(names):  # else two labels lie in one folder, which tells nothing
        classes = names
    lists = {part: replace(listed, root=images) for part, listed in lists.items()}
    return {part: _found(lists[part], classes, large.places, part) for part in lists}, classes


def _list_file(folder: Path, part: str, stem: str) -> Path | None:
    """The list of a part by its name, or the only one whose name begins so."""
    if (exact := folder / f"{stem}.txt").is_file():
        return exact
    found = [p for p in sorted(folder.glob("*.txt")) if p.name.lower().startswith(stem.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        what = f"several begin so in {folder} ({', '.join(p.name for p in found)}); keep one"
    elif part == "val":
        return None
    else:
        what = f"it is not in {folder}; root is the folder of lists and images, or LISTS:IMAGES"
    raise Error(f"the list {stem}.txt is needed, but {what}")


def _class_name(path: str) -> str:
    """A class by its folder, without the part and, in Places' nested layout, the first letter."""
    folders = path.split("/")[1:-1]
    if len(folders) > 1 and len(folders[0]) == 1:
        folders = folders[1:]
    return "-".join(folders)


def _found(listed: Listed, classes: tuple[str, ...], places: Callable, part: str) -> Listed:
    """Paths as they are on disk: as listed, or in the first other place with the first image."""

    def places_of(k: int) -> list[str]:
        path = listed.paths[k]
        return [path, *places(path, classes[listed.labels[k]])]

    tried = places_of(0)
    there = [k for k, path in enumerate(tried) if (listed.root / path).exists()]
    if not there:
        raise Error(
            f"the first image ({part}) lies nowhere in {listed.root} where copies of the set have "
            f"it: {', '.join(tried)}; check the image root"
        )
    if there[0] == 0:
        return listed
    return replace(listed, paths=objects(places_of(k)[there[0]] for k in range(len(listed))))
