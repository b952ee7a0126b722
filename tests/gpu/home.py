"""What a check found, as ledgers of notebooks/results: gpu_speed.csv, gpu_times.csv and, of all
sections, rows/gpu.csv."""

from __future__ import annotations

import csv
import json
import statistics
import sys
from pathlib import Path

NEEDED = ("facts", "steps", "plain", "end_to_end", "bank", "encoders", "large", "runs")
SPEED = ("stage", "loop", "precision", "ms a step", "times the plain loop", "kernels", "GPU busy")


def home(file: str, folder: Path) -> int:
    """Write them from a gpu.json and the gpu.csv beside it. Returns: the exit status."""
    if not Path(file).is_file():
        print(f"there is no {file}; name the gpu.json that the check wrote", file=sys.stderr)
        return 2
    found = json.loads(Path(file).read_text())["sections"]
    found = {name: one["result"] for name, one in found.items() if "result" in one}
    if missing := [name for name in NEEDED if name not in found]:
        said = f"{file} has no {', '.join(missing)}: take the second call's, or run them again"
        print(said, file=sys.stderr)
        return 2
    facts = found["facts"]
    basis = {"revision": facts["revision"], "torch": facts["torch"], "device_name": facts["gpu"]}
    said = f"measured earlier, at revision {facts['revision']}, by python -m tests.gpu"
    basis |= {"python": facts["python"], "source": said}
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    for name, rows in (("gpu_speed", speeds(found)), ("gpu_times", times(found))):
        with open(folder / f"{name}.csv", "w", newline="") as f:
            table = csv.DictWriter(f, [*rows[0], *basis], lineterminator="\n")
            table.writeheader()
            table.writerows({**row, **basis} for row in rows)
    lines = Path(file).with_name("gpu.csv").read_text().splitlines(keepends=True)
    # kernels one by one are for who makes them faster; the runs have a ledger of their own
    kept = [line for line in lines if not line.startswith(("steps,top_kernels", "runs,table"))]
    (folder / "rows" / "gpu.csv").write_text("".join(kept))
    return 0


def speeds(found: dict[str, dict]) -> list[dict]:
    """Milliseconds a step of both stages beside the plain loop of the field."""
    rows = []
    for stage in (1, 2):
        plain = found["plain"][f"stage {stage}, ms"]
        line = (str(stage), "plain, one loading process", "fp32", f"{plain:.1f}", "1.0", "", "")
        rows.append(dict(zip(SPEED, line, strict=True)))
        for row in found["steps"]["rows"]:
            kept = row["layout"] == "channels_last" and row["with"] in ("", "deterministic")
            if row["stage"] != stage or not kept:
                continue
            how = "h2t, captured" if row["how"] == "graph" else "h2t, step by step"
            how += f", {row['with']}" if row["with"] else ""
            line = (str(stage), how, row["precision"], f"{row['ms']:.2f}")
            line += (f"{plain / row['ms']:.1f}", str(row["kernels"]), f"{row['busy_percent']} %")
            rows.append(dict(zip(SPEED, line, strict=True)))
    return rows


def times(found: dict[str, dict]) -> list[dict]:
    """How long the parts of a run take, and how much goes through a network a second."""
    run, bank, large, sweep = (found[k] for k in ("end_to_end", "bank", "large", "runs"))
    memory, parts = run["memory_gb"]["max_reserved"], run["stage1"]["parts"]
    each = sweep["stage1_seconds"]
    how = f"{sweep['jobs']} at a time{' by MPS' * sweep['by MPS']}, median of {len(each)}"
    rows = [
        ("stage 1, 200 epochs, IF 100", f"{run['stage1']['seconds']:.1f} s"),
        (f"of it, evaluating {parts['predict, times']} times", f"{parts['predict']:.1f} s"),
        (f"a stage 1 of the sweep, {how}", f"{statistics.median(each):.0f} s"),
        ("stage 2, 10 epochs, DR", f"{run['stage2-dr']['seconds']:.1f} s"),
        ("stage 2, 10 epochs, DR + H2T", f"{run['stage2-h2t']['seconds']:.1f} s"),
        ("GPU memory of both", f"{memory:.1f} GB"),
        ("bank of 4 views", f"{bank['build_s']:.1f} s"),
        ("11 ratios, 5 seeds each, on that bank", f"{bank['curve_cuda_s']:.2f} s"),
        ("the same on the CPU beside it", f"{bank['curve_cpu_s']:.2f} s"),
        ("ResNet-50, training, 224 pixels, bf16", f"{large['graph']['images_per_s']} images/s"),
    ]
    for row in found["encoders"]["rows"]:
        what = f"{row['encoder']}, encoding, 224 pixels, {row['precision']}"
        rows.append((what, f"{row['images_per_s']:.0f} images/s"))
    return [{"what": what, "how much": much} for what, much in rows]
