"""Kill a small run at every call that touches its files, let it go on, and compare what it leaves.

    python -m tests.crash            a sample of the crash points
    python -m tests.crash --every    all of them
    python -m tests.crash --points 5 17

A crash point is one call of open (to write), fsync, replace, link, unlink, mkdir or rmdir below the
run's folder. The process is killed there, without a word, as by the system; the run that follows
has to end with the same files as one that was never disturbed: byte for byte, but for times.
"""

from __future__ import annotations

import argparse
import builtins
import io
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

SAMPLE = 6
TIMES = {"seconds", "eval_seconds", "time", "environment"}
CALLS = ((os, "fsync"), (os, "replace"), (os, "link"), (os, "unlink"), (os, "mkdir"), (os, "rmdir"))
CALLS += ((builtins, "open"), (io, "open"))


def data(folder: Path) -> Path:
    """A set of 12 training and 6 test images of three classes."""
    draw = np.random.default_rng(0)
    parts = {}
    for part, counts in (("train", (6, 4, 2)), ("test", (2, 2, 2))):
        labels = np.repeat(np.arange(3), counts)
        images = draw.integers(0, 256, (len(labels), 8, 8), np.uint8)
        parts |= {f"{part}_images": images, f"{part}_labels": labels[:, None]}
    np.savez(folder / "set.npz", **parts)
    return folder / "set.npz"


def work(folder: Path, images: Path) -> None:
    """Both stages of a run, and what is made of it."""
    from h2t.exchange.export import export
    from h2t.pipeline import run_plain

    data = {"source": "npz", "root": str(images), "imbalance_factor": 3.0, "crop_padding": 1}
    one = {"model": "resnet20", "batch_size": 12, "stage1_epochs": 2, "warmup_epochs": 0}
    two = {"stage2_epochs": 2, "control": True, "precision": "fp32", "eval_every": 1}
    run_plain({"run": str(folder / "run"), **data, **one, **two}, device="cpu")
    export(str(folder / "run"), "stage2-h2t")


def counted(folder: Path, last: int, seen: list[str]) -> None:
    """Note every call that touches the folder's files; the one that is number ``last`` kills."""

    def watch(module, name):
        real = getattr(module, name)

        def call(*arguments, **how):
            writes = name != "open" or set("wax+") & set((arguments[1:2] or (how.get("mode"),))[0])
            target = arguments[0]
            if isinstance(target, int):  # a descriptor
                target = os.readlink(f"/proc/self/fd/{target}")
            if writes and str(target).startswith(str(folder)):
                seen.append(f"{name} {Path(target).name}")
                if len(seen) == last:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **how)

        setattr(module, name, call)

    for module, name in CALLS:
        watch(module, name)


def in_child(do) -> int:
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
    """Every file that a run left, without the times in them, and without locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".lock"):
            found[name] = _timeless(path)
    return found


def _timeless(path: Path) -> bytes:
    if path.name == "environment.json":
        return b""
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return json.dumps([_without(json.loads(text)) for text in texts]).encode()


def _without(value):
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in TIMES}
    return value


def main(arguments: list[str] | None = None) -> int:
    """Returns: the number of crash points after which something else was left."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--every", action="store_true", help="all crash points, not a sample")
    parser.add_argument("--points", type=int, nargs="+", help="these crash points")
    given = parser.parse_args(arguments)
    os.environ["TQDM_DISABLE"] = "1"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as top:
        images = data(Path(top))
        work(Path(top) / "first", images)  # here, so that no child need load anything
        reference = Path(top) / "reference"
        listing = Path(top) / "calls"

        def undisturbed():
            seen: list[str] = []
            counted(reference, -1, seen)
            work(reference, images)
            listing.write_text("\n".join(seen))

        assert in_child(undisturbed) == 0, "the run that nobody disturbs fails"
        calls, whole = listing.read_text().splitlines(), left(reference)
        every = range(1, len(calls) + 1)
        points = every if given.every else np.linspace(1, len(calls), SAMPLE).astype(int).tolist()
        bad = 0
        for point in given.points or points:
            wrong = crash(Path(top) / f"at{point}", point, images, whole)
            bad += bool(wrong)
            if wrong or given.every:
                print(f"{point:4d} {calls[point - 1]:40s} {wrong or 'the same'}", flush=True)
        print(f"{len(calls)} crash points, {len(given.points or points)} tried, {bad} differ")
    return bad


def crash(folder: Path, point: int, images: Path, whole: dict[str, bytes]) -> str:
    """Kill a run at one point and let it go on. Returns: what is not as it should be."""

    def killed():
        counted(folder, point, [])
        work(folder, images)

    if (code := in_child(killed)) != -signal.SIGKILL:
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
