"""What is brought home: findings as JSON, as a page and as lines of CSV, and the runs' results."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import platform
import tarfile
import time
from importlib.metadata import version
from pathlib import Path

from h2t.base.files import write_atomic
from tests.gpu.facts import revision
from tests.gpu.plan import SECTIONS
from tests.gpu.seeds import run_paths

# eight files and no folder, each under 16 MiB: what every way home can carry
COLUMNS = ("section", "part", "row", "measure", "value")
MACHINE = ("gpu", "torch", "cuda", "python", "revision")


def bring(args) -> None:
    """Every run's small files in an archive, and the stage-1 weights in up to three of 14 MB, so
    that a sweep goes on at home. What runs share is in it once."""
    runs, out, same = run_paths(args)[1], Path(args.out), {}
    for file in sorted(runs.glob("**/stage1/weights.safetensors")):
        same.setdefault(file.stat().st_ino, []).append(file)
    with contextlib.ExitStack() as stack:

        def archive(name: str) -> tarfile.TarFile:
            return stack.enter_context(tarfile.open(out / name, "w:gz", compresslevel=1))

        small, weights, size, number = archive("runs.tar.gz"), None, 14e6, 0
        for f in sorted(runs.rglob("*")):
            if f.suffix in (".json", ".jsonl", ".yaml", ".npy") and "bank-" not in str(f):
                small.add(f, arcname=str(f.relative_to(runs)))
        for files in same.values():
            bytes_each = files[0].stat().st_size
            if size + bytes_each > 14e6 and number < 3:
                number, size = number + 1, 0
                weights = archive(f"weights{number}.tar.gz")
            size += bytes_each
            for f in files if size < 14e6 else ():
                weights.add(f, arcname=str(f.relative_to(runs)))
    log = (Path(args.work) / "log.txt").read_bytes()[-4_000_000:]
    (out / "log.txt").write_bytes(log)


def write(args, found: dict[str, dict], began: float) -> None:
    """Write what is known so far: gpu.json, gpu.csv and gpu.md."""
    out = Path(args.out)
    for one in found.values():
        if "result" in one:
            one.pop("partial", None)
    seconds = round(time.time() - began, 1)
    given = {"minutes": args.minutes, "device": args.device, "tiny": args.tiny}
    whole = {"began": began, "seconds": seconds, **given, "sections": found}
    write_atomic(out / "gpu.json", json.dumps(whole, indent=1, default=str).encode())
    write_atomic(out / "gpu.csv", lines(args, found).encode())
    write_atomic(out / "gpu.md", page(args, found, seconds).encode())


def lines(args, found: dict[str, dict]) -> str:
    """CSV, a line a number: where it is from, then device, versions, revision and command."""
    own = {"gpu": args.device, "torch": version("torch"), "python": platform.python_version()}
    own |= {"revision": args.revision or revision(), **content(found.get("facts", {}))}
    machine = [own.get(name, "") for name in MACHINE]
    asked = ("device", "minutes", "jobs", "epochs", "only")
    command = "python -m tests.gpu" + " --tiny" * args.tiny
    command += "".join(f" --{name} {getattr(args, name)}" for name in asked if getattr(args, name))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *MACHINE, "command"])
    for name in (s for s in SECTIONS if s in found):
        for line in _flat(content(found[name]), ()):
            table.writerow([name, *line, *machine, command])
        for how in ("error", "skipped", "seconds"):
            if how in found[name]:
                table.writerow([name, "", "", how, found[name][how], *machine, command])
    return text.getvalue()


def content(one: dict) -> dict:
    """What a section found, all of it or so far."""
    return one.get("result") or one.get("partial") or {}


def _flat(value, path: tuple[str, ...], row: str = ""):
    """Lines of part, row, measure and value. A row of a table is called by its texts."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if inner is None or name in ("log", "end"):
                continue
            yield from _flat(inner, (*path, str(name)), row)
    elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        for each in value:
            own = {k: v for k, v in each.items() if isinstance(v, str | bool) and k != "error"}
            told = ", ".join(v if isinstance(v, str) else f"{k} {v}" for k, v in own.items() if v)
            rest = {k: v for k, v in each.items() if k not in own or isinstance(v, bool)}
            yield from _flat(rest, path, told)
    else:
        shown = value if isinstance(value, str | int | float) else json.dumps(value, default=str)
        yield ".".join(path[:-1]), row, path[-1], shown


def page(args, found: dict[str, dict], seconds: float) -> str:
    """The same for people."""
    shown = [f"# h2t on {content(found.get('facts', {})).get('gpu', args.device)}", ""]
    shown += [f"{seconds:.0f} s", ""]
    for name in (s for s in SECTIONS if s in found):
        one = found[name]
        ended = f"{one['seconds']} s" if "seconds" in one else "not finished"
        shown += [f"## {name}: {one.get('error') or one.get('skipped') or ended}", ""]
        if "traceback" in one:
            shown += ["```", one["traceback"][-1200:], "```"]
        for key, value in content(one).items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                shown += ["", f"**{key}**", "", *table(value), ""]
            else:
                shown.append(f"- {key}: {json.dumps(value, default=str)[:900]}")
        shown.append("")
    return "\n".join(shown)


def table(rows: list[dict]) -> list[str]:
    names = list(dict.fromkeys(k for r in rows for k in r))

    def cell(value) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        return "" if value is None else str(value).replace("|", "/").replace("\n", " ")[:110]

    return [
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(cell(r.get(n)) for n in names) + " |" for r in rows),
    ]
