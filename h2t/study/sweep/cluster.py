"""The jobs of a sweep on a Ray cluster; the only importer of ray.

The runs lie on a path that all machines share, or in an object store.
"""

from __future__ import annotations

import os
import platform
import socket
import sys

from h2t.base.errors import Error
from h2t.study.sweep.job import Job, child
from h2t.study.sweep.pool import DIED

LOST = 3  # times that Ray begins a job anew elsewhere when the machine that did it is lost


class Cluster:
    """Slots for jobs on a Ray cluster, as ``h2t.study.sweep.pool.Pool`` has them on one machine.

    Arguments: ``address`` of the cluster, or "auto" for the one that this machine belongs to;
    ``jobs`` at most so many at a time, 0 for as many as the cluster can take; ``gpus_per_run`` GPUs
    for each, None for one where there are any; ``cpus_per_run`` cores, and threads, for each.
    Raises: ``h2t.Error`` where there is no such cluster, or no machine in it for such a job.
    """

    def __init__(
        self,
        address: str = "auto",
        jobs: int = 0,
        gpus_per_run: float | None = None,
        cpus_per_run: int = 1,
    ):
        # under `uv run` Ray would pack the project and build an environment for every worker, for
        # minutes; all machines have h2t
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        try:
            import ray
        except ImportError:
            install = "install it with `uv run --extra ray h2t sweep ...`"
            raise Error(f"--ray needs the package ray; {install}") from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray, self.threads = ray, cpus_per_run
        self._ours = not ray.is_initialized()
        if self._ours:
            self._join(address)
        self.gpus = min(1, self._most("GPU")) if gpus_per_run is None else gpus_per_run
        self._asked = {"CPU": cpus_per_run, **({"GPU": self.gpus} if self.gpus else {})}
        self._limit, self._running = jobs, {}
        for name, amount in self._asked.items():
            if (best := self._most(name)) < amount:
                self.close()
                raise Error(
                    f"a run asks for {amount:g} {name}, but no machine of the Ray cluster has more "
                    f"than {best:g}; ask for less, or add one"
                )
        how = dict(num_cpus=cpus_per_run, num_gpus=self.gpus, max_retries=LOST)
        self._task = ray.remote(work).options(retry_exceptions=False, **how)

    def _join(self, address: str) -> None:
        _knock(address)
        quiet = dict(log_to_driver=False, include_dashboard=None, logging_level="ERROR")
        try:
            self._ray.init(address=address, **quiet)
        except Exception as e:
            why = " ".join(str(e).split())
            start = "start one with `ray start --head`"
            raise Error(f"cannot reach a Ray cluster at {address!r}: {why}; {start}") from None

    def _most(self, name: str) -> float:
        """What the best machine has of a resource."""
        return max((n["Resources"].get(name, 0) for n in self._nodes()), default=0)

    def __str__(self) -> str:
        asked = " and ".join(f"{v:g} {k}" for k, v in self._asked.items())
        machines = f"{len(self._nodes())} machines of a Ray cluster"
        return f"{self.slots} at a time on {machines}, {asked} each"

    def _nodes(self) -> list[dict]:
        return [n for n in self._ray.nodes() if n["Alive"]]

    @property
    def slots(self) -> int:
        """How many jobs the machines that are there now can do at a time."""
        places = sum(
            min(int(n["Resources"].get(k, 0) / v) for k, v in self._asked.items())
            for n in self._nodes()
        )
        return max(1, min(places, self._limit) if self._limit else places)

    @property
    def free(self) -> int:
        return self.slots - len(self._running)

    def start(self, job: Job) -> None:
        self._running[self._task.remote(job, self.threads, sys.path)] = job

    def wait(self, seconds: float) -> list[tuple[Job, tuple[str, str, str]]]:
        """As ``Pool.wait``."""
        if not self._running:
            return []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(ref), self._outcome(ref)) for ref in ended]

    def _outcome(self, ref) -> tuple[str, str, str]:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as e:
            return DIED, f"its process or machine was lost ({type(e).__name__}).", ""

    def close(self) -> None:
        for ref in self._running:
            self._ray.cancel(ref, force=True)
        self._running = {}
        if self._ours:
            self._ray.shutdown()


def _knock(address: str) -> None:
    """Refuse an address at which nothing answers; Ray itself would try it for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address != "auto":
            raise Error(f"the address of a Ray cluster is HOST:PORT or auto, not {address!r}")
        return
    try:
        socket.create_connection((host, int(port)), 10).close()
    except (OSError, OverflowError) as e:
        raise Error(
            f"no Ray cluster answers at {address!r} ({e}); start one with `ray start --head`, or "
            "use auto on a machine of it"
        ) from None


class _Outcome:
    """What ``child`` sends, kept instead of sent."""

    def send(self, outcome: tuple[str, str, str]) -> None:
        self.outcome = outcome


def work(job: Job, threads: int, path: list[str]) -> tuple[str, str, str]:
    """Do a job in a worker process of the cluster."""
    sys.path[:] = [*dict.fromkeys([*path, *sys.path])]
    folder = job.root
    if not job.store and not folder.is_dir():
        share = "give a folder that all machines share, or an s3:// address, with `-p run`"
        return "failed", f"{folder} is not there on {platform.node()}; {share}", ""
    pipe = _Outcome()
    child(job, {}, threads, pipe)
    return pipe.outcome
