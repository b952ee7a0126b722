"""Decode workers: image files in, pixels out, in order, always some steps ahead of whoever takes them."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.data.images import read_image

CHUNK = 16  # images that a worker is given at a time
AHEAD = 16  # chunks that wait for one worker at most: what a pipe takes without blocking

Task = tuple[
    list[str], list[tuple[int, bool]] | None
]  # paths of at most CHUNK images, and their random crops as of read_image


def number_of_workers() -> int:
    """``$H2T_WORKERS``, else as many as there are cores for this process; 0 decodes in the process itself. Raises ``h2t.Error``."""
    if given := os.environ.get("H2T_WORKERS", ""):
        if not given.isdigit():
            raise Error(
                f"H2T_WORKERS is {given!r}; it is the number of processes that decode images, 0 or more"
            )
        return int(given)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if processes := os.environ.get(
        "LOCAL_WORLD_SIZE"
    ):  # torchrun: the machine's cores are shared by all of them
        return max(1, cores // int(processes))
    return max(1, min(cores, int(os.environ.get("OMP_NUM_THREADS") or cores)))


class Workers:
    """Processes that decode for one stream of images at a time.

    Arguments: ``image_size``, ``channels`` and ``fit`` as in ``read_image``; ``number`` of processes, 0 for none; ``ahead`` images
    that are decoded before they are asked for, at least.
    Raises: ``h2t.Error`` where there is no memory for these images.
    """

    def __init__(self, image_size: int, channels: int, fit: str, number: int, ahead: int):
        self.image_size, self.channels, self.fit, self.busy = image_size, channels, fit, False
        self.size = max(2 * number, -(-ahead // CHUNK))  # slots of CHUNK images
        self.processes: list[subprocess.Popen] = []
        if number:
            self._start(number)

    def _start(self, number: int) -> None:
        shape = (self.size, CHUNK, self.image_size, self.image_size, self.channels)
        file, path = _memory(int(np.prod(shape)))
        self.slots = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8).reshape(shape)
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from h2t.data.worker import main; main()"
        alone = {
            name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        }
        pipes = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "env": {**os.environ, **alone},
        }
        self.processes += [
            subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(number)
        ]
        self._finalizer = weakref.finalize(self, _end, self.processes)
        setup = {
            "memory": path,
            "shape": shape,
            "image_size": self.image_size,
            "channels": self.channels,
            "fit": self.fit,
        }
        for process in self.processes:
            self._tell(process, setup)
        for process in self.processes:
            self._answer(process)
        file.close()  # all have mapped it

    def close(self) -> None:
        """End the processes."""
        if self.processes:
            self._finalizer()

    def images(self, tasks: Iterable[Task]) -> Iterator[np.ndarray]:
        """Decode. Yields: for every task its images (n, H, W, C), which stand until the next ones are asked for.

        Raises: ``h2t.Error`` naming the image that cannot be decoded, or where a process ends.
        """
        tasks = enumerate(tasks)
        if not self.processes:
            for _, (paths, crops) in tasks:
                yield np.stack(
                    [
                        read_image(path, self.image_size, self.channels, self.fit, crop)
                        for path, crop in zip(paths, crops or repeat(None), strict=False)
                    ]
                )
            return
        self.busy, free, waiting, given = (
            True,
            list(range(self.size)),
            deque(),
            [0] * len(self.processes),
        )
        task = next(tasks, None)
        while task or waiting:
            # every process has its turn and answers in order, so that the next answer is always of the oldest task
            while task and free and given[k := task[0] % len(given)] < AHEAD:
                slot, (paths, crops) = free.pop(), task[1]
                self._tell(self.processes[k], [slot, paths, crops])
                waiting.append((k, slot, len(paths)))
                given[k] += 1
                task = next(tasks, None)
            k, slot, number = waiting.popleft()
            if error := self._answer(self.processes[k]):
                raise Error(error)
            given[k] -= 1
            yield self.slots[slot, :number]
            free.append(slot)
        self.busy = False

    def _tell(self, process: subprocess.Popen, what) -> None:
        try:
            process.stdin.write(json.dumps(what).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            self._died(process)

    def _answer(self, process: subprocess.Popen) -> str:
        if not (line := process.stdout.readline()).endswith(b"\n"):
            self._died(process)
        return json.loads(line)

    def _died(self, process: subprocess.Popen) -> None:
        code = process.wait()
        why = (
            f"was killed by {signal.Signals(-code).name}; out of memory?"
            if code < 0
            else f"ended with status {code}, see above."
        )
        raise Error(
            f"a process that decodes images {why} Set H2T_WORKERS to fewer than {len(self.processes)}, or to 0 for none"
        )


def _memory(size: int):
    """A file in memory, where there is such a thing, that other processes can map, and its path."""
    try:
        if hasattr(os, "memfd_create"):
            file = open(os.memfd_create("h2t"), "r+b")  # noqa: SIM115
            path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        else:
            file = tempfile.NamedTemporaryFile(prefix="h2t-")  # noqa: SIM115
            path = file.name
        if hasattr(os, "posix_fallocate"):  # memory that gives out under a map kills the process
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as e:
        raise Error(
            f"there is no room for {size / 1e6:.0f} MB of decoded images ({e.strerror}); set H2T_WORKERS to fewer, or batch_size lower"
        ) from None
    return file, path


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()  # it holds nothing that could be lost
    for process in processes:
        process.wait()
        with contextlib.suppress(OSError):  # what was still to be written to one that has ended
            process.stdin.close()
        process.stdout.close()
