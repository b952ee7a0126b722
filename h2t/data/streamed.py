"""The Streamed loader: image files decoded by worker processes, batch after batch, for sets that are too large to hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from h2t.data.lazy import Files
from h2t.data.resident import Loader
from h2t.data.split import Split
from h2t.data.workers import CHUNK, Task, Workers, number_of_workers

CROPS = ("padded", "resized")


class Streamed(Loader):
    """A split of image files with the iteration of ``Resident``.

    Workers decode, cut and resize, in 8 bits; changes of colour and normalisation are done for a whole batch on the device. All that is random is drawn in this process for the epoch, as ``Resident`` draws it, so that batches do
    not depend on the number of workers; with ``crop`` padded they are those of ``Resident`` to the bit.

    Arguments: ``split`` with images of kind ``lazy.Files``; ``crop`` padded cuts from the image with a border, resized cuts a random
    part out of the file and resizes it (``read.random_box``); ``workers`` processes, by default ``number_of_workers``; the others as
    of ``Loader``.
    """

    def __init__(
        self,
        split: Split,
        mean,
        std,
        device="cpu",
        padding: int = 0,
        pad_value: str = "zero",
        shard: tuple[int, int] = (0, 1),
        color_jitter: float = 0.0,
        rotation: float = 0.0,
        crop: str = "padded",
        workers: int | None = None,
    ):
        super().__init__(
            split,
            mean,
            std,
            device,
            0 if crop == "resized" else padding,
            pad_value,
            shard,
            color_jitter,
            rotation,
        )
        self.files: Files = split.images
        self.crop, self.workers = crop, number_of_workers() if workers is None else workers
        self._idle: list[Workers] = []

    def epoch(
        self, indices: torch.Tensor, batch_size: int, generator: torch.Generator, flip: bool = True
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One augmented epoch, the last batch may be short. Arguments and batches as of ``Resident.epoch``.

        Raises: ``h2t.Error`` naming an image that cannot be decoded.
        """
        draws, crops = self.draw(len(indices), generator, flip), None
        if self.crop == "resized":
            crops = torch.randint(2**62, (len(indices),), generator=generator), draws[2]
        rank, world = self.shard
        own = [batch[rank::world] for batch in torch.arange(len(indices)).split(batch_size)]
        drawn = zip(
            *[t.to(self.device).split(batch_size) for t in (indices, *draws)], strict=True
        )  # moved once
        for (index, *batch), pixels in zip(drawn, self._pixels(indices, own, crops), strict=True):
            top, left, mirror, *more = (t[rank::world] for t in batch)
            if crops and not self.rotation:  # cut and mirrored by the workers
                x = self.finish(pixels, *more)
            else:
                mirror = torch.zeros_like(mirror) if crops else mirror
                x = self.place(
                    self.pad(pixels),
                    torch.arange(len(top), device=self.device),
                    top,
                    left,
                    mirror,
                    *more,
                )
            yield x, self.labels[index]

    def plain(self, index: torch.Tensor) -> torch.Tensor:
        """Images ``index`` (B,), uncropped and unflipped: (B, C, H, W)."""
        return self.finish(torch.from_numpy(self.files[index.cpu().numpy()]).to(self.device))

    def batches(self, batch_size: int = 500) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images once, in order, unaugmented, for evaluation; of several processes its share, with its labels."""
        rank, world = self.shard
        own = list(torch.arange(rank, len(self), world).split(batch_size))
        for index, pixels in zip(
            own, self._pixels(torch.arange(len(self)), own, None), strict=True
        ):
            yield self.finish(pixels), self.labels[index.to(self.device)]

    def _pixels(
        self,
        indices: torch.Tensor,
        batches: list[torch.Tensor],
        crops: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> Iterator[torch.Tensor]:
        """Decoded images on the device, (b, H, W, C) uint8 for each of ``batches`` of positions in ``indices``, and in the seeds
        and flips of random ``crops``, if there are any."""
        pinned, most = self.device.type == "cuda", max(map(len, batches), default=0)
        workers = self._take(2 * most)
        chunks = workers.images(
            task for batch in batches for task in self._tasks(indices, batch, crops)
        )
        try:
            for batch in batches:
                pixels, done = (
                    torch.empty(
                        len(batch), *self.files.shape[1:], dtype=torch.uint8, pin_memory=pinned
                    ),
                    0,
                )
                while done < len(batch):
                    part: np.ndarray = next(chunks)
                    pixels[done : done + len(part)] = torch.from_numpy(part)
                    done += len(part)
                if batch is batches[-1]:
                    next(chunks, None)  # who takes the last batch may not come back
                yield pixels.to(self.device, non_blocking=True)
        finally:
            chunks.close()
            self._idle.append(workers) if not workers.busy else workers.close()

    def _tasks(self, indices: torch.Tensor, batch: torch.Tensor, crops) -> Iterator[Task]:
        for part in batch.split(CHUNK):
            paths = [self.files.path(int(k)) for k in indices[part]]
            yield (
                paths,
                None
                if crops is None
                else list(zip(*[t[part].tolist() for t in crops], strict=True)),
            )

    def _take(self, ahead: int) -> Workers:
        """Workers that no other epoch of this loader uses now: those of an earlier one, or new ones."""
        while self._idle:
            workers = self._idle.pop()
            if not workers.processes or workers.size * CHUNK >= ahead:
                return workers
            workers.close()
        return Workers(
            self.files.image_size, self.files.channels, self.files.fit, self.workers, ahead
        )
