"""The explorer's colours, and how its files are written."""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from h2t.lab import front

METHODS = ("stage1", "zero", "now", "pinned")
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
SEEN_BY = {
    "everybody": np.eye(3),
    "deuteranopes": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopes": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}


def themes() -> dict[str, dict[str, str]]:
    """The colours of both themes, by name."""
    blocks = re.findall(r"\.h2tx(\.dark)? \{([^}]*)\}", front.style())
    found = {}
    for dark, body in blocks:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body))
        if "stage1" in colours:
            found["dark" if dark else "light"] = colours
    return found


def linear(colour: str) -> np.ndarray:
    x = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear sRGB, D65."""
    to_xyz = np.array(
        [
            [0.4124, 0.3576, 0.1805],
            [0.2126, 0.7152, 0.0722],
            [0.0193, 0.1192, 0.9505],
        ]
    )
    xyz = to_xyz @ rgb.clip(0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    low, high = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eyes", SEEN_BY)
def test_methods_are_told_apart_by_everybody(theme, eyes):
    colours = themes()[theme]
    seen = {name: lab(SEEN_BY[eyes] @ linear(colours[name])) for name in METHODS}
    for a, b in itertools.combinations(METHODS, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 20, (a, b)
    # and stage 1 and now by lightness alone, on any projector
    assert abs(seen["stage1"][0] - seen["now"][0]) > 20


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read(theme):
    colours = themes()[theme]
    for name in ("text", "soft", "bad", *(k for k in colours if k.endswith("-text"))):
        assert contrast(colours[name], colours["back"]) >= 4.5, name


@pytest.mark.parametrize("entry", ["explorer_page", "explorer_widget", "toy_page", "toy_widget"])
def test_the_modules_are_one_script(entry):
    text = front.script(entry)
    assert "</script" not in text and not re.search(r"^(import|export (?!default))", text, re.M)
    names = re.findall(r"^(?:class|const|let|function|async function) (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names)) > 20, "two modules have one name for two things"


@pytest.mark.parametrize(("name", "how"), [("oxfmt", "--check"), ("oxlint", "--deny-warnings")])
def test_the_front_ends_are_formatted_and_linted(name, how):
    """By oxc's formatter and linter, which come with the development dependencies."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: uv sync --group dev")
    done = subprocess.run([found, how, str(front.STATIC)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lines_of_the_front_ends_are_short():
    """Comments too, which the formatter leaves as they are."""
    for file in front.STATIC.iterdir():
        lines = file.read_text(encoding="utf-8").splitlines()
        wide = [k for k, line in enumerate(lines, 1) if len(line) > 100]
        assert not wide or file.suffix == ".html", f"{file.name}: lines {wide}"


def test_nothing_is_fetched_and_nothing_is_parsed_as_markup():
    for file in front.STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        for bad in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert bad not in text, f"{file.name} uses {bad}"
        addresses = re.findall(r"https?://[\w./-]+", text)
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, file.name
