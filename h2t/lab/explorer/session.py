"""An explorer at work: one thread trains what is asked for, another makes maps; what they find goes to a feed of frames."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import write_yaml
from h2t.lab.explorer import frames
from h2t.lab.explorer.embedding import MIN_POINTS, fit_map, pca
from h2t.lab.explorer.engine import SEEDS, Explorer, State, within
from h2t.lab.explorer.payload import pack, unpack
from h2t.recipes.parameters import Stage2
from h2t.runs import check_variant
from h2t.train.cached import fit as fitting

KEPT = 60  # frames of classes and images that a feed remembers
MAP_POINTS = 20_000  # t-SNE of more would take minutes
PICTURES = 20_000_000  # bytes of a figure that is saved, at most
LARGE = 200_000_000  # numbers at work in one batched product


class Feed:
    """The newest frame of each slot, numbered, for any number of readers."""

    def __init__(self):
        self.frames: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self.changed, self.last = threading.Condition(), 0
        self.readers: list[Callable[[bytes], None]] = []

    def put(self, slot: str, frame: bytes) -> None:
        with self.changed:
            self.last += 1
            self.frames.pop(slot, None)
            self.frames[slot] = (self.last, frame)
            passing = [s for s in self.frames if s.startswith(("class-", "images-"))]
            for old in passing[:-KEPT]:
                del self.frames[old]
            self.changed.notify_all()
        for reader in list(self.readers):
            reader(frame)

    def drop(self, start: str) -> None:
        with self.changed:
            for slot in [s for s in self.frames if s.startswith(start)]:
                del self.frames[slot]

    def since(self, number: int, seconds: float = 0) -> tuple[int, list[bytes]]:
        """The frames after a number, and the number to ask from next; waits for one at most so long."""
        with self.changed:
            self.changed.wait_for(lambda: self.last > number, seconds)
            return self.last, [f for n, f in self.frames.values() if n > number]


class Stopped(Exception):
    """A newer request has come, or the session is closed."""


class Session:
    """An explorer with its threads and its feed. ``close`` ends both.

    The newest request wins: an older one's fit ends with the epoch in which it is. At most one fit and one map are made at a time.

    Arguments: ``engine``; ``state`` to start from (the engine's by default); ``live`` whether somebody can ask for more.
    """

    def __init__(self, engine: Explorer, state: State | None = None, live: bool = True):
        self.engine, self.state, self.feed = engine, state or engine.start, Feed()
        self.origin, self.recipe = self.state, self.state.recipe
        self._wanted, self._closed = threading.Event(), False
        self._mapped, self._map = threading.Event(), {"classes": None, "train": False}
        self._asked, self._answers, self._lock = 0, 0, threading.RLock()
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
        """Wait until everything that was asked for is there, the map too. Raises ``h2t.Error`` for what went wrong."""
        self.idle.wait()
        self.settled.wait()
        if (answer := self.feed.frames.get("status")) is not None:
            meta = unpack(answer[1])[0]
            if meta["about"] == "work":
                raise Error(meta["text"])

    # -- requests ----------------------------------------------------------------------------------------------------

    def ask(self, recipe: Stage2) -> None:
        """Train for a recipe from now on. Raises ``h2t.Error`` for one beyond the explorer's limits."""
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
            if what == "settings":
                self._settings(message)
            elif what == "class":
                self._class(message)
            elif what == "images":
                self._images(message)
            elif what == "map":
                self._map = {k: message.get(k) for k in ("classes", "train")}
                self._mapped.set()
            elif what == "save":
                self._save(message)
        except (Error, KeyError, TypeError, ValueError, OverflowError) as e:
            text = str(e) if isinstance(e, Error) else f"the request was not understood: {e}"
            self.say(what, text, bad=True)

    def say(self, about: str, text: str, bad: bool = False) -> None:
        self._answers += 1
        meta = {"about": str(about), "text": text, "bad": bad, "number": self._answers}
        self.feed.put("status", pack("status", meta))

    def _settings(self, message: dict[str, Any]) -> None:
        wanted = {k: message[k] for k in frames.SETTINGS}
        self.ask(dataclasses.replace(self.recipe, **wanted))
        self.say("settings", "")

    def _class(self, message: dict[str, Any]) -> None:
        c = int(message["class"])
        if not 0 <= c < len(self.engine.bank.counts):
            raise Error(f"there is no class {c}")
        self.feed.put(f"class-{c}", frames.of_class(self.engine, c))

    def _images(self, message: dict[str, Any]) -> None:
        index = np.array(message["index"][:400], np.int64)
        if len(index) and index.min() >= 0 and index.max() < len(self.engine.labels):
            self.feed.put(f"images-{self.feed.last}", frames.images(self.engine, index))

    # -- training ----------------------------------------------------------------------------------------------------

    def _guard(self, work: Callable[[], None]) -> None:
        """A thread has nobody else to tell: an error becomes a message, and the thread goes on."""
        while not self._closed:
            try:
                work()
            except Stopped:
                continue
            except Exception as e:
                self.say("work", f"{type(e).__name__}: {e}", bad=True)

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
        for count in (1, SEEDS):  # the line first, then its band
            seeds = [recipe.seed + s for s in range(count)]
            table = engine.curve(recipe, seeds, check)
            with self._lock:
                check()
                self.feed.put("curve", frames.curve(recipe, table))
        with self._lock:
            check()
            self._busy(done, True)
            self.idle.set()
        if "map" not in self.feed.frames:
            self._mapped.set()

    def _groups(self, recipe: Stage2) -> list[list[list[int]]]:
        """The positions of the slider that have one classifier in common, in groups to train at once: a coarse one first."""
        alike: dict[int, list[int]] = {}
        for p in self.engine.positions:
            alike.setdefault(self.engine.alike(recipe, p), []).append(p)
        here = round(100 * self.state.recipe.fusion_ratio)
        first = [a for a in alike.values() if here in a or any(p % 10 == 0 for p in a)]
        rest = [a for a in alike.values() if a not in first]
        most = max(1, LARGE // (8 * self.engine.bank.weight.numel()))
        size = min(most, 64)
        groups = [part[k : k + size] for part in (first, rest) for k in range(0, len(part), size)]
        return groups

    def _busy(self, done: int, curve: bool = False) -> None:
        meta = {
            "settings": frames.settings_of(self.recipe),
            "done": done,
            "of": len(self.engine.positions),
            "curve": curve,
        }
        self.feed.put("busy", pack("busy", meta))

    # -- maps --------------------------------------------------------------------------------------------------------

    def _mapping(self) -> None:
        self._mapped.wait()
        self._mapped.clear()
        wanted = self._map
        z, index, train, few = self._points(**wanted)

        def show(method: str, xy: np.ndarray, done: bool = False) -> bool:
            if self._closed or self._map is not wanted:
                raise Stopped
            meta = {**wanted, "method": method, "done": done, "few": few}
            self.feed.put("map", frames.of_map(meta, xy, index, train))
            return False

        self.settled.clear()
        try:
            if len(z) < 3:
                raise Error("a map needs classes with images")
            show("PCA", pca(z), len(z) < MIN_POINTS)
            if len(z) >= MIN_POINTS:
                found = fit_map(z, on_step=lambda xy: show("t-SNE", xy))
                show("t-SNE", found, True)
        finally:
            self.settled.set()

    def _points(self, classes, train):
        """Features for a map, where they are from, and how many test images were left out."""
        engine, bank = self.engine, self.engine.bank
        shown = engine.shown()
        of = np.ones(len(bank.counts), bool)
        if classes is not None:
            of[:] = False
            of[np.array(classes, int)] = True
        index = np.flatnonzero(of[engine.labels[shown]])
        all_tests, every = len(index), -(-len(index) // MAP_POINTS) or 1
        index = index[::every]
        z, own = [bank.test.numpy()[shown[index]]], np.zeros((0, 2), int)
        if train:
            labels = bank.labels.numpy()
            place = np.zeros(len(labels), int)
            for c in np.flatnonzero(of):
                place[labels == c] = np.arange((labels == c).sum())
            rows = np.flatnonzero(of[labels] & (place < frames.TRAIN))
            rows = rows[:: -(-len(rows) // MAP_POINTS) or 1]
            z.append(bank.train[0].numpy()[rows])
            own = np.stack([labels[rows], place[rows]], 1)
        return np.concatenate(z), index, own, all_tests - len(index)

    # -- saving ------------------------------------------------------------------------------------------------------

    def at(self, p: float, head: int, tail: int) -> State:
        """The state of a front end: the recipe that is trained for, at its ratio, with its classes."""
        recipe = dataclasses.replace(self.recipe, fusion_ratio=float(p))
        return State(recipe, int(head), int(tail))

    def _save(self, message: dict[str, Any]) -> None:
        name, what = str(message["name"]), message["what"]
        check_variant(name)
        if len(name) > 100:
            raise Error("the name is too long; use 100 letters at most")
        state = self.at(message["p"], message["head"], message["tail"])
        if what == "classifier":
            text = self.save_classifier(state, name)
        elif what == "recipe":
            text = self.save_recipe(state, name)
        else:
            text = self._save_figures(message["files"], name)
        self.say("save", text)

    def save_classifier(self, state: State, name: str) -> str:
        """Save the current classifier as the stage-2 variant of that name."""
        result = self.engine.save(state, name)
        top = result["last"]["all"]
        return (
            f"saved as {result['step']} of {self.engine.run.path}: {top:.2f} % of all test images"
        )

    def save_recipe(self, state: State, name: str) -> str:
        """Save the settings as parameters with which papermill runs notebook 05 to the same classifier."""
        file = self._folder(name) / "recipe.yaml"
        values = {
            "run": str(self.engine.run.path),
            "views": self.engine.bank.train.shape[0],
            "head_class": state.head,
            "tail_class": state.tail,
            "save_as": name,
            "settings": state.recipe.to_dict(),
        }
        write_yaml(file, values)
        return f"recipe saved: papermill notebooks/05_fusion_explorer.ipynb OUT.ipynb -f {file}"

    def _save_figures(self, files: dict[str, str], name: str) -> str:
        import base64

        from h2t.base.files import write_atomic

        folder = self._folder(name)
        for file, data in files.items():
            check_variant(file)
            if not file.endswith((".png", ".svg")) or len(data) > PICTURES:
                raise Error(f"{file[:40]} is not a figure")
            write_atomic(folder / file, base64.b64decode(data))
        return f"{len(files)} files saved in {folder}"

    def _folder(self, name: str):
        folder = self.engine.run.path / "explorer" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
