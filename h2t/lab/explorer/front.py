"""The front end's files as one script, and as a page: for a server, or with all frames in it."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import re
from pathlib import Path
from string import Template

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.lab.explorer import frames
from h2t.lab.explorer.engine import Explorer, State
from h2t.lab.explorer.payload import join
from h2t.lab.explorer.session import Session

STATIC = Path(__file__).parent / "static"
MODULES = ("frame", "store", "plane", "draw", "figures", "tabs", "layout", "app")
MOST = 7_900_000  # bytes of a saved page
THUMBNAILS = ((64, 60), (32, 50), (32, 35), (32, 20), (24, 20), (16, 20))  # side and quality


@functools.cache
def script(entry: str) -> str:
    """The modules and ``entry`` as one ES module: imports from one another go, for all is in one
    scope."""
    parts = [(STATIC / f"{name}.js").read_text(encoding="utf-8") for name in (*MODULES, entry)]
    text = re.sub(r"^import [^;]*;\n", "", "\n".join(parts), flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE)


@functools.cache
def style() -> str:
    return (STATIC / "explorer.css").read_text(encoding="utf-8")


def page(title: str, packed: str = "") -> str:
    """The page: with ``packed`` frames it needs nothing else, without it asks the server that it
    came from."""
    template = Template((STATIC / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(title),
        connect="'none'" if packed else "'self'",
        style=style(),
        script=script("page"),
        frames=packed,
    )


def save_page(engine: Explorer, file: str | Path, state: State | None = None) -> Path:
    """Write the explorer as one file that opens anywhere, without a server, a kernel or a
    network.

    It holds the classifiers of all positions for the state's recipe, quantised features, the map
    and thumbnails, as large as ``MOST`` bytes allow. Returns: the file. Raises: ``h2t.Error`` where
    the file cannot be written.
    """
    file = resolve(file)
    if file.is_dir() or not file.parent.is_dir():
        raise Error(f"cannot write {file}; name a file in a folder that is there")
    session = Session(engine, state, live=False)
    try:
        session.finish()
        feed = {slot: frame for slot, (_, frame) in session.feed.frames.items()}
    finally:
        session.close()
    held = list(feed.values())
    held += [frames.of_class(engine, c) for c in range(len(engine.bank.counts))]
    shown = engine.shown()
    for side, quality in THUMBNAILS:
        pictures = [
            frames.images(engine, part, side, quality)
            for part in np.array_split(shown, -(-len(shown) // 20_000))
        ]
        packed = base64.b64encode(gzip.compress(join(held + pictures), 9)).decode()
        text = page(f"Fusion explorer: {engine.run.path.name}", packed).encode()
        if len(text) <= MOST:
            break
    else:
        packed = base64.b64encode(gzip.compress(join(held), 9)).decode()
        text = page(f"Fusion explorer: {engine.run.path.name}", packed).encode()
    write_atomic(file, text)
    return file
