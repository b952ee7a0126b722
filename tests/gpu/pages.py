"""What is brought home: a JSON file, a page, and the runs' results."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import tarfile
import time
from pathlib import Path

from tests.gpu.plan import SECTIONS
from tests.gpu.seeds import run_paths


def bring(args) -> None:
    """What is worth taking home: every run's results and metrics, and the stage-1 weights, an
    archive of up to 14 MB for each imbalance factor."""
    runs, sizes = run_paths(args)[1], collections.Counter()
    with contextlib.ExitStack() as stack:
        archives: dict[str, tarfile.TarFile] = {}
        for folder in sorted(runs.glob("**/stage1")):
            run = folder.parent
            if "shared" in run.parts or not (folder / "result.json").exists():
                continue
            factor = json.loads((run / "split.json").read_text()).get("imbalance_factor", 0)
            name = f"runs_if{factor:g}.tar.gz"
            if name not in archives:
                file = Path(args.out) / name
                archives[name] = stack.enter_context(tarfile.open(file, "w:gz", compresslevel=1))
            wanted = [f for f in run.rglob("*") if f.suffix in (".json", ".jsonl", ".yaml", ".npy")]
            wanted = [f for f in wanted if f.is_file() and "bank-" not in str(f)]
            weights = folder / "weights.safetensors"
            size = sum(f.stat().st_size for f in wanted)
            if sizes[name] + size + weights.stat().st_size < 14e6:
                wanted, size = [*wanted, weights], size + weights.stat().st_size
            sizes[name] += size
            for f in wanted:
                archives[name].add(f, arcname=str(f.relative_to(runs)))
    with contextlib.suppress(OSError):
        log = (Path(args.work) / "log.txt").read_bytes()[-4_000_000:]
        (Path(args.out) / "log.txt").write_bytes(log)


def write(args, found: dict[str, dict], began: float) -> None:
    out = Path(args.out)
    for one in found.values():
        if "result" in one:
            one.pop("partial", None)
    whole = {
        "began": began,
        "seconds": round(time.time() - began, 1),
        "minutes": args.minutes,
        "device": args.device,
        "tiny": args.tiny,
        "sections": found,
    }
    part = out / "gpu_check.json.part"
    part.write_text(json.dumps(whole, indent=1, default=str))
    os.replace(part, out / "gpu_check.json")
    lines = [
        f"# h2t on {found.get('facts', {}).get('result', {}).get('gpu', args.device)}",
        "",
        f"{whole['seconds']:.0f} s",
        "",
    ]
    for name in SECTIONS:
        if name not in found:
            continue
        one = found[name]
        lines.append(
            f"## {name}: "
            + (
                f"{one.get('seconds', 0)} s"
                if "result" in one
                else one.get("error") or one.get("skipped") or "not finished"
            )
        )
        lines.append("")
        result = one.get("result") or one.get("partial")
        if "traceback" in one:
            lines += ["```", one["traceback"][-1200:], "```"]
        if isinstance(result, dict):
            for key, value in result.items():
                if isinstance(value, list) and value and isinstance(value[0], dict):
                    lines += ["", f"**{key}**", "", *table(value), ""]
                else:
                    lines.append(f"- {key}: {json.dumps(value, default=str)[:900]}")
        lines.append("")
    (out / "gpu_check.md").write_text("\n".join(lines))


def table(rows: list[dict]) -> list[str]:
    names = list(dict.fromkeys(k for r in rows for k in r))

    def cell(v):
        if isinstance(v, list) and len(v) == 2 and isinstance(v[0], float):
            return f"{v[0]:.2f}" + (f" ± {v[1]:.2f}" if v[1] is not None else "")
        return (
            ""
            if v is None
            else f"{v:.4g}"
            if isinstance(v, float)
            else str(v).replace("|", "/").replace("\n", " ")[:110]
        )

    return [
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(cell(r.get(n)) for n in names) + " |" for r in rows),
    ]
