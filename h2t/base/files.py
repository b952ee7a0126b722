"""Atomic writes: a reader sees the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from h2t.base.errors import Error

TEMPORARY = ".h2t-tmp"


def write_atomic(path: str | Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, flush it to disk and rename it.

    Arguments: ``path``; ``content`` the bytes, or a function that writes them to an open binary file.
    Raises: ``h2t.Error`` naming the file where the disk is full or the folder cannot be written; what was there before
    stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
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
        cause = e if isinstance(e, OSError) else e.__cause__ or e.__context__
        # torch.save wraps a failed write in a RuntimeError of its own
        if isinstance(cause, OSError) or "write" in str(e):
            why = getattr(cause, "strerror", None) or str(e)
            raise Error(
                f"cannot write {path}: {why}; free some disk space or choose another run folder, then run again"
            ) from None
        raise


def link(source: Path, target: Path) -> None:
    """Put a file into another folder too: a hard link where the file system has them, else a copy. Whatever is written later
    goes to a new file and is renamed, so neither place ever sees the other's changes.

    Raises: ``h2t.Error`` as ``write_atomic`` does.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}{TEMPORARY}")
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
        temporary.unlink(
            missing_ok=True
        )  # renaming a link onto another link of the same file leaves both
    except OSError:
        write_atomic(target, source.read_bytes())


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Do what several processes at once may find undone, such as a download or a cache, one process at a time: the others wait,
    and then find it done. Arguments: ``file`` the lock, there only while it is held. Raises: ``OSError`` where it cannot be made."""
    import filelock

    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file):
        try:
            yield
        finally:  # who waits for this one still gets it; who comes now makes another, and both find the work done
            with contextlib.suppress(OSError):
                file.unlink()


def clean(folder: Path) -> None:
    """Remove what killed writers left behind in a folder."""
    for leftover in folder.glob(f"*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)
