"""Notebooks in a process of their own, which may be killed, and started from anywhere.

It takes a task as a line of JSON, answers with what is wrong, and ends with who holds its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.machine import DEVICE
from h2t.base.progress import bar as progress_bar
from h2t.lab.books.execute import complete, done, execute, state
from h2t.pipeline import begun, check_files, forget
from h2t.runs import Run

ATTEMPTS = 2  # of a process that is killed; an error would come again
BAR = "{l_bar}{bar:20}| {elapsed}{postfix}"


def run_recipe(
    parameters: dict[str, Any], notebooks: list[Path], *, again: bool, device: str
) -> Run:
    """Run notebooks 01 to 04 into one run directory; what is done already is not run again.

    Raises: as ``execute_apart``.
    """
    whole = complete(parameters, notebooks)
    if again or not begun(whole["run"]):
        check_files(whole)
    run = Run(whole["run"])
    if again:
        forget(run)
    with run.lock("notebooks"):
        execute_apart(run, notebooks, parameters, device=device)
    return run


def execute_apart(
    run: Run,
    notebooks: list[Path],
    parameters: dict[str, Any],
    *,
    device: str = "auto",
    reads: str = "",
    progress: bool = True,
) -> None:
    """Execute those of some notebooks that a run does not hold yet, as ``execute``.

    Raises: ``h2t.Error`` as ``execute``, where papermill is not installed, and where the process
    was killed twice.
    """
    if find_spec("papermill") is None:
        raise Error("papermill is not installed, so notebooks cannot run; train with --plain")
    environment = os.environ | ({} if device == "auto" else {DEVICE: device})

    def todo() -> list[Path]:
        return [nb for nb in notebooks if not done(run, nb, parameters, reads)]

    if not todo():
        return
    how = {"total": len(notebooks), "unit": "notebook", "bar_format": BAR, "progress": progress}
    with progress_bar(**how) as bar:

        def show() -> None:
            left = todo()
            bar.n = len(notebooks) - len(left)
            if left:
                bar.set_description_str(left[0].stem)
            bar.set_postfix_str(state(run))

        for _ in range(ATTEMPTS):
            task = {"run": str(run.path), "todo": list(map(str, todo()))}
            task |= {"parameters": parameters, "reads": reads}
            code = _followed(task, environment, show)
            if code == 0:
                return show()
            if code > 0:  # it would come again
                break
    shows = f"{run.path / 'notebooks'} shows how far it came"
    raise Error(f"the process of the notebooks ended with code {code} (out of memory?); {shows}")


def _followed(task: dict[str, Any], environment: dict[str, str], show: Callable[[], None]) -> int:
    """Do a task in a process. Returns: its exit code."""
    command = [sys.executable, "-m", "h2t.lab.books.apart"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, encoding="utf-8", **pipes) as process:
        process.stdin.write(json.dumps(task, default=str) + "\n")
        process.stdin.flush()
        while process.poll() is None:
            show()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        if message := process.stdout.read():
            raise Error(message)
    return process.returncode


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run = Run(task["run"], create=False, kind="")
    with answer:
        try:
            for book in map(Path, task["todo"]):
                execute(run, book, task["parameters"], task["reads"])
        except Error as e:
            answer.write(str(e)[:9999])  # what a pipe takes before anybody reads it


def _end_with_parent() -> None:
    while os.read(0, 1024):  # not by sys.stdin, whose lock would be held where Python ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
