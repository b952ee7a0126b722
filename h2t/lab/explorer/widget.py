"""The explorer in a notebook: a widget with a session behind it, and a picture where there is no
kernel."""

from __future__ import annotations

import io
from typing import Any

import anywidget
from matplotlib.figure import Figure

from h2t.lab import front
from h2t.lab.books.live import show_box
from h2t.lab.explorer.engine import Explorer, State
from h2t.lab.explorer.session import Session
from h2t.plots import plot_ratio_curve
from h2t.train.cached.steps import recipe_of

_open: dict[str, Panel] = {}  # the explorer of each run: opened anew, the one before ends


class Front(anywidget.AnyWidget):
    """The front end: frames go out as buffers of messages, requests come back as messages."""

    _esm = front.script("explorer_widget")
    _css = front.style()


class Panel:
    """The fusion explorer of a run in a notebook, opened at the state ``origin``."""

    def __init__(self, engine: Explorer, origin: State):
        self.key = str(engine.run.path)
        if before := _open.get(self.key):
            before.close()
        self.engine, self.origin = engine, origin
        self.session, self.widget = Session(engine, origin), Front()
        self.widget.on_msg(self._hear)
        self.session.feed.readers.append(self._tell)
        _open[self.key] = self

    def _tell(self, frame: bytes) -> None:
        self.widget.send({"frame": True}, [frame])

    def _hear(self, widget, message, buffers) -> None:
        if message.get("do") == "hello":
            for frame in self.session.feed.since(-1)[1]:
                self._tell(frame)
        else:
            self.session.handle(message)

    def save_classifier(self, name: str) -> str:
        """Save the classifier that the explorer opened with as a stage-2 variant of the run.
        Returns: what was done."""
        return self.engine.save(self.origin.recipe, name)

    def sheet(self) -> bytes:
        """The ratio curve as PNG, for where there is no kernel to drag with."""
        engine, recipe = self.engine, self.origin.recipe
        table, figure = engine.curve(recipe, 3), Figure()
        plot_ratio_curve(table, engine.published, recipe.fusion_ratio, ax=figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def show(self) -> None:
        words = "the fusion explorer; run the notebook in JupyterLab to use it"
        show_box(self.widget, self.sheet(), words)

    def close(self) -> None:
        """End the threads and take the widget away; what it showed stays as a picture."""
        self.session.close()
        self.widget.close()
        if _open.get(self.key) is self:
            del _open[self.key]


def explore(
    run,
    settings: dict[str, Any] | None = None,
    *,
    views: int = 4,
    head_class: int = -1,
    tail_class: int = -1,
) -> Panel:
    """Open the fusion explorer on a run; ``show()`` what is returned.

    Arguments: ``run`` with data and a finished stage 1; ``settings`` parameters of stage 2 that
    differ from the run's own recipe; ``views`` of the feature bank; ``head_class`` and
    ``tail_class`` indices, -1 a pair that is really confused. Raises: ``h2t.Error`` with the
    command that mends it, where the run lacks something or a setting cannot be.
    """
    engine = Explorer(run, recipe_of(run, settings), views=views)
    return Panel(engine, engine.opening(head_class, tail_class))
