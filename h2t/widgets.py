"""Thin ipywidgets over plots, runs and the feature bank."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd


def live(plot: Callable, every: float = 1.0) -> Callable[[list[dict[str, Any]]], None]:
    """An ``on_epoch`` callback that redraws a figure in place while a step trains, at most every ``every`` seconds.

    Arguments: ``plot`` takes the rows of metrics.jsonl as a DataFrame and returns its Axes. The figure is removed when
    the cell ends its training, so that the notebook can draw the final one.
    """
    from IPython.display import display

    handle, last, cost = None, 0.0, 0.0

    def update(history: list[dict[str, Any]]) -> None:
        nonlocal handle, last, cost
        start = time.monotonic()
        # the figure may cost a tenth of the training, no more
        if start - last < max(every, 10 * cost) or not any("top1" in row for row in history):
            return
        axes = plot(pd.DataFrame(history))
        figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)
        _forget(figure)
        last = time.monotonic()
        cost = last - start

    return update


def _forget(figure) -> None:
    """Close a figure that has been shown, so that Jupyter does not show it a second time."""
    import matplotlib.pyplot as plt

    plt.close(figure)
