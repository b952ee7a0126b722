"""Many cases of a kind, or one again: `python -m tests.fuzz data --count 5000`, `--seed 17`."""

from __future__ import annotations

import importlib
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import click


@click.command()
@click.argument("kind")
@click.option("--count", default=1000, help="how many cases, from --seed on")
@click.option("--seed", default=0)
def main(kind: str, count: int, seed: int) -> None:
    """Read so many damaged files; exit 1 if one of them ends in anything but one sentence."""
    run, faults, came = importlib.import_module(f"tests.fuzz.{kind}").run, [], Counter()
    slowest = (0.0, seed)
    for k in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            try:
                came[run(k, Path(folder))] += 1
            except Exception:
                faults.append(k)
                click.echo(f"seed {k}:\n{traceback.format_exc(limit=-4)}")
            slowest = max(slowest, (time.perf_counter() - start, k))
    what = ", ".join(f"{number} {name}" for name, number in came.items())
    click.echo(f"{count} cases: {what}, {len(faults)} faults {faults[:20]}")
    click.echo(f"the slowest took {slowest[0]:.2f} s (seed {slowest[1]})")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
