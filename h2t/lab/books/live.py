"""Figures that follow training, and widgets with a picture in their place on paper."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from h2t.base.progress import watched

if TYPE_CHECKING:
    import ipywidgets as widgets


def live(plot: Callable, every: float = 1.0) -> Callable[[list[dict[str, Any]]], None]:
    """An ``on_epoch`` callback that redraws a figure in place while a step trains; one that does
    nothing where nobody watches (``h2t.base.progress.watched``).

    Arguments: ``plot`` takes the rows of metrics.jsonl as a DataFrame and returns its Axes;
    ``every`` seconds between two pictures at least.
    """
    from IPython.display import display

    if not watched():
        return lambda history: None
    handle, last, cost = None, 0.0, 0.0

    def update(history: list[dict[str, Any]]) -> None:
        nonlocal handle, last, cost
        start = time.monotonic()
        # the figure may cost a tenth of the training, no more
        if start - last < max(every, 10 * cost) or not any("all" in row for row in history):
            return
        import matplotlib.pyplot as plt

        from h2t.plots import figure_of

        figure = figure_of(plot(pd.DataFrame(history)))
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)
        plt.close(figure)  # shown already; Jupyter would show it a second time
        last = time.monotonic()
        cost = last - start

    return update


def show_box(box: widgets.Widget, picture: bytes, text: str) -> None:
    """Show a widget; under papermill and on paper a PNG ``picture``, else ``text``, for it."""
    from IPython.display import display

    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    image = base64.b64encode(picture).decode()
    display(
        {"application/vnd.jupyter.widget-view+json": view, "image/png": image, "text/plain": text},
        raw=True,
    )
