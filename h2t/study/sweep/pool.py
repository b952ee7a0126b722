"""The processes of this machine that do the jobs of a sweep: one each, forked from one that has
imported everything already, so that it starts at once, and what kills it kills nothing else."""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
from multiprocessing.connection import wait

from h2t.base.errors import Error
from h2t.base.machine import cores, gpus, memory
from h2t.study.sweep.job import PRELOAD, PRELOAD_NOTEBOOKS, Job, child

DIED = "died"
EACH = 2**31  # bytes of memory that a job may take


class Pool:
    """Slots for jobs on this machine: one to a GPU where there are GPUs, else one to a core as far
    as memory goes (2 GB a job).

    Arguments: ``jobs`` slots, 0 for that default; ``gpus_per_run`` a number from 0, which hides
    them, to 1, None for one where there is one; ``notebooks`` whether the jobs execute any.
    Raises: ``h2t.Error`` where more is asked for than there is.
    """

    def __init__(self, jobs: int = 0, gpus_per_run: float | None = None, notebooks: bool = True):
        found = gpus()
        _check(jobs, gpus_per_run, found)
        wanted = 1 if gpus_per_run is None else gpus_per_run
        self._on_gpus = bool(found and wanted)
        places = len(found) * int(1 / wanted) if self._on_gpus else cores()
        if not self._on_gpus:
            places = max(1, min(places, memory() // EACH))
        self.slots = jobs or places
        self.threads = max(1, cores() // self.slots)
        self.environments = [{}] * self.slots
        if found or gpus_per_run == 0:
            seen = found if self._on_gpus else [""]
            dealt = (seen[k % len(seen)] for k in range(self.slots))
            self.environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in dealt]
        # of the debugger that ipykernel loads: a warning to every terminal
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        self._context = mp.get_context("spawn")
        if sys.platform == "linux":  # elsewhere libraries do not survive a fork
            self._context = mp.get_context("forkserver")
            self._context.set_forkserver_preload([*PRELOAD, *PRELOAD_NOTEBOOKS * notebooks])
        self._running: dict = {}  # pipe -> (job, process, slot)

    def __str__(self) -> str:
        each = "a GPU" if self._on_gpus else f"threads: {self.threads}"
        return f"{self.slots} at a time on this machine, {each} each"

    @property
    def free(self) -> int:
        return self.slots - len(self._running)

    def start(self, job: Job) -> None:
        slot = min(set(range(self.slots)) - {slot for _, _, slot in self._running.values()})
        here, there = self._context.Pipe(duplex=False)
        own = (job, self.environments[slot], self.threads, there)
        process = self._context.Process(target=child, args=own, name=job.name)
        process.start()
        there.close()
        self._running[here] = (job, process, slot)

    def wait(self, seconds: float) -> list[tuple[Job, tuple[str, str]]]:
        """Jobs that ended within so many seconds, each with done, failed or died, and why."""
        ended = []
        for pipe in wait(list(self._running), seconds):
            job, process, _ = self._running.pop(pipe)
            try:
                outcome = pipe.recv()
            except (EOFError, OSError):
                process.join()
                killed = f"its process was killed (exit code {process.exitcode}); out of memory?"
                outcome = (DIED, killed)
            pipe.close()
            process.join()
            ended.append((job, outcome))
        return ended

    def close(self) -> None:
        """Kill what still runs: every step goes on from its last checkpoint."""
        for pipe, (_, process, _) in self._running.items():
            process.kill()
            process.join()
            pipe.close()
        self._running.clear()


def _check(jobs: int, gpus_per_run: float | None, found: list[str]) -> None:
    if jobs < 0:
        raise Error(f"jobs is {jobs}; give a number, or 0 for as many as the machine can take")
    if not 0 <= (gpus_per_run or 0) <= 1:
        raise Error(f"a run trains on one GPU, not {gpus_per_run:g}; ask for 1, or a part as 0.5")
    if gpus_per_run and not found:
        raise Error(
            f"--gpus {gpus_per_run:g} was asked for, but no GPU can be seen here; leave it out to "
            "train on the CPU"
        )
