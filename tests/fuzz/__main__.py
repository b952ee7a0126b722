"""Many cases of a kind, or one again: `python -m tests.fuzz data --count 5000`, `--seed 17`."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import click

SECONDS, WAIT = 10, 60  # of one case: on the processor; by the clock, on a busy machine
MEMORY = 2 << 30  # beyond what the process has by the first


class Hang(BaseException):
    """A case that takes too long; no ``except Exception`` may swallow it."""


@click.command()
@click.argument("kinds", nargs=-1, required=True)
@click.option("--count", default=1000, help="how many cases of each kind, from --seed on")
@click.option("--seed", default=0)
@click.option("--seconds", default=1e9, help="begin no case of a kind after so many")
def main(kinds: tuple[str, ...], count: int, seed: int, seconds: float) -> None:
    """Read so many damaged files; exit 1 if one of them ends in anything but one sentence."""
    os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    for told in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(told, _hang)
    raise SystemExit(bool([kind for kind in kinds if _faults(kind, count, seed, seconds)]))


def _faults(kind: str, count: int, seed: int, seconds: float) -> list[int]:
    """Which cases of a kind ended in anything else."""
    run, faults, came = importlib.import_module(f"tests.fuzz.{kind}").run, [], Counter()
    slowest, begin = (0.0, seed), time.perf_counter()
    clocks = {signal.ITIMER_PROF: SECONDS, signal.ITIMER_REAL: WAIT}
    for k in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            if start - begin > seconds:
                break
            for clock, most in clocks.items() if k > seed else ():  # the first loads what is slow
                signal.setitimer(clock, most)
            try:
                came[run(k, Path(folder))] += 1
            except (Exception, Hang):
                faults.append(k)
                click.echo(f"seed {k}:\n{traceback.format_exc(limit=-4)}")
            finally:
                for clock in clocks:
                    signal.setitimer(clock, 0)
            if k == seed:
                _limit_memory()
            else:
                slowest = max(slowest, (time.perf_counter() - start, k))
    what = ", ".join(f"{number} {name}" for name, number in came.items())
    done = sum(came.values()) + len(faults)
    click.echo(f"{kind}: {done} cases: {what}, {len(faults)} faults {faults[:20]}")
    click.echo(f"the slowest took {slowest[0]:.2f} s (seed {slowest[1]})")
    return faults


def _hang(*_) -> None:
    raise Hang


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
