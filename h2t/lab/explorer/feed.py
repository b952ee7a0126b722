"""Frames on their way from the threads that make them to whoever shows them."""

from __future__ import annotations

import threading
from collections.abc import Callable

KEPT = 60  # frames of classes and images that a feed remembers


class Feed:
    """The newest frame of each slot, numbered, for any number of readers."""

    def __init__(self):
        self.frames: dict[str, tuple[int, bytes]] = {}  # the newest last
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
        """The number to ask from next, and the frames after one; waits at most so long."""
        with self.changed:
            self.changed.wait_for(lambda: self.last > number, seconds)
            return self.last, [f for n, f in self.frames.values() if n > number]
