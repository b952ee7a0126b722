"""A finished step as it is used: which one, what its classes are called, how images come to it."""

from __future__ import annotations

from typing import Any

from h2t.base.errors import Error
from h2t.data.images import fitting
from h2t.runs import Run, Step
from h2t.train.rundata import prepared


def chosen(run: Run, name: str = "") -> Step:
    """The step of a run to use: the one named, the only one, or the best on its validation part.

    Raises: ``h2t.Error`` where it is not finished, or where nothing but the test set could choose.
    """
    steps = [run.step(name)] if name else run.steps()
    results = {step: step.result for step in steps}
    # what was imported may have been trained on the validation part
    if all("val" in r and "val_is" not in r for r in results.values()):
        return max(steps, key=lambda step: results[step]["val"]["balanced"])
    if len(steps) > 1:
        has = f"has {', '.join(map(said, steps))}, and no validation part to choose by"
        raise Error(f"run {run.path} {has}; name one with --step")
    return steps[0]


def said(step: Step) -> str:
    """A step and its accuracy, as people read it."""
    accuracy = step.result.get("last", {}).get("all")
    return step.name if accuracy is None else f"{step.name} ({accuracy:.2f} % test accuracy)"


def inputs(run: Run) -> dict[str, Any]:
    """What a network's images and answers are, without the images that it was trained on.

    Returns: ``classes``, ``height``, ``width``, ``in_channels``, ``image_fit``, ``white_level``,
    ``mean``, ``std``, and ``preprocessing``, which says to the letter how a file becomes an input.
    """
    recorded, params = prepared(run).inputs, run.params
    height, width, channels = recorded["shape"]
    fit = params.get("image_fit", "stretch")
    color = {1: "grey: Pillow's convert('L')", 3: "colour: Pillow's convert('RGB')"}
    return {
        "classes": recorded["classes"],
        "height": height,
        "width": width,
        "in_channels": channels,
        "image_fit": fit,
        "white_level": params.get("white_level", 0),
        "mean": params["mean"],
        "std": params["std"],
        "preprocessing": [
            "decode; turn upright by the EXIF orientation; lay what is transparent on white",
            color.get(channels, f"{channels} channels"),
            _resized(height, width, fit),
            "divide by 255; subtract mean, divide by std, both by channel",
            "float32, axes (image, channel, row, column)",
        ],
    }


def _resized(height: int, width: int, fit: str) -> str:
    share, filtered = fitting(fit)
    size = f"{width} x {height} pixels (width x height)"
    if height != width:
        return f"no resizing: images are {size}"
    how = f"resize to {size}, both sides"
    if share:
        shorter = f"resize the shorter side to {round(height / share)}, the other rounded down"
        how = f"{shorter}, and cut the middle {size} out"
    return f"{how}; Pillow's Image.resize, {filtered.upper()}, which antialiases"
