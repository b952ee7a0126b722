"""Kill small runs at every call that touches their files, let them go on, compare what they leave.

    python -m tests.crash                      a sample of the crash points of each kind
    python -m tests.crash --every run sweep    all crash points of these kinds
    python -m tests.crash --every inline --from 40 --to 60
    python -m tests.crash run --points 5 17

A crash point is one call of open (to write), fsync, replace, link, unlink, mkdir or rmdir below the
run's folder. The process that makes it is killed there, without a word, as by the system: the run,
the sweep or one of its jobs, or the process of the notebooks. What follows has to end with
the same files as one that was never disturbed: byte for byte, but for times.
"""

from __future__ import annotations

import argparse
import builtins
import functools
import importlib
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

SAMPLE = {"run": 6, "sweep": 2, "inline": 1}  # of each kind, in the suite
TIMES = {"seconds", "eval_seconds", "time", "environment"}
LOGS = ("log.txt", "sweep.log")
CALLS = ((os, "fsync"), (os, "replace"), (os, "link"), (os, "unlink"), (os, "mkdir"), (os, "rmdir"))
CALLS += ((builtins, "open"), (io, "open"))
WIDTH = 80  # bytes of a line in the list of calls


def counted(folder: Path, last: int, calls: Path) -> None:
    """Note every call that touches the folder's files, in this process and those forked from it.

    The call that is number ``last`` kills the process that makes it. Arguments: ``calls`` the list
    of them, a file that several processes append to.
    """
    listing = os.open(calls, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def watch(module, name):
        real = getattr(module, name)

        @functools.wraps(real)
        def call(*arguments, **how):
            mode = arguments[1] if len(arguments) > 1 else how.get("mode", "r")
            target = arguments[0] if arguments else how.get("file", "")
            if isinstance(target, int):  # a descriptor
                target = os.readlink(f"/proc/self/fd/{target}")
            writes = name != "open" or set("wax+") & set(mode)
            if writes and str(target).startswith(f"{folder}/"):
                line = f"{name} {Path(target).relative_to(folder)}"[: WIDTH - 1]
                os.write(listing, f"{line:{WIDTH - 1}}\n".encode())
                if os.lseek(listing, 0, os.SEEK_CUR) == last * WIDTH:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **how)

        setattr(module, name, call)

    for module, name in CALLS:
        watch(module, name)


def in_child(do: Callable[[], object]) -> int:
    """Do something in a process of its own. Returns: 0, 1 for an exception, or minus the signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            do()
            code = 0
        except BaseException as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def left(folder: Path) -> dict[str, bytes]:
    """Every file that a run left, without the times in them, and without locks and logs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".lock") and path.name not in LOGS:
            found[name] = _timeless(path, str(folder))
    return found


def _timeless(path: Path, folder: str) -> bytes:
    if path.name == "environment.json":
        return b""
    if path.suffix not in (".json", ".jsonl", ".yaml", ".ipynb"):
        return path.read_bytes()
    text = path.read_text().replace(folder, "FOLDER")
    if path.suffix == ".ipynb":  # a step that went on says so, and shows fewer epochs
        return json.dumps([_shown(cell) for cell in json.loads(text)["cells"]]).encode()
    if path.suffix == ".yaml":
        return text.encode()
    texts = text.splitlines() if path.suffix == ".jsonl" else [text]
    return json.dumps([_without(json.loads(text)) for text in texts]).encode()


def _shown(cell: dict) -> list:
    """A cell's source, and what kinds of things it shows that are no text."""
    shown = {kind for o in cell.get("outputs", []) for kind in o.get("data", {})}
    failed = any(o["output_type"] == "error" for o in cell.get("outputs", []))
    return [cell["source"], sorted(kind for kind in shown if "image" in kind), failed]


def _without(value):
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in TIMES}
    return value


def main(arguments: list[str] | None = None) -> int:
    """Returns: the number of crash points after which something else was left."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(SAMPLE)}")
    parser.add_argument("--every", action="store_true", help="all crash points, not a sample")
    parser.add_argument("--points", type=int, nargs="+", help="these crash points")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first, of --every")
    parser.add_argument("--to", type=int, default=10**6, dest="last", help="the last, of --every")
    given = parser.parse_args(arguments)
    os.environ |= {"TQDM_DISABLE": "1", "SOURCE_DATE_EPOCH": "0"}  # a PDF holds its date
    import torch

    from tests.crash_kinds import KINDS, data

    torch.set_num_threads(1)
    bad = 0
    with tempfile.TemporaryDirectory() as top:
        images = data(Path(top))
        for kind in given.kinds or SAMPLE:
            (Path(top) / kind).mkdir()
            bad += tried(kind, KINDS[kind], Path(top) / kind, images, given)
    return bad


def tried(kind: str, work: Callable, top: Path, images: Path, given: argparse.Namespace) -> int:
    """Crash one kind of work at the points that are asked for. Returns: how many differ."""
    reference = top / "reference"
    if kind == "run":
        work(top / "first", images)  # here, so that no child need load anything
    if kind == "inline":
        from h2t.study.sweep.job import PRELOAD_NOTEBOOKS

        for module in PRELOAD_NOTEBOOKS:
            importlib.import_module(module)
    assert in_child(lambda: watched(work, reference, images, -1)) == 0, (
        f"the {kind} that nobody disturbs fails"
    )
    calls, whole = _calls(reference), left(reference)
    tries = SAMPLE[kind]  # evenly spread
    sample = [1 + (2 * k + 1) * len(calls) // (2 * tries) for k in range(tries)]
    every = range(given.first, min(given.last, len(calls)) + 1)
    points = given.points or (every if given.every else sample)
    bad = 0
    for point in points:
        wrong = crash(top / f"at{point}", point, images, whole, work)
        bad += bool(wrong)
        if wrong or given.every:
            print(f"{point:4d} {calls[point - 1]:60s} {wrong or 'the same'}", flush=True)
    print(f"{kind}: {len(calls)} crash points, {len(points)} tried, {bad} differ", flush=True)
    return bad


def _calls(folder: Path) -> list[str]:
    """The calls that were counted in a folder."""
    return folder.with_suffix(".calls").read_text().splitlines()


def watched(work: Callable, folder: Path, images: Path, last: int) -> None:
    """Do the work, its calls counted; that of number ``last`` kills."""
    counted(folder, last, folder.with_suffix(".calls"))
    work(folder, images)


def crash(folder: Path, point: int, images: Path, whole: dict[str, bytes], work: Callable) -> str:
    """Kill the work at one point and let it go on. Returns: what is not as it should be."""
    code = in_child(lambda: watched(work, folder, images, point))
    if len(_calls(folder)) < point:
        return f"it ended with {code} before it came there"
    if in_child(lambda: work(folder, images)):
        return "it does not go on"
    after = left(folder)
    lost, more = sorted(whole.keys() - after.keys()), sorted(after.keys() - whole.keys())
    differ = sorted(k for k in whole.keys() & after.keys() if whole[k] != after[k])
    said = {"lost": lost, "left behind": more, "other": differ}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in said.items() if names)


if __name__ == "__main__":
    sys.exit(bool(main()))
