"""The fusion explorer's panel: controls, numbers and six figures that follow them."""

from __future__ import annotations

import html
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from PIL import Image

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import write_yaml
from h2t.fusion import FUSIONS
from h2t.lab.books.live import show_box
from h2t.lab.explorer.engine import BRANCHES, Explorer, State
from h2t.lab.explorer.figures import Boundary, Changed, ClassAccuracy, Embedding, Flow, RatioCurve
from h2t.plots import published_curve, short
from h2t.runs import check_variant

FIGURES = ("accuracy", "curve", "boundary", "flow", "map", "changed")


class Panel:
    """The fusion explorer: controls, numbers and six figures that follow them.

    One worker thread computes. It always takes the newest state and drops what was asked for before, so that there is
    no backlog and never a second fit at once; the slower figures (map, changed images, a new ratio curve) come last and
    give way to a newer state.

    Arguments: ``engine``; ``state`` to start from (the engine's by default).
    """

    def __init__(self, engine: Explorer, state: State | None = None):
        self.engine, self.state = engine, state or engine.start
        self.origin, self.recipe_of_curve, self.latency = self.state, None, []
        classes, bank = engine.bank.classes, engine.bank
        self.figures = {
            "accuracy": ClassAccuracy(bank.counts, bank.scheme),
            "curve": RatioCurve(),
            "boundary": Boundary(),
            "flow": Flow(),
            "map": Embedding(),
            "changed": Changed(),
        }
        self.pictures = {
            name: widgets.Image(format="png", layout=widgets.Layout(width="100%"))
            for name in FIGURES
        }
        self.numbers, self.status = widgets.HTML(), widgets.HTML()
        self._controls(classes, bank.counts)
        self._event, self._quiet, self._busy = threading.Event(), False, threading.Lock()
        self._known: dict[str, Any] = {}
        self.follow(self.state, everything=True)
        threading.Thread(target=self._work, daemon=True, name="explorer").start()
        self.box = self._layout()

    # -- controls ------------------------------------------------------------------------------------------------

    def _controls(self, classes, counts) -> None:
        wide = {"description_width": "initial"}
        order = np.argsort(-counts, kind="stable")
        options = [(f"{short(classes[c], 18)} ({counts[c]} images)", int(c)) for c in order]
        r, row = self.state.recipe, widgets.Layout(width="250px")
        self.controls = {
            "fusion_ratio": widgets.FloatSlider(
                r.fusion_ratio,
                min=0,
                max=1,
                step=0.01,
                description="fusion ratio p",
                style=wide,
                layout=widgets.Layout(width="min(560px, 95%)"),
            ),
            "fusing_branch": widgets.Dropdown(
                options=BRANCHES,
                value=r.fusing_branch,
                description="fusing branch",
                style=wide,
                layout=row,
            ),
            "fusion": widgets.Dropdown(
                options=FUSIONS,
                value=r.fusion,
                description="fusion",
                style=wide,
                layout=widgets.Layout(width="140px"),
            ),
            "stage2_epochs": widgets.IntText(
                r.stage2_epochs,
                description="stage-2 epochs",
                style=wide,
                layout=widgets.Layout(width="170px"),
            ),
            "stage2_lr": widgets.FloatText(
                r.stage2_lr,
                step=0.005,
                description="learning rate",
                style=wide,
                layout=widgets.Layout(width="170px"),
            ),
            "seed": widgets.IntText(
                r.seed, description="seed", style=wide, layout=widgets.Layout(width="120px")
            ),
            "head": widgets.Dropdown(
                options=options,
                value=self.state.head,
                description="head class",
                style=wide,
                layout=row,
            ),
            "tail": widgets.Dropdown(
                options=options,
                value=self.state.tail,
                description="tail class",
                style=wide,
                layout=row,
            ),
        }
        for control in self.controls.values():
            control.observe(self._ask, "value")
        self.reset = widgets.Button(
            description="Reset to the recipe",
            tooltip="back to the settings the explorer opened with",
        )
        self.reset.on_click(lambda _: self.show_state(self.origin))
        self.name = widgets.Text(
            "explored", description="save as", style=wide, layout=widgets.Layout(width="200px")
        )
        self.saves = {}
        for what, action in (
            ("figures", self.save_figures),
            ("classifier", self.save_classifier),
            ("recipe", self.save_recipe),
        ):
            self.saves[what] = widgets.Button(description=f"Save {what}")
            self.saves[what].on_click(lambda _, action=action: self._try(action))

    def _layout(self) -> widgets.VBox:
        flow = widgets.Layout(flex_flow="row wrap", align_items="center")
        c = self.controls
        grid = widgets.Layout(
            grid_template_columns="repeat(auto-fit, minmax(max(400px, 32%), 1fr))",
            grid_gap="8px",
            width="100%",
        )
        box = widgets.VBox(
            [
                widgets.HBox([c["fusion_ratio"], self.reset], layout=flow),
                widgets.HBox(
                    [
                        c["head"],
                        c["tail"],
                        c["fusing_branch"],
                        c["fusion"],
                        c["stage2_epochs"],
                        c["stage2_lr"],
                        c["seed"],
                    ],
                    layout=flow,
                ),
                widgets.HBox([self.name, *self.saves.values()], layout=flow),
                self.status,
                self.numbers,
                widgets.GridBox(list(self.pictures.values()), layout=grid),
            ]
        )
        box.add_class("h2t-explorer")
        return box

    def _ask(self, change: dict) -> None:
        """A control moved: note the newest state and wake the worker. A value that cannot be is put back, with a word."""
        if self._quiet:
            return
        control, name = (
            change["owner"],
            next(k for k, c in self.controls.items() if c is change["owner"]),
        )
        try:
            wanted = self.state.change(**{name: change["new"]})
            if wanted.head == wanted.tail:
                raise Error("head and tail class must differ; choose another class")
        except Error as e:
            self._quiet = True
            control.value = change["old"]
            self._quiet = False
            self.say(str(e), bad=True)
            return
        self.state, self._asked = wanted, time.perf_counter()
        self._event.set()

    def show_state(self, state: State) -> None:
        """Set every control, as if by hand, and follow once."""
        self._quiet = True
        for name, control in self.controls.items():
            control.value = (
                getattr(state, name) if name in ("head", "tail") else getattr(state.recipe, name)
            )
        self._quiet = False
        self._known.pop("classes", None)  # limits that grew while dragging are fitted anew
        self.state, self._asked = state, time.perf_counter()
        self._event.set()

    def say(self, text: str, bad: bool = False) -> None:
        colour = "#B3261E" if bad else "#00714F"
        self.status.value = f"<span class='h2t-status' style='color:{colour};font-size:14px'>{html.escape(text)}</span>"

    # -- following -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            self._event.wait()
            self._event.clear()
            try:
                with self._busy:
                    self.follow(self.state)
            except Exception as e:  # a thread has nobody else to tell
                self.say(f"{type(e).__name__}: {e}", bad=True)

    def follow(self, state: State, everything: bool = False) -> None:
        """Bring the figures to a state: the quick ones, then the slower ones unless a newer state has come meanwhile."""
        stale = (lambda: False) if everything else self._event.is_set
        asked = getattr(self, "_asked", time.perf_counter())
        logits = self._quick(state)
        self.latency.append(time.perf_counter() - asked)
        if stale():
            return
        self._changed(state, logits)
        if stale():
            return
        self._map(state)
        base = self._without_ratio(state)
        if stale() or self._known.get("curve") == base:
            return
        self._known["curve"] = base
        self.figures["curve"].set_curve(
            self.engine.curve(state.recipe), published_curve(self.engine.bank.counts)
        )
        self._paint("curve")

    def settle(self, seconds: float = 60) -> None:
        """Wait until every figure shows the newest state. Raises ``TimeoutError`` where that does not come about."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.02)
            if not self._event.is_set() and self._busy.acquire(timeout=0.1):
                self._busy.release()
                if not self._event.is_set():
                    return
        raise TimeoutError(f"the explorer did not come to rest within {seconds} s")

    @staticmethod
    def _without_ratio(state: State):
        r = state.recipe
        return r.fusing_branch, r.fusion, r.stage2_epochs, r.stage2_lr

    def _quick(self, state: State) -> dict[str, np.ndarray]:
        """Figures 1, 2, 3 and 6, and the numbers."""
        engine, classes = self.engine, self.engine.bank.classes
        chosen = (state.head, state.tail)
        fresh = self._known.get("classes") != chosen
        logits, table, confusions = {}, {}, {}
        for name, classifier in engine.classifiers(state).items():
            key = id(classifier[0])
            if self._known.get(("logits", name), (None,))[0] != key:
                out = engine.logits(classifier)
                self._known["logits", name] = (
                    key,
                    classifier,
                    out,
                    *engine.accuracy(out),
                    metrics.confusion(out, engine.labels),
                )
            _, _, logits[name], per_class, table[name], confusions[name] = self._known[
                "logits", name
            ]
            self.figures["accuracy"].update(name, per_class, table[name])
        self._paint("accuracy")
        self.figures["curve"].update(state.recipe.fusion_ratio, table["current"])
        self._paint("curve")
        drawn, points = engine.boundary(state)
        self.figures["boundary"].update(
            drawn, points, (classes[state.head], classes[state.tail]), fresh
        )
        self._paint("boundary")
        if fresh:
            self.figures["flow"].choose(confusions, state.tail, classes)
        for name, confusion in confusions.items():
            self.figures["flow"].update(name, confusion)
        self._paint("flow")
        self._known["classes"] = chosen
        self.numbers.value = _numbers(table)
        return logits

    def _changed(self, state: State, logits: dict[str, np.ndarray]) -> None:
        classes = self.engine.bank.classes
        gained, lost = self.engine.changed(logits["DR"], logits["current"])

        def words(k: int) -> str:
            lines = []
            for name, tag in (("DR", "was"), ("current", "now")):
                row = logits[name][k]
                c = int(row.argmax())
                lines.append(
                    f"{tag} {short(classes[c], 7)} {100 * metrics.softmax(row[None])[0, c]:.0f} %"
                )
            return "\n".join(lines)

        self.figures["changed"].update(gained, lost, self.engine.images, words)
        self._paint("changed")

    def _map(self, state: State) -> None:
        classes = self.engine.bank.classes
        try:
            xy, labels, fused = self.engine.embedding(state)
        except Error as e:  # two classes of a handful of images: the other figures go on
            self.figures["map"].refuse(str(e))
            self._paint("map")
            return
        self.figures["map"].update(
            xy,
            labels,
            fused,
            state,
            (classes[state.head], classes[state.tail]),
            state.recipe.fusion_ratio,
        )
        self._paint("map")

    def _paint(self, name: str) -> None:
        self.pictures[name].value = self.figures[name].paint()

    # -- saving --------------------------------------------------------------------------------------------------

    def _try(self, action: Callable[[], str]) -> None:
        try:
            with self._busy:
                self.say(action())
        except Error as e:
            self.say(str(e), bad=True)

    def _folder(self) -> Path:
        check_variant(self.name.value)
        folder = self.engine.run.path / "explorer" / self.name.value
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def save_figures(self) -> str:
        """Save all six figures as PNG and PDF."""
        folder = self._folder()
        for name, figure in self.figures.items():
            for ending in ("png", "pdf"):
                figure.save(folder / f"{name}.{ending}")
        return f"six figures saved in {folder}"

    def save_classifier(self) -> str:
        """Save the current classifier as the stage-2 variant of that name."""
        result = self.engine.save(self.state, self.name.value)
        return f"saved as {result['step']} of {self.engine.run.path}: {result['last']['all']:.2f} % top-1"

    def save_recipe(self) -> str:
        """Save the settings as a recipe with which papermill runs notebook 05 to the same classifier."""
        file = self._folder() / "recipe.yaml"
        keep = {
            k: v
            for k, v in self.state.recipe.to_dict().items()
            if k not in ("eval_every", "reinitialise_head")
        }
        views = self.engine.bank.train.shape[0]
        write_yaml(
            file,
            {
                "run": str(self.engine.run.path),
                **keep,
                "views": views,
                "head_class": self.state.head,
                "tail_class": self.state.tail,
                "save_as": self.name.value,
            },
        )
        return f"recipe saved: papermill notebooks/05_fusion_explorer.ipynb OUT.ipynb -f {file}"

    # -- showing -------------------------------------------------------------------------------------------------

    def sheet(self) -> bytes:
        """All six figures on one PNG, for where there is no kernel to drag with."""
        pictures = [Image.open(io.BytesIO(p.value)) for p in self.pictures.values()]
        width, heights = (
            max(p.width for p in pictures),
            [max(a.height, b.height) for a, b in zip(pictures[::2], pictures[1::2], strict=True)],
        )
        sheet = Image.new("RGB", (2 * width, sum(heights)), "white")
        for k, picture in enumerate(pictures):
            sheet.paste(picture, ((k % 2) * width, sum(heights[: k // 2])))
        buffer = io.BytesIO()
        sheet.save(buffer, "png")
        return buffer.getvalue()

    def show(self) -> None:
        """Show the explorer, with the sheet of its figures as a picture under papermill and on paper."""
        show_box(
            self.box, self.sheet(), "the fusion explorer; run the notebook in JupyterLab to use it"
        )


def _numbers(table: dict[str, dict[str, float | None]]) -> str:
    """Accuracy by group for stage 1, DR and current as an HTML table with columns that keep their width."""
    cell = "<t{0} style='padding:2px 14px;text-align:right;font-size:14px;min-width:60px'>{1}</t{0}>".format
    columns = ("many", "medium", "few", "all")
    rows = [cell("h", "test accuracy, %") + "".join(cell("h", c) for c in columns)]
    for name, means in table.items():
        rows.append(
            cell("h", name)
            + "".join(
                cell("d", "empty" if means[c] is None else f"{means[c]:.2f}") for c in columns
            )
        )
    return "<table class='h2t-numbers'>" + "".join(f"<tr>{r}</tr>" for r in rows) + "</table>"
