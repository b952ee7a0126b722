"""The processes of this machine that do the jobs of a sweep.

Each job has a process of its own, forked from one that has imported everything already, so that it
starts at once, and what kills it kills nothing else.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
from multiprocessing.connection import wait

from h2t.base.errors import Error
from h2t.base.machine import cores, gpus, memory
from h2t.study.sweep.job import PRELOAD, PRELOAD_NOTEBOOKS, Job, child

DIED = "died"


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
        share = wanted if found else 0
        places = len(found) * max(1, int(1 / share)) if share else cores()
        if not share and memory():
            places = max(1, min(places, memory() // 2**31))
        self.slots = jobs or places
        self.threads = max(1, cores() // self.slots)
        self.gpus = len(found) if share else 0
        self.environments = [{}] * self.slots
        if share:
            dealt = (found[k % len(found)] for k in range(self.slots))
            self.environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in dealt]
        elif found or gpus_per_run == 0:
            self.environments = [{"CUDA_VISIBLE_DEVICES": ""}] * self.slots
        self._context = mp.get_context("forkserver" if sys.platform != "win32" else "spawn")
        # of the debugger that ipykernel loads: a warning to every terminal
        os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        if sys.platform != "win32":
            needed = PRELOAD + PRELOAD_NOTEBOOKS if notebooks else PRELOAD
            self._context.set_forkserver_preload(list(needed))
        self._running: dict = {}  # pipe -> (job, process, slot)

    def __str__(self) -> str:
        each = "a GPU" if self.gpus else f"{self.threads} thread{'s' * (self.threads > 1)}"
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

    def wait(self, seconds: float) -> list[tuple[Job, tuple[str, str, str]]]:
        """Jobs that ended within so many seconds, each with done, failed or died, a message, and
        the executed notebook."""
        ended = []
        for pipe in wait(list(self._running), seconds):
            job, process, _ = self._running.pop(pipe)
            try:
                outcome = pipe.recv()
            except (EOFError, OSError):
                process.join()
                killed = f"its process was killed (exit code {process.exitcode}); out of memory?"
                outcome = (DIED, killed, "")
            pipe.close()
            process.join()
            ended.append((job, outcome))
        return ended

    def close(self) -> None:
        """Kill what still runs: every step goes on from its last checkpoint."""
        for _, process, _ in self._running.values():
            process.kill()
        for pipe, (_, process, _) in self._running.items():
            process.join()
            pipe.close()
        self._running.clear()


def _check(jobs: int, gpus_per_run: float | None, found: list[str]) -> None:
    if jobs < 0:
        raise Error(
            f"jobs is {jobs}; it is a number of runs at a time, or 0 for as many as the machine "
            "can take"
        )
    if gpus_per_run is not None and not 0 <= gpus_per_run <= 1:
        raise Error(
            f"a run trains on one GPU, not {gpus_per_run:g}; ask for --gpus 1, or for a share "
            "such as 0.5"
        )
    if gpus_per_run and not found:
        raise Error(
            f"--gpus {gpus_per_run:g} was asked for, but no GPU can be seen here; leave it out to "
            "train on the CPU"
        )
