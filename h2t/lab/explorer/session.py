"""An explorer at work: a thread trains what is asked for, another makes maps, a feed takes both."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from h2t.base.errors import Error
from h2t.lab.explorer import frames
from h2t.lab.explorer.embedding import MIN_POINTS, fit_map
from h2t.lab.explorer.engine import SEEDS, Explorer, State, within
from h2t.lab.explorer.feed import Feed
from h2t.lab.payload import pack
from h2t.recipes.parameters import Stage2
from h2t.train.cached import fit as fitting

MAP_POINTS = 20_000  # t-SNE of more would take minutes
LARGE = 200_000_000  # numbers at work in one batched product


class Stopped(Exception):
    """A newer request has come, or the session is closed."""


class Session:
    """An explorer with its threads and its feed, until ``close``.

    The newest request wins: an older one's fit ends with its epoch.

    Arguments: ``state`` to start from (the engine's by default); ``live`` whether somebody can ask
    for more.
    """

    def __init__(self, engine: Explorer, state: State | None = None, live: bool = True):
        state = state or engine.start
        self.engine, self.recipe, self.feed = engine, state.recipe, Feed()
        self.failure, self._lock = "", threading.RLock()
        self.idle, self.settled = threading.Event(), threading.Event()  # fits and map are there
        self._recipes, self._maps = queue.SimpleQueue(), queue.SimpleQueue()  # None is the end
        self.feed.put("base", frames.base(engine, state, live))
        self.ask(state.recipe)
        self.threads = [
            threading.Thread(target=self._work, args=work, daemon=True, name="explorer")
            for work in ((self._recipes, self._train), (self._maps, self._make_map))
        ]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """End both threads, and forget who reads."""
        self._recipes.put(None)
        self._maps.put(None)
        for thread in self.threads:
            thread.join(60)
        self.feed.readers.clear()

    def finish(self) -> None:
        """Wait for classifiers and map. Raises ``h2t.Error`` for what went wrong."""
        self.idle.wait()
        self.settled.wait()
        if self.failure:
            raise Error(self.failure)

    # -- requests

    def ask(self, recipe: Stage2) -> None:
        """Train for a recipe from now on. Raises ``h2t.Error`` for one beyond the explorer's
        limits."""
        within(recipe)
        fused = frames.fused(self.engine, recipe)
        with self._lock:
            self.recipe = recipe
            self.idle.clear()
            self.feed.drop("fits-")
            self.feed.drop("curve")
            self.feed.put("fused", fused)
            self._busy(0)
            self._recipes.put(recipe)

    def handle(self, message: dict[str, Any]) -> None:
        """Do what the front end asks for; what comes of it goes to the feed, a refusal too."""
        what = message.get("do")
        try:
            if what in ("settings", "class", "images", "map", "save"):
                getattr(self, f"_{what}")(message)
        except Exception as e:
            self.say(_words(e), bad=True)

    def say(self, text: str, bad: bool = False) -> None:
        self.feed.put("status", pack("status", {"text": text, "bad": bad}))

    def _settings(self, message: dict[str, Any]) -> None:
        wanted = {k: message[k] for k in frames.SETTINGS}
        self.ask(dataclasses.replace(self.recipe, **wanted))
        self.say("")

    def _class(self, message: dict[str, Any]) -> None:
        c = int(message["class"])
        if not 0 <= c < len(self.engine.bank.counts):
            raise Error(f"there is no class {c}")
        self.feed.put(f"class-{c}", frames.of_class(self.engine, c))

    def _images(self, message: dict[str, Any]) -> None:
        index = np.array(message["index"][:400], np.int64)
        if len(index) and index.min() >= 0 and index.max() < len(self.engine.labels):
            self.feed.put(f"images-{self.feed.last}", frames.images(self.engine, index))

    def _map(self, message: dict[str, Any]) -> None:
        self._maps.put(message)

    def _save(self, message: dict[str, Any]) -> None:
        recipe = dataclasses.replace(self.recipe, fusion_ratio=float(message["p"]))
        self.say(self.engine.save(recipe, str(message["name"])))

    # -- work

    def _work(self, requests: queue.SimpleQueue, do: Callable[..., None]) -> None:
        """Do what is requested, until something newer is. A thread has nobody else to tell: an
        error becomes a message, and the thread goes on."""

        def check() -> None:
            if not requests.empty():
                raise Stopped

        while (wanted := requests.get()) is not None:
            try:
                check()
                do(wanted, check)
            except Stopped:
                continue
            except Exception as e:
                self.failure = _words(e)
                self.say(self.failure, bad=True)
                self.idle.set()  # whoever waits hears of it
                self.settled.set()

    def _train(self, recipe: Stage2, check: Callable[[], None]) -> None:
        engine, done = self.engine, 0
        for k, group in enumerate(self._groups(recipe)):
            ratios = [positions[0] / 100 for positions in group]
            fitted = fitting.fit(engine.bank, ratios, [recipe.seed], recipe, on_epoch=check)
            frame = frames.fits(engine, recipe, group, fitted)
            done += sum(map(len, group))
            with self._lock:  # a request of now comes before or after both
                check()
                self.feed.put(f"fits-{k}", frame)
                self._busy(done)
        table = engine.curve(recipe, SEEDS, check)
        with self._lock:
            check()
            self.feed.put("curve", frames.curve(recipe, table))
            self._busy(done, True)
            self.idle.set()
        if "map" not in self.feed.frames:
            self._maps.put({})

    def _groups(self, recipe: Stage2) -> list[list[list[int]]]:
        """The positions that have one classifier in common, in groups to train at once, a coarse
        first."""
        alike: dict[int, list[int]] = {}
        for p in self.engine.positions:
            alike.setdefault(self.engine.alike(recipe, p), []).append(p)
        first = [a for a in alike.values() if any(p % 10 == 0 for p in a)]
        rest = [a for a in alike.values() if a not in first]
        size = min(64, max(1, LARGE // (8 * self.engine.bank.weight.numel())))
        return [part[k : k + size] for part in (first, rest) for k in range(0, len(part), size)]

    def _busy(self, done: int, curve: bool = False) -> None:
        settings, every = frames.settings_of(self.recipe), len(self.engine.positions)
        meta = {"settings": settings, "done": done, "of": every, "curve": curve}
        self.feed.put("busy", pack("busy", meta))

    def _make_map(self, wanted: dict[str, Any], check: Callable[[], None]) -> None:
        shown = self.engine.shown()
        index = np.arange(len(shown))  # of the test images shown, those on the map
        if classes := wanted.get("classes"):
            index = np.flatnonzero(np.isin(self.engine.labels[shown], classes))
        every = -(-len(index) // MAP_POINTS) or 1
        few = len(index) - len(index := index[::every])

        def show(xy: np.ndarray, done: bool = False) -> None:
            check()
            self.feed.put("map", pack("map", {"done": done, "few": few}, xy=xy, index=index))

        if len(index) < MIN_POINTS:
            self.say(f"a map needs {MIN_POINTS} images; these classes have {len(index)}", bad=True)
        else:
            show(fit_map(self.engine.bank.test[shown[index]].numpy(), show), done=True)
        self.settled.set()


def _words(e: Exception) -> str:
    return str(e) if isinstance(e, Error) else f"{type(e).__name__}: {e}"
