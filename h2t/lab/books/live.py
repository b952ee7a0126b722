"""Figures that follow training, and widgets with a picture in their place on paper."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from h2t.base.errors import Error
from h2t.base.progress import watched

if TYPE_CHECKING:
    import ipywidgets as widgets

    from h2t.lab.explorer.panel import Panel


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


def explore(
    run,
    recipe=None,
    *,
    views: int = 4,
    head_class: int = -1,
    tail_class: int = -1,
    progress: bool = True,
) -> Panel:
    """Open the fusion explorer on a run.

    Arguments: ``run`` with data and a finished stage 1; ``recipe`` a ``Stage2`` to start from; ``views`` of the feature
    bank; ``head_class`` and ``tail_class`` indices, -1 the largest and the smallest. Returns: the panel; ``show()`` it.
    Raises: ``h2t.Error`` in one sentence, with the command that mends it, where the run lacks something.
    """
    from h2t.lab.explorer.engine import Explorer
    from h2t.lab.explorer.panel import Panel

    engine = Explorer(run, recipe, views=views, progress=progress)
    chosen = {k: v for k, v in (("head", head_class), ("tail", tail_class)) if v >= 0}
    for name, c in chosen.items():
        if c >= len(engine.bank.counts):
            raise Error(
                f"{name}_class is {c}; the run has classes 0 to {len(engine.bank.counts) - 1}, and -1 chooses one"
            )
    return Panel(engine, engine.start.change(**chosen))
