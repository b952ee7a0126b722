"""How the sections are run: a child process each group, results on file as they come."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from tests.gpu.pages import bring, write
from tests.gpu.plan import GROUPS, HERE, SECTIONS
from tests.gpu.trial import stand_in

MODULES = ("facts", "parity", "steps", "whole", "seeds", "others")
GIVEN = ("ends", "out", "work", "device", "jobs", "epochs", "revision")  # to each child as it is


class Say:
    """What a section says goes to the log; what it keeps is there even if it does not come to its
    end."""

    def __init__(self, name: str, log, tell):
        self.name, self.log, self.tell = name, log, tell

    def __call__(self, text: str) -> None:
        self.log.write(f"[{self.name}] {text}\n")

    def keep(self, found: dict) -> None:
        self.tell(section=self.name, partial=found)


def section(name: str):
    """The function of a section."""
    modules = [importlib.import_module(f"tests.gpu.{m}") for m in MODULES]
    return next(getattr(m, f"section_{name}") for m in modules if hasattr(m, f"section_{name}"))


def child(args) -> None:
    """Run the sections named, one after another, each result a line on file; end with code 3 where
    CUDA no longer answers."""
    import torch

    if args.device == "cpu":
        torch.set_num_threads(1 if args.tiny else min(2, torch.get_num_threads()))
        from h2t.train import update

        update.cuda_graph = lambda device: stand_in()
    work = Path(args.work)
    with (
        open(work / "log.txt", "a", buffering=1) as log,
        open(work / "results.jsonl", "a", buffering=1) as results,
    ):

        def tell(**what):
            results.write(json.dumps(what, default=str) + "\n")

        for name in args.sections.split(","):
            args.left = args.ends - time.time()
            if args.left < SECTIONS[name][1]:
                tell(section=name, skipped=f"{args.left:.0f} s left, it needs {SECTIONS[name][1]}")
                continue
            tell(section=name, begun=time.time())
            start = time.perf_counter()
            try:
                found = {"result": section(name)(args, Say(name, log, tell))}
                args.known[name] = found["result"]
            except Exception as e:
                said = f"{type(e).__name__}: {e}"[:1500]
                found = {"error": said, "traceback": traceback.format_exc()[-3000:]}
            tell(section=name, **found, seconds=round(time.perf_counter() - start, 1))
            if "error" in found and args.device == "cuda":
                try:
                    torch.zeros(1, device="cuda").add_(1).cpu()
                except Exception:
                    os._exit(3)


def parent(args) -> int:
    """Run every group of sections that there is time for. Returns: the exit status."""
    out, work, began = Path(args.out), Path(args.work), time.time()
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    file = work / "results.jsonl"
    if not args.more:
        file.unlink(missing_ok=True)
    args.ends = began + 60 * args.minutes
    chosen = args.only.split(",") if args.only else list(SECTIONS)
    for group in (sum(GROUPS, ()),) if args.tiny else GROUPS:
        todo = [name for name in group if name in chosen]
        while todo:
            left = args.ends - time.time()
            if left < min(SECTIONS[name][1] for name in todo) + 4:
                for name in todo:
                    add(file, section=name, skipped=f"{left:.0f} s left")
                break
            code = _run(args, todo, file, began)
            told = read(file)
            done = {s for s in todo if {"result", "error", "skipped"} & told.get(s, {}).keys()}
            todo = [name for name in todo if name not in done]
            if todo and code != 3:  # the first of them is what it died of
                end = (work / "children.txt").read_text()[-1500:]
                add(file, section=todo[0], error=f"its process ended with {code}", traceback=end)
                todo = todo[1:]
            write(args, read(file), began)
    bring(args)
    write(args, read(file), began)
    return 0


def _run(args, todo: list[str], file: Path, began: float):
    """One child process; killed where a section outlasts its time. Returns: its status."""
    work, told = Path(args.work), read(file)
    known = {name: one["result"] for name, one in told.items() if "result" in one}
    (work / "known.json").write_text(json.dumps(known, default=str))
    given = {"sections": ",".join(todo), "known-file": work / "known.json"}
    given |= {k: getattr(args, k) for k in GIVEN}
    command = [sys.executable, "-m", "tests.gpu", "--child", *["--tiny"] * args.tiny]
    command += [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    command += ["--pack", args.pack] * bool(args.pack)
    with open(work / "children.txt", "a") as log:
        how = {"cwd": HERE, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen(command, **how)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(2)
            told = read(file)
            write(args, told, began)
            begun = {
                name: one["begun"]
                for name, one in told.items()
                if name in todo and "begun" in one and not {"result", "error"} & one.keys()
            }
            late = [name for name, t in begun.items() if time.time() - t > SECTIONS[name][0]]
            if late or time.time() > args.ends + 20:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return "killed"


def read(file: Path) -> dict[str, dict]:
    """What is on file of each section, later lines over earlier ones."""
    found: dict[str, dict] = {}
    if file.exists():
        for line in file.read_text().splitlines():
            with contextlib.suppress(ValueError):
                what = json.loads(line)
                found.setdefault(what.pop("section"), {}).update(what)
    return found


def add(file: Path, **what) -> None:
    with open(file, "a") as f:
        f.write(json.dumps(what) + "\n")
