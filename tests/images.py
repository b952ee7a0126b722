"""Image trees and the cache that the tests of the sources share."""

import numpy as np
import pytest
from PIL import Image

R = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("H2T_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(size=(10, 8), mode="RGB", seed=0):
    r = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(r.integers(0, 256, shape, dtype=np.uint8))


def tree(root, parts=("train", "test"), classes=("cat", "dog"), n=3, size=(10, 8)):
    for p, part in enumerate(parts):
        for c, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(n):
                picture(size, seed=100 * p + 10 * c + k).save(folder / f"{k}.png")
    return root
