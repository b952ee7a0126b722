"""A folder of runs as a folder of static HTML, which needs no network.

OUT/  h2t.json, the mark that h2t made it
      index.html  06_compare_runs.html  runs/<run>/<notebook>.html
      made.json   what was made from what
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.files import claim, remove, resolve, write_atomic, write_json
from h2t.base.progress import bar
from h2t.base.readers import read_json, sha256
from h2t.lab.books import execute as notebooks
from h2t.lab.books.apart import execute_apart
from h2t.runs import Run
from h2t.study.compare.table import find, table
from h2t.study.report import pages

BOOK = "06_compare_runs"


def report(
    root: str | Path,
    out: str | Path = "",
    parameters: dict[str, Any] | None = None,
    *,
    progress: bool = True,
) -> Path:
    """Run notebook 06 on a folder of runs and render it, and every run's notebooks, to HTML.

    What has not changed since the last report is not done again. The folder can be mailed or put on
    any web server.

    Arguments: ``root`` a folder of runs, or one run; ``out`` folder, by default ``report`` under
    ``root``; ``parameters`` of notebook 06. Returns: the index page.
    Raises: ``h2t.Error`` where there is no finished run, a parameter is wrong, or ``out`` holds
    what h2t has not made.
    """
    root = resolve(root)
    if "://" in str(out):
        raise Error(f"the report cannot be written to {out}; name a folder with --out")
    out = resolve(out) if str(out) else root / "report"
    if not root.is_dir():
        raise Error(f"there is no folder of runs {root}")
    given = {**(parameters or {}), "root": str(root)}
    book = notebooks.find() / f"{BOOK}.ipynb"
    notebooks.check(given, [book])
    rows = table(root, copies=True)
    claim(out, "report")
    executed = _compare(root, book, given, progress)
    sources = _sources(root, executed, pages.shared(rows))
    damaged = _render(sources, out, root, progress)
    made = [name for name in sources if name not in damaged]
    problems = [*rows.attrs["skipped"], *damaged.values()]
    write_atomic(out / "index.html", pages.index(rows, made, problems, root).encode())
    return out / "index.html"


def _sources(root: Path, executed: Path, shared: set[str]) -> dict[str, Path]:
    """The notebooks to render, by the names of their pages; those of shared runs are in others."""
    sources = {f"{BOOK}.html": executed}
    for folder, _ in sorted(find(root)):
        run = Path(folder).relative_to(root)
        for notebook in sorted(Path(folder).glob("notebooks/*.ipynb")):
            passing = notebook == executed or notebook.name.endswith(".part.ipynb")
            if not passing and run.as_posix() not in shared:
                sources[f"{(Path('runs') / run / notebook.stem).as_posix()}.html"] = notebook
    return sources


def _compare(root: Path, book: Path, given: dict[str, Any], progress: bool) -> Path:
    """Execute notebook 06, unless table, notebook, package and parameters are as before."""
    run, reads = Run(root, create=False, kind=""), sha256(root / "table.csv")
    with run.lock("notebooks"):
        execute_apart(run, [book], given, reads=reads, progress=progress)
    return root / "notebooks" / book.name


def _render(sources: dict[str, Path], out: Path, root: Path, progress: bool) -> dict[str, str]:
    """Write the pages whose notebooks are new or changed, and remove those whose are gone.

    Returns: what could not be rendered, page name to a sentence.
    """
    record, made, damaged = out / "made.json", {}, {}
    before = read_json(record) if record.exists() else {}
    for name, source in bar(sources.items(), desc="pages", progress=progress):
        status = source.stat()
        key = f"{status.st_size} {status.st_mtime_ns} {pages.look()}"
        if before.get(name) != key or not (out / name).exists():
            try:
                text = pages.notebook(source, name, _title(root, source), set(sources))
            except Exception as e:  # of nbformat and nbconvert, whatever a damaged file makes them
                why = f"{type(e).__name__}: {' '.join(str(e).split())[:100]}"
                where = source.relative_to(root).as_posix() if root in source.parents else source
                damaged[name] = f"{where}: cannot be rendered ({why})"
                continue
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out / name, text.encode("utf-8", "replace"))
        made[name] = key
    write_json(record, made)
    for name in set(before) - set(made):
        place = (out / name).parent
        remove(out, [name])
        if place != out and out in place.parents:
            remove(place, [])  # the folder, where it is empty now
    return damaged


def _title(root: Path, source: Path) -> str:
    run = source.parent.parent
    if root not in run.parents:  # of one run, or of none: the comparison
        return source.stem
    return f"{run.relative_to(root).as_posix()}: {source.stem}"
