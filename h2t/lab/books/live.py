"""Figures that follow training, and widgets with a picture in their place on paper."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import IPython.display
import matplotlib.pyplot as plt
import pandas as pd

from h2t.base.progress import watched
from h2t.plots import figure_of


def live(
    plot: Callable, every: float = 1.0, last: int = 0
) -> Callable[[list[dict[str, Any]]], None]:
    """An ``on_epoch`` callback that redraws a figure in place while a step trains; one that does
    nothing where nobody watches (``h2t.base.progress.watched``).

    Arguments: ``plot`` takes the rows of metrics.jsonl as a DataFrame and returns its Axes;
    ``every`` seconds between two pictures at least; ``last`` epoch, which is drawn in any case.
    """
    if not watched():
        return lambda history: None
    handle, shown, cost = None, 0.0, 0.0

    def update(history: list[dict[str, Any]]) -> None:
        nonlocal handle, shown, cost
        start = time.monotonic()
        # the figure may cost a tenth of the training, no more
        soon = start - shown < max(every, 10 * cost) and len(history) != last
        if soon or not any("all" in row for row in history):
            return
        figure = figure_of(plot(pd.DataFrame(history)))
        if handle is None:
            handle = IPython.display.display(figure, display_id=True)
        else:
            handle.update(figure)
        plt.close(figure)  # shown already; Jupyter would show it a second time
        shown = time.monotonic()
        cost = shown - start

    return update


def say(*sentences: str) -> None:
    """Show sentences as paragraphs, which wrap between words, where printed text breaks them."""
    text = "\n\n".join("\n\n".join(sentences).splitlines())
    IPython.display.display({"text/markdown": text, "text/plain": text}, raw=True)


def show_box(widget, picture: bytes, text: str) -> None:
    """Show an anywidget; under papermill and on paper a PNG ``picture``, else ``text``, for it."""
    shown, how = widget._repr_mimebundle_()  # Colab needs to be told where widgets come from
    shown |= {"image/png": base64.b64encode(picture).decode(), "text/plain": text}
    IPython.display.display(shown, metadata=how, raw=True)
