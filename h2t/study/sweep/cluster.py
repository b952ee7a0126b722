"""The jobs of a sweep on a Ray cluster, whose machines share the path of the runs, or an object
store; the only importer of ray."""

from __future__ import annotations

import os
import platform
import socket
import sys
from types import SimpleNamespace

from h2t.base.errors import Error
from h2t.study.sweep.job import Job, child
from h2t.study.sweep.pool import DIED

LOST = 3  # times that Ray begins a job anew elsewhere when the machine that did it is lost
START = "start one with `ray start --head`"


class Cluster:
    """Slots for jobs on a Ray cluster, as ``h2t.study.sweep.pool.Pool`` has them on one machine.

    Arguments: ``address`` of the cluster, or "auto" for the one that this machine belongs to;
    ``jobs`` at most so many at a time, 0 for as many as the cluster can take. Each has one core,
    and one GPU where there are any. Raises: ``h2t.Error`` where there is no such cluster.
    """

    def __init__(self, address: str = "auto", jobs: int = 0):
        # under `uv run` Ray would pack the project and build an environment for every worker, for
        # minutes; all machines have h2t
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            install = "install it with `uv run --extra ray h2t sweep ...`"
            raise Error(f"--ray needs the package ray; {install}") from None
        self._ray, self._limit, self._running = ray, jobs, {}
        self._ours = not ray.is_initialized()
        if self._ours:
            self._join(address)
        gpus = int(any(n["Resources"].get("GPU", 0) >= 1 for n in self._nodes()))
        self._asked = ["CPU", "GPU"] if gpus else ["CPU"]  # one of each for a job
        self._task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=LOST)(work)

    def _join(self, address: str) -> None:
        _knock(address)
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as e:
            why = " ".join(str(e).split())
            raise Error(f"cannot reach a Ray cluster at {address!r}: {why}; {START}") from None

    def __str__(self) -> str:
        asked = " and ".join(f"1 {k}" for k in self._asked)
        machines = f"{len(self._nodes())} machines of a Ray cluster"
        return f"{self.slots} at a time on {machines}, {asked} each"

    def _nodes(self) -> list[dict]:
        return [n for n in self._ray.nodes() if n["Alive"]]

    @property
    def slots(self) -> int:
        """How many jobs the machines that are there now can do at a time."""
        has = [n["Resources"] for n in self._nodes()]
        places = sum(int(min(r.get(k, 0) for k in self._asked)) for r in has)
        return max(1, min(places, self._limit or places))

    @property
    def free(self) -> int:
        return self.slots - len(self._running)

    def start(self, job: Job) -> None:
        self._running[self._task.remote(job, sys.path)] = job

    def wait(self, seconds: float) -> list[tuple[Job, str, str]]:
        """As ``Pool.wait``."""
        if not self._running:  # which Ray refuses to wait for
            return []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(ref), *self._outcome(ref)) for ref in ended]

    def _outcome(self, ref) -> tuple[str, str]:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as e:
            return DIED, f"its process or machine was lost ({type(e).__name__})."

    def close(self) -> None:
        for ref in self._running:
            self._ray.cancel(ref, force=True)
        self._running = {}
        if self._ours:
            self._ray.shutdown()


def _knock(address: str) -> None:
    """Refuse an address at which nothing answers; Ray itself would try it for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise Error(f"the address of a Ray cluster is HOST:PORT or auto, not {address!r}")
    try:
        socket.create_connection((host, int(port)), 10).close()
    except (OSError, OverflowError) as e:
        raise Error(f"no Ray cluster answers at {address!r} ({e}); {START}") from None


def work(job: Job, path: list[str]) -> tuple[str, str]:
    """Do a job in a worker process of the cluster."""
    sys.path[:] = [*dict.fromkeys([*path, *sys.path])]
    if not job.store and not job.root.is_dir():
        share = "give a folder that all machines share, or an s3:// address, with `-p run`"
        return "failed", f"{job.root} is not there on {platform.node()}; {share}"
    sent: list[tuple[str, str]] = []
    child(job, {}, 1, SimpleNamespace(send=sent.append))
    return sent[0]
