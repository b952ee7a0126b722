"""A folder of runs as a folder of static HTML: the comparison, every run's notebooks, an index. Needs no network.

OUT/  index.html  06_compare_runs.html  runs/<run>/<notebook>.html  made.json (what was made from what)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic, write_json
from h2t.lab.books import execute as notebooks
from h2t.runs import Run
from h2t.study.compare.table import find, table
from h2t.study.report import pages as page_html

BOOK = "06_compare_runs"


def report(
    root: str | Path,
    out: str | Path = "",
    parameters: dict[str, Any] | None = None,
    *,
    progress: bool = True,
) -> Path:
    """Run notebook 06 on a folder of runs and render it, and every run's executed notebooks, to static HTML.

    What has not changed since the last report is not done again. Code is hidden, one click away. All links are
    relative and all pictures are in the pages, so that the folder can be mailed or put on any web server.

    Arguments: ``root`` a folder of runs, or one run; ``out`` folder, by default ``report`` under ``root``;
    ``parameters`` of notebook 06. Returns: the index page.
    Raises: ``h2t.Error`` where there is no finished run, a parameter is wrong, or a folder cannot be written.
    """
    root = resolve(root)
    out = resolve(out) if str(out) else root / "report"
    if not root.is_dir():
        raise Error(f"there is no folder of runs {root}")
    _check_out(root, out)
    given = {**(parameters or {}), "root": str(root)}
    book = notebooks.find() / f"{BOOK}.ipynb"
    notebooks.check(given, [book])
    rows = table(root, copies=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise Error(f"cannot make the folder {out}: {e.strerror}") from None
    executed = _compare(root, book, given, progress)
    sources = {f"{BOOK}.html": executed}
    for folder, _ in sorted(find(root)):
        name = Path(folder).relative_to(root).as_posix()
        for notebook in sorted(Path(folder).glob("notebooks/*.ipynb")):
            if notebook != executed and not notebook.name.endswith(".part.ipynb"):
                sources[
                    f"runs/{name}/{notebook.stem}.html"
                    if name != "."
                    else f"runs/{notebook.stem}.html"
                ] = notebook
    with _bar(len(sources), progress) as advance:
        damaged = _render(sources, out, root, advance)
    pages = {name: source for name, source in sources.items() if name not in damaged}
    index = out / "index.html"
    write_atomic(
        index,
        page_html.index(
            rows, pages, [*rows.attrs["skipped"], *damaged.values()], str(root)
        ).encode(),
    )
    return index


def _check_out(root: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise Error(f"{out} is a file; name a folder for the report")
    if out == root or (out / "split.json").exists() or (out / "stage1").exists():
        raise Error(f"{out} holds runs; give the report a folder of its own")
    if out.is_dir() and any(out.iterdir()) and not (out / "made.json").exists():
        raise Error(f"{out} holds other files; give the report a new folder, or an empty one")


def _compare(root: Path, book: Path, given: dict[str, Any], progress: bool) -> Path:
    """Execute notebook 06, unless the table, the notebook, the package and the parameters are those of last time."""
    run, reads = Run(root, kind=""), hashlib.sha256((root / "table.csv").read_bytes()).hexdigest()
    with run.lock("notebooks"):
        if not notebooks.done(run, book, given, reads):
            with _bar(len(notebooks.code_cells(book)) + 1, progress, BOOK) as advance:
                notebooks.execute(run, book, given, notebooks.counting(lambda: advance(1)), reads)
    return root / "notebooks" / book.name


def _render(sources: dict[str, Path], out: Path, root: Path, advance: Callable) -> dict[str, str]:
    """Write the pages whose notebooks are new or changed, and remove those whose notebooks are gone.

    Returns: what could not be rendered, page name to a sentence.
    """
    record, damaged = out / "made.json", {}
    try:
        before = json.loads(record.read_text())
    except (OSError, ValueError):
        before = {}
    style = hashlib.sha256(Path(page_html.__file__).read_bytes()).hexdigest()
    made, export = {}, None
    for name, source in sources.items():
        status = source.stat()
        key = f"{status.st_size} {status.st_mtime_ns} {style}"
        advance(0, name[-40:])
        if before.get(name) != key or not (out / name).exists():
            export = export or page_html.exporter()
            try:
                text = page_html.notebook(export, source, name, _title(root, source))
            except (
                Exception
            ) as e:  # nbconvert and nbformat raise whatever a damaged file makes them
                damaged[name] = (
                    f"{source.relative_to(root).as_posix()}: cannot be rendered ({type(e).__name__}: {' '.join(str(e).split())[:100]})"
                )
                advance(1)
                continue
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out / name, text.encode("utf-8", "replace"))
            write_json(record, {**before, **made, name: key}) if len(made) % 50 == 0 else None
        made[name] = key
        advance(1)
    write_json(record, made)
    for name in set(before) - set(made):
        (out / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            (out / name).parent.rmdir()
    return damaged


def _title(root: Path, source: Path) -> str:
    run = source.parent.parent.relative_to(root).as_posix()
    return source.stem if run == "." else f"{run}: {source.stem}"


@contextlib.contextmanager
def _bar(total: int, progress: bool, what: str = "pages"):
    """A bar over cells or pages. Yields: a function that goes on by a number of them and says what is being made."""
    from tqdm import tqdm

    with (
        tqdm(
            total=total,
            desc=what,
            disable=not progress,
            bar_format="{l_bar}{bar:20}| {n_fmt}/{total_fmt} {elapsed}{postfix}",
        ) as bar,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of nbconvert, about pictures without an alternative text

        def advance(n: int, say: str = "") -> None:
            bar.update(n)
            if say:
                bar.set_postfix_str(say)

        yield advance
