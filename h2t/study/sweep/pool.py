"""The processes of this machine that do the jobs of a sweep: one each, forked from one that has
imported everything already, so that it starts at once, and what kills it kills nothing else."""

from __future__ import annotations

import itertools
import multiprocessing as mp
import sys
from multiprocessing.connection import wait

from h2t.base.machine import cores, gpus, memory
from h2t.study.sweep.job import PRELOAD, PRELOAD_NOTEBOOKS, Job, child

DIED = "died"
EACH = 2**31  # bytes of memory that a job may take


class Pool:
    """Slots for jobs on this machine, which its GPUs are dealt to: by default one to a GPU, and
    where there is none one to a core, as far as memory goes.

    Arguments: ``jobs`` slots, 0 for that default; ``notebooks`` whether the jobs execute any.
    """

    def __init__(self, jobs: int = 0, notebooks: bool = True):
        self._gpus = gpus()
        self.slots = jobs or len(self._gpus) or max(1, min(cores(), memory() // EACH))
        self.threads = max(1, cores() // self.slots)
        self.idle: list[dict[str, str]] = [{}] * self.slots  # what each slot's jobs see
        if self._gpus:
            dealt = itertools.islice(itertools.cycle(self._gpus), self.slots)
            self.idle = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in dealt]
        self._context = mp.get_context("spawn")
        if sys.platform == "linux":  # elsewhere libraries do not survive a fork
            self._context = mp.get_context("forkserver")
            self._context.set_forkserver_preload([*PRELOAD, *PRELOAD_NOTEBOOKS * notebooks])
        self._running: dict = {}  # pipe -> (job, process, environment)

    def __str__(self) -> str:
        on = f"GPUs: {len(self._gpus)}" if self._gpus else f"threads each: {self.threads}"
        return f"{self.slots} at a time on this machine, {on}"

    @property
    def free(self) -> int:
        return len(self.idle)

    def start(self, job: Job) -> None:
        environment = self.idle.pop(0)
        here, there = self._context.Pipe(duplex=False)
        own = (job, environment, self.threads, there)
        process = self._context.Process(target=child, args=own, name=job.name)
        process.start()
        there.close()
        self._running[here] = (job, process, environment)

    def wait(self, seconds: float) -> list[tuple[Job, str, str]]:
        """Jobs that ended within so many seconds, each with done, failed or died, and why."""
        ended = []
        for pipe in wait(list(self._running), seconds):
            job, process, environment = self._running.pop(pipe)
            self.idle.append(environment)
            try:
                how, message = pipe.recv()
                process.join()
            except (EOFError, OSError):
                process.join()
                how, code = DIED, process.exitcode
                message = f"its process was killed (exit code {code}); out of memory?"
            pipe.close()
            ended.append((job, how, message))
        return ended

    def close(self) -> None:
        """Kill what still runs: every step goes on from its last checkpoint."""
        for pipe, (_, process, _) in self._running.items():
            process.kill()
            process.join()
            pipe.close()
        self._running.clear()
