"""The explorer as a page: with a session behind it, or saved as one file."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from h2t.lab import front
from h2t.lab.explorer import frames
from h2t.lab.explorer.engine import SAVED, Explorer
from h2t.lab.explorer.session import Session

MOST = 7_900_000  # bytes of a saved page
# side and quality of a saved page's pictures, none as the last resort
THUMBNAILS = ((64, 60), (32, 50), (32, 35), (32, 20), (24, 20), (16, 20), None)


def page(engine: Explorer, made: tuple[bytes, ...] = ()) -> bytes:
    """A page with the frames that were made for it, or one that asks its server for them."""
    return front.page(f"Fusion explorer: {engine.run.path.name}", "explorer_page", made)


def save(engine: Explorer, file: str | Path) -> Path:
    """Write the explorer as one file that opens anywhere, without a network.

    All classes' features are in it, and thumbnails as large as ``MOST`` bytes allow. Returns: the
    file. Raises as ``front.writable``.
    """
    engine = copy.copy(engine)
    engine.limit(SAVED)
    session = Session(engine, live=False)
    try:
        session.finish()
        made = [frame for _, frame in session.feed.frames.values()]
    finally:
        session.close()
    made += [frames.of_class(engine, c) for c in range(len(engine.bank.counts))]
    shown = engine.shown()
    parts = np.array_split(shown, -(-len(shown) // 20_000))
    for size in THUMBNAILS:
        pictures = [frames.images(engine, part, *size) for part in parts] if size else []
        text = page(engine, (*made, *pictures))
        if len(text) <= MOST:
            break
    return front.write(file, text)
