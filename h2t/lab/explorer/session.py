"""An explorer at work: a thread trains what is asked for, another makes maps, a feed takes both."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from h2t.base.errors import Error
from h2t.lab.explorer import frames
from h2t.lab.explorer.embedding import MIN_POINTS, fit_map, pca
from h2t.lab.explorer.engine import SEEDS, Explorer, State, within
from h2t.lab.explorer.feed import Feed
from h2t.lab.payload import pack
from h2t.recipes.parameters import Stage2
from h2t.train.cached import fit as fitting

MAP_POINTS = 20_000  # t-SNE of more would take minutes
LARGE = 200_000_000  # numbers at work in one batched product


def thin(values: np.ndarray) -> np.ndarray:
    """At most ``MAP_POINTS`` of them, evenly."""
    return values[:: -(-len(values) // MAP_POINTS) or 1]


class Stopped(Exception):
    """A newer request has come, or the session is closed."""


class Session:
    """An explorer with its threads and its feed. ``close`` ends both.

    The newest request wins: an older one's fit ends with its epoch. One fit and one map are made at
    a time.

    Arguments: ``state`` to start from (the engine's by default); ``live`` whether somebody can ask
    for more.
    """

    def __init__(self, engine: Explorer, state: State | None = None, live: bool = True):
        self.engine, self.state, self.feed = engine, state or engine.start, Feed()
        self.recipe, self.failure = self.state.recipe, ""
        self._wanted, self._closed = threading.Event(), False
        self._mapped, self._of = threading.Event(), {"classes": None, "train": False}
        self._asked, self._lock = 0, threading.RLock()
        self.idle, self.settled = threading.Event(), threading.Event()
        self.feed.put("base", frames.base(engine, self.state, live))
        self.ask(self.recipe)
        self.threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True, name="explorer")
            for work in (self._fitting, self._mapping)
        ]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """End both threads, and forget the frames."""
        self._closed = True
        self._wanted.set()
        self._mapped.set()
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(60)
        self.feed.readers.clear()
        with self.feed.changed:
            self.feed.changed.notify_all()

    def finish(self) -> None:
        """Wait until all that was asked for is there. Raises ``h2t.Error`` for what went wrong."""
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
            self.recipe, self._asked = recipe, self._asked + 1
            self.idle.clear()
            self.feed.drop("fits-")
            self.feed.drop("curve")
            self.feed.put("fused", fused)
            self._busy(0)
        self._wanted.set()

    def handle(self, message: dict[str, Any]) -> None:
        """Do what the front end asks for; what comes of it goes to the feed, a refusal too."""
        what = message.get("do")
        try:
            if what in ("settings", "class", "images", "map", "save"):
                getattr(self, f"_{what}")(message)
        except (Error, KeyError, TypeError, ValueError, OverflowError) as e:
            text = str(e) if isinstance(e, Error) else f"the request was not understood: {e}"
            self.say(text, bad=True)

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
        self._of = {k: message.get(k) for k in ("classes", "train")}
        self._mapped.set()

    def _save(self, message: dict[str, Any]) -> None:
        recipe = dataclasses.replace(self.recipe, fusion_ratio=float(message["p"]))
        self.say(self.engine.save(recipe, str(message["name"])))

    # -- training

    def _guard(self, work: Callable[[], None]) -> None:
        """A thread has nobody else to tell: an error becomes a message, and the thread goes on."""
        while not self._closed:
            try:
                work()
            except Stopped:
                continue
            except Exception as e:
                self.failure = f"{type(e).__name__}: {e}"
                self.say(self.failure, bad=True)
                self.idle.set()  # whoever waits hears of it
                self.settled.set()

    def _fitting(self) -> None:
        self._wanted.wait()
        self._wanted.clear()
        asked, recipe, engine = self._asked, self.recipe, self.engine

        def check() -> None:
            if self._closed or self._asked != asked:
                raise Stopped

        check()
        done = 0
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
            self._mapped.set()

    def _groups(self, recipe: Stage2) -> list[list[list[int]]]:
        """The positions that have one classifier in common, in groups to train at once, a coarse
        first."""
        alike: dict[int, list[int]] = {}
        for p in self.engine.positions:
            alike.setdefault(self.engine.alike(recipe, p), []).append(p)
        here = round(100 * self.state.recipe.fusion_ratio)
        first = [a for a in alike.values() if here in a or any(p % 10 == 0 for p in a)]
        rest = [a for a in alike.values() if a not in first]
        size = min(64, max(1, LARGE // (8 * self.engine.bank.weight.numel())))
        return [part[k : k + size] for part in (first, rest) for k in range(0, len(part), size)]

    def _busy(self, done: int, curve: bool = False) -> None:
        meta = {
            "settings": frames.settings_of(self.recipe),
            "done": done,
            "of": len(self.engine.positions),
            "curve": curve,
        }
        self.feed.put("busy", pack("busy", meta))

    # -- maps

    def _mapping(self) -> None:
        self._mapped.wait()
        self._mapped.clear()
        wanted = self._of
        self.settled.clear()
        z, index, train, few = self._points(**wanted)

        def show(method: str, xy: np.ndarray, done: bool = False) -> None:
            if self._closed or self._of is not wanted:
                raise Stopped
            meta = {"method": method, "done": done, "few": few}
            self.feed.put("map", frames.of_map(meta, xy, index, train))

        if len(z) < 3:
            raise Error("a map needs classes with images")
        show("PCA", pca(z), len(z) < MIN_POINTS)
        if len(z) >= MIN_POINTS:
            found = fit_map(z, lambda xy: show("t-SNE", xy))
            show("t-SNE", found, True)
        self.settled.set()

    def _points(self, classes, train):
        """Features for a map, where they are from, and how many test images were left out."""
        bank, shown, labels = self.engine.bank, self.engine.shown(), self.engine.bank.labels.numpy()
        of = np.arange(len(bank.counts)) if classes is None else np.array(classes, int)
        index = np.flatnonzero(np.isin(self.engine.labels[shown], of))
        few = len(index) - len(index := thin(index))
        z, own = [bank.test.numpy()[shown[index]]], np.zeros((0, 2), int)
        if train:
            rows = [np.flatnonzero(labels == c)[: frames.TRAIN] for c in of]
            places = np.concatenate([np.arange(len(r)) for r in rows])
            rows, places = thin(np.concatenate(rows)), thin(places)
            z.append(bank.train[0].numpy()[rows])
            own = np.stack([labels[rows], places], 1)
        return np.concatenate(z), index, own, few
