"""Front ends of ``static/`` as one script each, and as pages that need nothing else."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import re
from collections.abc import Iterable
from pathlib import Path
from string import Template

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.lab.payload import join

STATIC = Path(__file__).parent / "static"
MARK = b'<meta name="generator" content="h2t">'  # of a page that h2t wrote
IMPORT = re.compile(r'^import [^;]*? from "\./(\w+)\.js";\n', re.MULTILINE)


@functools.cache
def script(entry: str) -> str:
    """``entry`` and the modules that it imports as one ES module, in one scope."""
    texts: dict[str, str] = {}

    def add(name: str) -> None:
        text = (STATIC / f"{name}.js").read_text(encoding="utf-8")
        for used in IMPORT.findall(text):
            if used not in texts:
                add(used)
        texts[name] = re.sub(r"^export (?!default)", "", IMPORT.sub("", text), flags=re.MULTILINE)

    add(entry)
    return "\n".join(texts.values())


@functools.cache
def style() -> str:
    return (STATIC / "style.css").read_text(encoding="utf-8")


def page(title: str, entry: str, frames: Iterable[bytes] = ()) -> bytes:
    """A page: with ``frames`` it needs nothing else, without it asks the server it came from."""
    packed = base64.b64encode(gzip.compress(join(frames), 9)).decode() if frames else ""
    template = Template((STATIC / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(title),
        connect="'none'" if packed else "'self'",
        style=style(),
        script=script(entry),
        frames=packed,
    ).encode()


def write(file: str | Path, text: bytes) -> Path:
    """Write a page. Returns: the file. Raises as ``writable``."""
    file = writable(file)
    write_atomic(file, text)
    return file


def writable(file: str | Path) -> Path:
    """The path of a page to write. Raises ``h2t.Error`` where none can be, or another's file is."""
    file = resolve(file)
    if file.is_dir() or not file.parent.is_dir():
        raise Error(f"cannot write {file}; name a file in a folder that is there")
    if file.exists() and MARK not in file.read_bytes()[:1000]:
        raise Error(f"{file} is there and no page of h2t; name another file, or move it away")
    return file
