"""Files: where they lie, whose they are, how they are written, linked and removed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from h2t.base.errors import Error

TEMPORARY = ".h2t-tmp"
MARK = "h2t.json"


def resolve(path: str | Path) -> Path:
    """Make a path absolute; a relative one starts at the project, also in ``notebooks/``.

    Raises: ``h2t.Error`` where no file can be called that.
    """
    base = Path.cwd()
    # a checkout's notebooks, or a working copy of them
    if base.name == "notebooks" and ((base.parent / "h2t").is_dir() or owned(base, "notebooks")):
        base = base.parent
    try:
        whole = (base / Path(path).expanduser()).resolve()
        whole.exists()  # asks the system, which refuses names that are too long
    except PermissionError:
        return whole
    except (ValueError, RuntimeError, OSError) as e:
        why = getattr(e, "strerror", None) or e
        raise Error(f"no file can be called {str(path)[:80]!r}: {why}; name another") from None
    return whole


def write_atomic(path: str | Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, flush it to disk and rename it.

    A reader sees the old file or the new one, never half of either.

    Arguments: ``content`` the bytes, or a function that writes them to an open binary file.
    Raises: ``h2t.Error`` where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as f:
            if callable(content):
                content(f)
            else:
                f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except Exception as e:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(e, Error):
            raise
        # torch.save wraps a failed write in a RuntimeError of its own
        cause = e if isinstance(e, OSError) else e.__cause__ or e.__context__
        if isinstance(cause, OSError) or "write" in str(e):
            why = getattr(cause, "strerror", None) or str(e)
            mend = "free some disk space or choose another folder, then run again"
            raise Error(f"cannot write {path}: {why}; {mend}") from None
        raise


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_yaml(path: Path, value: Any) -> None:
    write_atomic(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode())


def link(source: Path, target: Path) -> None:
    """Put a file into another folder too: a hard link where the file system has them, else a copy.

    Whatever is written later goes to a new file and is renamed, so neither place ever sees the
    other's changes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
        # renaming a link onto another link of the same file leaves both
        temporary.unlink(missing_ok=True)
    except OSError:
        write_atomic(target, source.read_bytes())


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Do what several processes may find undone, such as a download, one process at a time.

    The others wait, and then find it done. Arguments: ``file`` the lock, there while it is held.
    Raises: ``OSError`` where it cannot be made.
    """
    import filelock

    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file):
        try:
            yield
        finally:
            # who waits for this one still gets it; who comes now makes another, and both find
            # the work done
            with contextlib.suppress(OSError):
                file.unlink()


@contextlib.contextmanager
def held(file: Path, what: str) -> Iterator[None]:
    """Hold a lock that nobody waits for. Raises ``h2t.Error`` where another process holds it."""
    import filelock

    lock = filelock.FileLock(file, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise Error(f"{what} is in use by another process; wait for it or choose another") from None
    except OSError as e:
        raise Error(f"cannot lock {what}: {e.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def owned(folder: Path, kind: str) -> bool:
    """Whether h2t made a folder as what ``kind`` says (run, sweep, report, notebooks).

    A folder is h2t's where it holds the mark h2t.json, which is written into it first, before
    anything else. Only then may h2t change or remove what lies in it.
    """
    try:
        mark = json.loads((folder / MARK).read_bytes()[:1000])
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(mark, dict) and mark.get("h2t") == kind


def claim(folder: Path, kind: str) -> None:
    """Make a folder and mark it as h2t's (``owned``), or find it marked.

    Raises: ``h2t.Error``, and nothing in it is changed, where it holds anything of others, or
    cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        inside = [p.name for p in folder.iterdir()]
    except FileExistsError:
        raise Error(f"{kind} {folder} is a file; name a directory") from None
    except OSError as e:
        raise Error(f"cannot make the folder {folder}: {e.strerror}; name another") from None
    if owned(folder, kind):
        return
    if not all(map(unmarked, inside)):
        raise Error(
            f"{folder} is not empty and is no {kind} that h2t made, so nothing in it is touched; "
            "name a new folder, or an empty one"
        )
    write_json(folder / MARK, {"h2t": kind, "version": 1})
    clean(folder)


def unmarked(name: str) -> bool:
    """Whether a file was left by a writer that was killed before it could mark its folder."""
    return name.startswith(f"{MARK}.") and name.endswith(TEMPORARY)


def clean(folder: Path) -> None:
    """Remove what killed writers left behind in a folder of h2t's; who still writes is let be."""
    import psutil

    for leftover in folder.glob(f"*{TEMPORARY}"):
        writer = leftover.name.removesuffix(TEMPORARY).rpartition(".")[2]
        if not writer.isdecimal() or len(writer) > 9:  # no process of any system
            continue
        # not by os.kill(writer, 0), which on Windows ends it
        if int(writer) == os.getpid() or not psutil.pid_exists(int(writer)):
            leftover.unlink(missing_ok=True)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the files of these names, and the folder where nothing else lies in it.

    What others put there stays. A name may lead into a subfolder; one that leads out of the folder,
    or through a link, is left alone. Raises: ``h2t.Error`` where a file cannot be removed.
    """
    top = folder.resolve()
    for name in names:
        file = folder / name
        try:
            if file.parent.resolve() == (top / name).parent and top in (top / name).parents:
                file.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            continue  # it is not there, or no file's name
        except OSError as e:
            raise Error(f"cannot remove {str(file)[:300]}: {e.strerror}") from None
    clean(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()
