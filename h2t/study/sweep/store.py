"""A sweep's runs in an object store, such as s3://bucket/folder, for machines that share no path.

Every machine works in a scratch folder of its own, and copies runs, finished or not, to and from
the store.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from h2t.base.errors import Error
from h2t.base.files import TEMPORARY

EVERY = 60.0  # seconds between copies of a run that is at work
GROWING = ("checkpoint.pt", "metrics.jsonl")  # of one size and yet not the same
MARKS = ("result.json", "done.json")  # written last here, and so there


class Store:
    """Where the runs of a sweep lie when that is no folder.

    Arguments: ``url`` of any file system that fsspec knows; s3:// needs the extra ``s3``;
    ``scratch`` this machine's folder for the runs, by default one under ``$H2T_SCRATCH`` or the
    temporary folder.
    Raises: ``h2t.Error`` where what it takes is not installed, or the place does not answer.
    """

    def __init__(self, url: str, scratch: Path | None = None):
        self.url = url.rstrip("/")
        self._pushed: dict[str, tuple[int, int]] = {}  # name to size and time
        with self._said("reach"):
            try:
                import fsspec

                self._fs, self._path = fsspec.core.url_to_fs(self.url)
            except ImportError as e:
                install = "for s3:// use `uv run --extra s3 h2t sweep ...`"
                raise Error(f"{url} needs a package that is missing ({e}); {install}") from None
            self._fs.exists(self._path)
        user = getattr(os, "getuid", getpass.getuser)()
        own = Path(tempfile.gettempdir()) / f"h2t-{user}"
        name = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        self.scratch = scratch or Path(os.environ.get("H2T_SCRATCH") or own) / name

    def sizes(self, name: str = "") -> dict[str, int]:
        """The files of a run in the store, of all if ``name`` is empty: name to bytes."""
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            found = self._fs.find(f"{self._path}/{name}".rstrip("/"), detail=True)
            return {f[len(self._path) :].lstrip("/"): about["size"] for f, about in found.items()}
        return {}

    def pull(self, name: str = "", only: tuple[str, ...] = ()) -> None:
        """Copy a run, all if ``name`` is empty, from the store to the scratch folder, as far as it
        is not there already; ``only`` files of these names."""
        sizes = {f: n for f, n in self.sizes(name).items() if not only or Path(f).name in only}
        for file in sorted(sizes, key=_turn):
            place = self.scratch / file
            same = place.exists() and place.stat().st_size == sizes[file]
            if same and place.name not in GROWING:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f"{place.name}.{os.getpid()}{TEMPORARY}")
            with self._said("read", file):
                self._fs.get_file(f"{self._path}/{file}", str(part))
            os.replace(part, place)

    def push(self, name: str) -> None:
        """Make the store's copy of a run that of the scratch folder.

        What is new or has changed goes there, marks of being done last, and what is gone here, such
        as a checkpoint, is removed there.
        """
        files = [f for f in (self.scratch / name).rglob("*") if f.is_file()]
        files = [f for f in files if f.name[0] != "." and not f.name.endswith(TEMPORARY)]
        here = {f.relative_to(self.scratch).as_posix(): f for f in files}
        for file in sorted(here, key=_turn):
            self._put(here[file], file)
        with self._said("clear", name):
            for gone in self.sizes(name).keys() - here.keys():
                self._fs.rm_file(f"{self._path}/{gone}")

    def _put(self, file: Path, name: str) -> None:
        there = f"{self._path}/{name}"
        with self._said("write", there):
            status = file.stat()
            stamp = status.st_size, status.st_mtime_ns
            if self._pushed.get(name) != stamp:
                self._fs.makedirs(there.rpartition("/")[0], exist_ok=True)
                self._fs.put_file(str(file), there)
                self._pushed[name] = stamp

    @contextlib.contextmanager
    def following(self, name: str) -> Iterator[None]:
        """Copy a run to the store every minute while it is at work, so that a lost machine loses no
        more than that, and at the end."""
        stop = threading.Event()

        def follow():
            while not stop.wait(EVERY):
                with contextlib.suppress(Error):  # the last copy counts, and says so where it fails
                    self.push(name)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.push(name)

    @contextlib.contextmanager
    def _said(self, what: str, file: str = "") -> Iterator[None]:
        try:
            yield
        except Error:
            raise
        except Exception as e:
            why = f"{type(e).__name__}: {' '.join(str(e).split())}"
            at = f"{file} in {self.url}" if file else self.url
            raise Error(f"cannot {what} {at}: {why}") from None


def _turn(file: str) -> int:
    """When a file is copied: marks come last."""
    name = Path(file).name
    return 1 + MARKS.index(name) if name in MARKS else 0
