"""Notebooks in a process of their own: one for all of them, which may be killed, and started from
a script or a notebook as well as by a command.

``python -m h2t.lab.books.apart`` is that process. It takes what is to be done as a line of JSON,
answers with lines of JSON, and ends when nobody holds its standard input any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from h2t.base.errors import Error
from h2t.base.machine import DEVICE
from h2t.lab.books.cells import code_cells, declared
from h2t.lab.books.execute import complete, done, execute, state
from h2t.pipeline import begun, check_files, forget
from h2t.runs import Run

ATTEMPTS = 2  # of a process that is killed; an error would come again


def run_recipe(
    parameters: dict[str, Any],
    notebooks: list[Path],
    *,
    again: bool = False,
    progress: bool = True,
    device: str = "auto",
) -> Run:
    """Run notebooks 01 to 04 into one run directory; what is done already is not run again.

    Arguments: ``device`` to train on, auto, cpu or cuda.
    Raises: ``h2t.Error`` with the notebook's own message where a cell fails.
    """
    place = parameters.get("run") or declared(notebooks[0])["run"][0]
    if again or not begun(place):
        check_files(complete(parameters, notebooks))
    run = Run(place)
    if again:
        forget(run)
    with run.lock("notebooks"):
        todo = [nb for nb in notebooks if not done(run, nb, parameters)]
        # one cell more each: papermill injects the parameters
        with _bar(run, sum(len(code_cells(nb)) + 1 for nb in todo), progress) as advance:
            execute_apart(run, todo, parameters, advance, device=device)
    return run


@contextlib.contextmanager
def _bar(run: Run, total: int, progress: bool):
    """A bar over code cells that also says which step trains. Yields: what counts one."""
    from tqdm import tqdm

    stop, form = threading.Event(), "{l_bar}{bar:20}| {elapsed}{postfix}"
    with tqdm(total=total, unit="cell", disable=not progress, bar_format=form) as bar:

        def follow():
            while not stop.wait(0.5):
                bar.set_postfix_str(state(run), refresh=True)

        def advance(notebook: str) -> None:
            bar.set_description_str(notebook)
            bar.update()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield advance
        finally:
            stop.set()
            thread.join()
            bar.set_postfix_str("")


def execute_apart(
    run: Run,
    notebooks: list[Path],
    parameters: dict[str, Any],
    advance: Callable[[str], object],
    *,
    device: str = "auto",
    reads: str = "",
) -> None:
    """Execute those of some notebooks that a run does not hold yet, as ``execute``.

    Call under ``run.lock("notebooks")``. Arguments: ``advance`` is called with a notebook's name
    for each of its code cells; ``device`` to train on. Raises: ``h2t.Error`` as ``execute``, and
    where the process was killed twice.
    """
    # of the debugger that ipykernel loads: a warning to every terminal
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    environment |= {} if device == "auto" else {DEVICE: device}
    for _ in range(ATTEMPTS):
        todo = [str(nb) for nb in notebooks if not done(run, nb, parameters, reads)]
        task = {"run": str(run.path), "todo": todo, "parameters": parameters, "reads": reads}
        code = _followed(task, environment, advance) if todo else 0
        if code == 0:
            return
    shows = f"{run.path / 'notebooks'} shows how far it came"
    raise Error(f"the process of the notebooks ended with code {code} (out of memory?); {shows}")


def _followed(task: dict[str, Any], environment: dict[str, str], advance: Callable) -> int:
    """Do a task in a process. Returns: its exit code."""
    command = [sys.executable, "-m", "h2t.lab.books.apart"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, encoding="utf-8", **pipes) as process:
        process.stdin.write(json.dumps(task, default=str) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if "message" in answer:
                error = Error(answer["message"])
                error.notebook = answer["notebook"]
                raise error
            advance(answer["cell"])
    return process.returncode


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def answer(**said) -> None:
        answers.write(json.dumps(said) + "\n")

    try:
        for book in map(Path, task["todo"]):
            parameters, reads = task["parameters"], task["reads"]
            advance = lambda name=book.stem: answer(cell=name)  # noqa: E731
            execute(Run(task["run"], create=False, kind=""), book, parameters, advance, reads)
    except Error as e:
        answer(message=str(e), notebook=str(getattr(e, "notebook", "")))


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
