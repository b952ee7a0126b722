"""The pages of a report: notebooks with their code folded away, and an index of runs; no script,
font or picture comes from anywhere else."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

from h2t.base.tables import number
from h2t.recipes.names import order
from h2t.study.compare.groups import METHOD, SEEDS, SETTING, text

HERE = Path(__file__).parent
# Pictures and tables; a widget's live view needs a server, what it shows instead does not.
_SHOWN = ["text/html", "image/svg+xml", "image/png", "image/jpeg"]
_SHOWN += ["text/markdown", "text/latex", "text/plain"]
_WIDGET = "application/vnd.jupyter.widget-view+json"


@functools.cache
def look() -> str:
    """A hash of all that makes pages look as they do."""
    files = [f for f in sorted(HERE.glob("*.*")) if f.is_file()]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()


@functools.cache
def _template(name: str):
    from jinja2 import Environment, FileSystemLoader

    how = dict(trim_blocks=True, lstrip_blocks=True, autoescape=True)
    return Environment(loader=FileSystemLoader(HERE), **how).get_template(name)


@functools.cache
def _exporter():
    """nbconvert's exporter of a notebook's body."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.HTMLExporter.preprocessors = []
    config.NbConvertBase.display_data_priority = _SHOWN
    cell = (HERE / "cell.html.j2").read_text(encoding="utf-8")
    how = dict(exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True)
    return HTMLExporter(config=config, raw_template=cell, **how)


def notebook(source: Path, name: str, title: str, pages: set[str]) -> str:
    """An executed notebook as the page ``name``; links between notebooks lead to ``pages``."""
    import nbformat
    from pygments.formatters import HtmlFormatter

    book = nbformat.read(source, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell["outputs"] = [o for o in cell.get("outputs", []) if _shown(o)]
        else:
            cell.pop("outputs", None)
            cell["source"] = _linked(cell["source"], name, pages)
    book.metadata.pop("widgets", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pictures without an alternative text
        where = {"metadata": {"path": str(source.parent)}}
        body, _ = _exporter().from_notebook_node(book, resources=where)
    index = "../" * name.count("/") + "index.html"
    highlight = HtmlFormatter(style="friendly", nobackground=True).get_style_defs(".highlight")
    return _template("notebook.html.j2").render(
        title=title, index=index, body=body, highlight=highlight
    )


def _shown(output: dict) -> bool:
    """Whether an output is for people; what of it is not goes."""
    data = output.get("data", {})
    if data.pop(_WIDGET, None) and not any(k.startswith("image/") for k in data):
        data.clear()  # a progress bar: its text is that of its first moment
    data.pop("application/javascript", None)
    return output["output_type"] not in ("display_data", "execute_result") or bool(data)


def _linked(text: str, name: str, pages: set[str]) -> str:
    """A Markdown text whose links to notebooks lead to their pages, where there are any."""
    folder = name.rpartition("/")[0]

    def link(found: re.Match) -> str:
        for page in (f"{folder}/{found[2]}.html".lstrip("/"), f"{found[2]}.html"):
            if page in pages:
                return f"[{found[1]}]({os.path.relpath(page, folder or '.')})"
        return found[1]

    return re.sub(r"\[([^\]]+)\]\((\w+)\.ipynb\)", link, text)


def index(rows, pages: list[str], problems: list[str], root: Path) -> str:
    """The index: a link to the comparison, a row a run with what sets it apart, and ``problems``.

    Arguments: ``rows`` of ``h2t.study.compare.table.table`` with copies; ``pages`` names of all.
    """
    listed = rows[~rows["run"].isin(shared(rows))]
    columns, methods = _varying(listed), sorted(listed["method"].unique(), key=order)
    books: dict[str, list[tuple[str, str]]] = {}
    for page in sorted(pages):
        folder, _, stem = page.rpartition("/")
        if folder.startswith("runs"):
            books.setdefault(folder[5:] or ".", []).append((stem.removesuffix(".html"), page))
    runs = [
        {
            "name": root.name if name == "." else name,
            "settings": [text(part.iloc[-1][c]) for c in columns],
            "methods": [_accuracy(part[part["method"] == m]) for m in methods],
            "seconds": text(part[~part["copy"]]["seconds"].sum().round()),
            "pages": books.get(name, []),
        }
        for name, part in listed.groupby("run", sort=True)
    ]
    unfinished = [(name, books[name]) for name in sorted(set(books) - set(listed["run"]))]
    return _template("index.html.j2").render(
        name=root.name,
        steps=int((~rows["copy"]).sum()),
        problems=problems,
        runs=runs,
        columns=columns,
        methods=methods,
        unfinished=unfinished,
    )


def shared(rows) -> set[str]:
    """Runs that are there for others only: every step of theirs is held by another run too."""
    copies = rows[["run", "adopted_from"]].dropna().itertuples(index=False)
    held = {os.path.normpath(f"{run}/{source}") for run, source in copies}
    whole = {r: {f"{r}/{step}" for step in part["step"]} for r, part in rows.groupby("run")}
    return {run for run, steps in whole.items() if steps <= held}


def _varying(rows) -> list[str]:
    """The parameters that tell the runs apart."""
    each, always = rows.groupby("run"), ("fusion_ratio", "seed")
    known = [c for c in (*SETTING, *METHOD, *SEEDS) if c in rows and rows[c].nunique() > 1]
    found = [c for c in known if c in always or each[c].nunique().max() == 1]
    same = {c for c in found if c.startswith("stage1_") and c[7:] in found}
    return [c for c in found if c not in same or (rows[c] != rows[c[7:]]).any()]


def _accuracy(steps) -> dict[str, Any]:
    """A run's accuracy by one method, or from the lowest to the highest of several."""
    low, high = steps["all"].min(), steps["all"].max()  # NaN where there is none
    several = high - low >= 0.005
    text = f"{number(low, 1)}–{number(high, 1)}" if several else number(low)
    return {"text": text, "copied": bool(len(steps) and steps["copy"].all())}
