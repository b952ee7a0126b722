"""The Streamed loader: image files decoded by other processes, for sets too large to hold."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from h2t.base.errors import Error
from h2t.base.machine import cores
from h2t.data.images import read_image
from h2t.data.resident import Loader
from h2t.data.split import Files, Split

CHUNK = 16  # images that a process is given at a time


def number_of_workers() -> int:
    """``$H2T_WORKERS``, else as many as this process has cores; 0 decodes in the process itself.

    Raises: ``h2t.Error`` where the variable is no whole number.
    """
    if given := os.environ.get("H2T_WORKERS", ""):
        if not given.isdecimal():
            raise Error(
                f"H2T_WORKERS is {given!r}; it is the number of processes that decode images"
            )
        return int(given)
    if multiprocessing.current_process().daemon:  # such a one may start no others
        return 0
    if processes := os.environ.get("LOCAL_WORLD_SIZE"):  # torchrun: they share the cores
        return max(1, cores() // int(processes))
    return max(1, min(cores(), int(os.environ.get("OMP_NUM_THREADS") or cores())))


class Streamed(Loader):
    """A split of image files with the iteration of ``Resident``.

    Other processes decode, cut and resize, in 8 bits; a whole batch is coloured and normalised on
    the device. All that is random is drawn in this process for the epoch, so that batches do not
    depend on the number of processes; with ``crop`` padded they are those of ``Resident`` to the
    bit.

    Arguments: ``split`` with images of kind ``Files``; ``crop`` padded cuts from the image with a
    border, resized cuts a random part out of the file and resizes it (``images.random_box``);
    ``workers`` processes, by default ``number_of_workers``; the others as of ``Loader``.
    """

    def __init__(
        self, split: Split, *how, crop: str = "padded", workers: int | None = None, **more
    ):
        super().__init__(split, *how, **more)
        if crop == "resized":
            self.padding = 0
        self.files: Files = split.images
        self.crop, self.workers = crop, number_of_workers() if workers is None else workers
        self._idle: list[_Decoding] = []

    def epoch(
        self, indices: torch.Tensor, batch_size: int, generator: torch.Generator, flip: bool = True
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As ``Resident.epoch``. Raises ``h2t.Error`` naming an image that cannot be decoded."""
        draws, crops = self.draw(len(indices), generator, flip), ()
        if self.crop == "resized":
            crops = torch.randint(2**62, (len(indices),), generator=generator), draws[2]
        rank, world = self.shard
        own = [batch[rank::world] for batch in torch.arange(len(indices)).split(batch_size)]
        moved = [t.to(self.device).split(batch_size) for t in (indices, *draws)]
        pixels_of = self._pixels(indices, own, crops)
        for (index, *batch), pixels in zip(zip(*moved, strict=True), pixels_of, strict=True):
            top, left, mirror, *more = (t[rank::world] for t in batch)
            if crops and not self.rotation:  # cut and mirrored already
                x = self.finish(pixels, *more)
            else:
                mirror = torch.zeros_like(mirror) if crops else mirror
                here = torch.arange(len(top), device=self.device)
                x = self.place(self.pad(pixels), here, top, left, mirror, *more)
            yield x, self.labels[index]

    def plain(self, index: torch.Tensor) -> torch.Tensor:
        """As ``Resident.plain``."""
        return self.finish(torch.from_numpy(self.files[index.cpu().numpy()]).to(self.device))

    def batches(self, batch_size: int = 500) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As ``Resident.batches``."""
        rank, world = self.shard
        own = list(torch.arange(rank, len(self), world).split(batch_size))
        pixels_of = self._pixels(torch.arange(len(self)), own, ())
        for index, pixels in zip(own, pixels_of, strict=True):
            yield self.finish(pixels), self.labels[index.to(self.device)]

    def _pixels(self, indices: torch.Tensor, batches: list[torch.Tensor], crops):
        """Decoded images on the device, (b, H, W, C) uint8 for each of ``batches`` of positions in
        ``indices``, and in the seeds and flips of random ``crops``, if there are any."""
        # images decoded before they are asked for, at least
        ahead = 2 * max(map(len, batches), default=0)
        self._idle = [d for d in self._idle if d.ahead >= ahead]
        decoding = self._idle.pop() if self._idle else _Decoding(self.files, self.workers, ahead)
        parts = [part for batch in batches if len(batch) for part in batch.split(CHUNK)]
        chunks = decoding.images(self._task(indices, part, crops) for part in parts)
        pinned, left = self.device.type == "cuda", len(parts)
        try:
            for batch in batches:
                shape = len(batch), *self.files.shape[1:]
                pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
                for part in pixels.split(CHUNK) if len(batch) else ():
                    part.numpy()[:] = np.frombuffer(next(chunks), np.uint8).reshape(part.shape)
                    left -= 1
                yield pixels.to(self.device, non_blocking=True)
        finally:
            if not left:  # all that was asked for has come; who takes the last may not come back
                self._idle.append(decoding)

    def _task(self, indices: torch.Tensor, part: torch.Tensor, crops) -> list[tuple]:
        """The files of a part and, as ``read_image`` takes them, their random crops or None."""
        paths = [self.files.path(int(k)) for k in indices[part]]
        if not crops:
            return [(path, None) for path in paths]
        return list(zip(paths, zip(*[t[part].tolist() for t in crops], strict=True), strict=True))


class _Decoding:
    """Processes that decode one stream of images at a time, and stay for the next one."""

    def __init__(self, files: Files, workers: int, ahead: int):
        self.workers, self.ahead, self.tasks = workers, ahead, _Tasks()
        how = {}
        if workers:
            context = "spawn" if sys.platform == "win32" else "forkserver"
            context = multiprocessing.get_context(context)
            context.set_forkserver_preload([__name__])  # torch is imported once for all of them
            how = dict(
                multiprocessing_context=context,
                persistent_workers=True,
                prefetch_factor=max(2, -(-ahead // (CHUNK * workers))),
                worker_init_fn=_begin,
            )
        self.loader = DataLoader(
            _Decoder(files.how),
            batch_size=None,
            sampler=self.tasks,
            num_workers=workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # or the global one is drawn from
            **how,
        )

    def images(self, tasks) -> Iterator[bytes]:
        """The pixels (n, H, W, C) of every task."""
        self.tasks.now = iter(tasks)
        try:
            with _nothing_of_main():
                chunks = iter(self.loader)
            for chunk in chunks:
                if isinstance(chunk, str):
                    raise Error(chunk)
                yield chunk
        except (RuntimeError, OSError, EOFError) as e:
            raise Error(
                f"a process that decodes images ended ({' '.join(str(e).split())}); out of memory? "
                f"Set H2T_WORKERS to fewer than {self.workers}, or to 0 for none"
            ) from None


class _Tasks:
    """What a DataLoader walks through, new for every epoch."""

    now: Iterator = iter(())

    def __iter__(self) -> Iterator:
        return self.now


class _Decoder:
    """The pixels of a task's images, or an error's text.

    They go through a pipe: tensors would go through /dev/shm, which has 64 MB in a container, and
    arrays take half as long again.
    """

    def __init__(self, how: dict):
        self.how = how

    def __getitem__(self, task) -> bytes | str:
        try:
            return b"".join(read_image(path, crop=crop, **self.how) for path, crop in task)
        except Error as e:
            return str(e)


def _as_it_is(chunk):
    return chunk


def _begin(_) -> None:
    """In each process: Ctrl-C is for the one that it works for, and it ends with that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_it() -> None:
        multiprocessing.parent_process().join()
        os._exit(0)

    threading.Thread(target=end_with_it, daemon=True).start()


@contextlib.contextmanager
def _nothing_of_main() -> Iterator[None]:
    """Processes started here do not run the main script again: it needs no guard, and what
    pytest or a notebook is made of is safe."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
