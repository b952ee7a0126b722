"""What cells show while and after they run: figures that follow training, sentences, widgets."""

import sys
from types import ModuleType, SimpleNamespace

import anywidget
import pandas as pd
import pytest

from h2t.lab.books.live import live, say, show_box


@pytest.fixture
def shown(monkeypatch):
    """What ``display`` got."""
    import IPython.display

    calls = []
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(IPython.display, "display", lambda what, **how: calls.append(what))
    return calls


def test_the_last_epoch_is_drawn_however_soon_it_comes(shown, monkeypatch):
    import matplotlib.pyplot as plt

    drawn = []

    def plot(rows: pd.DataFrame):
        drawn.append(len(rows))
        return plt.figure().subplots()

    class Handle:
        def update(self, figure):
            shown.append(figure)

    import IPython.display

    monkeypatch.setattr(IPython.display, "display", lambda what, **how: Handle())
    follow, rows = live(plot, every=1000.0, last=4), []
    for epoch in range(1, 5):
        rows.append({"epoch": epoch, "all": 50.0})
        follow(rows)
    assert drawn == [1, 4] and len(shown) == 1


def test_sentences_are_paragraphs_as_markdown_and_as_text(shown):
    say("One.", "Two.\nThree.")
    (content,) = shown
    assert content["text/markdown"] == content["text/plain"]
    assert [p for p in content["text/markdown"].split("\n") if p] == ["One.", "Two.", "Three."]


def test_a_widget_is_shown_with_its_picture_and_in_colab_with_colabs_manager(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda what, **how: shown.append((what, how)))
    colab = ModuleType("google.colab.output")
    colab.enable_custom_widget_manager = lambda: None
    colab._widgets = SimpleNamespace(_installed_url="https://widgets.example")
    show_box(anywidget.AnyWidget(), b"PNG", "words")
    monkeypatch.setitem(sys.modules, "google.colab.output", colab)
    show_box(anywidget.AnyWidget(), b"PNG", "words")
    (plain, _), (_, how) = shown
    kind = "application/vnd.jupyter.widget-view+json"
    assert plain["text/plain"] == "words" and {kind, "image/png"} <= set(plain)
    assert "https://widgets.example" in str(how["metadata"][kind])
