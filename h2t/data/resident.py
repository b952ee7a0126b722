"""The Resident loader: the whole set as uint8 on the device, cut by index, no host in the loop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from h2t.data import augment
from h2t.data.split import Split

GROUP = 400_000  # pixels finished at a time on the CPU: a quarter of the time, within its cache
ROWS = 4096  # images read from disk at a time


class Loader:
    """What loaders share: labels, what an epoch draws, the way from pixels to a network's input.

    Arguments: ``mean``, ``std`` per channel in [0, 1]; ``padding`` p in pixels; ``pad_value`` zero
    pads the raw image with black, as the reference does, mean with the mean colour rounded to 8
    bits (what padding after normalisation gives, up to that rounding); ``shard`` (rank, world) of a
    process among several, which gets every world-th image from the rank-th on; ``color_jitter`` the
    strength of ``augment.jitter``; ``rotation`` up to how many degrees ``epoch`` turns every image.
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
    ):
        self.device, self.padding, self.shard = torch.device(device), padding, shard
        self.color_jitter, self.rotation = color_jitter, rotation
        self.height, self.width = split.images.shape[1:3]
        border = [round(255 * m) if pad_value == "mean" else 0 for m in mean]
        self.fill = torch.tensor(border, dtype=torch.uint8, device=self.device)
        self.labels = torch.from_numpy(split.labels).to(self.device)
        # (x / 255 - mean) / std as one multiply-add
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self.std = torch.tensor(std, dtype=torch.float32, device=self.device)
        self.scale, self.shift = 1 / (255 * self.std), -self.mean / self.std
        self.rows = torch.arange(self.height, device=self.device)
        self.columns = torch.arange(self.width, device=self.device)

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, num: int, generator: torch.Generator, flip: bool) -> list[torch.Tensor]:
        """What an epoch draws, on the CPU: offsets, flips and, if any, angles and colours."""
        offsets = 2 * self.padding + 1
        draws = [torch.randint(offsets, (num,), generator=generator) for _ in range(2)]
        draws.append(torch.rand(num, generator=generator) < (0.5 if flip else 0.0))
        if self.rotation:
            draws.append(self.rotation * (2 * torch.rand(num, generator=generator) - 1))
        if self.color_jitter:
            draws += augment.jitter_draws(num, self.color_jitter, generator)
        return draws

    def pad(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, H, W, C) uint8 with the border around them."""
        p = self.padding
        if not p:
            return images
        n, h, w, _ = images.shape
        out = self.fill.repeat(n, h + 2 * p, w + 2 * p, 1)
        out[:, p : p + h, p : p + w] = images
        return out

    def place(self, images: torch.Tensor, index, top, left, flip, *more) -> torch.Tensor:
        """Cut, mirror, turn, change colours and normalise.

        Arguments: ``images`` (N, H + 2p, W + 2p, C) uint8; the others (B,) on the device: ``index``
        int64 into them; ``top``, ``left`` int64 offsets in pixels, 0..2p; ``flip`` bool; ``more``
        what ``draw`` gives besides: angles in degrees, counter-clockwise, where there is a
        ``rotation``, and factors and order (B, 3) of ``color_jitter``.
        Returns: (B, C, H, W) float32 in channels_last memory order.
        """
        angle, jitter = (more[:1], more[1:]) if self.rotation else ((), more)
        _, down, across, channels = images.shape
        if angle:
            places, outside = self._turned(index, top, left, flip, *angle, down, across)
        else:
            mirrored = self.width - 1 - self.columns
            columns = torch.where(flip[:, None], mirrored, self.columns) + left[:, None]  # (B, W)
            rows = index[:, None] * down + self.rows + top[:, None]  # (B, H), of the whole set
            places = (rows * across)[:, :, None] + columns[:, None, :]  # (B, H, W)
        # one index a pixel: a third of the time of indexing by image, row and column
        pixels = images.view(-1, channels).index_select(0, places.flatten())
        pixels = pixels.view(*places.shape, channels)
        if angle:
            pixels = torch.where(outside[..., None], self.fill, pixels)
        return self.finish(pixels, *jitter)

    def _turned(self, index, top, left, flip, angle, down: int, across: int):
        """Where the pixels of turned images come from, and which lie outside, (B, H, W) both.

        As torchvision's RandomRotation after crop and flip, which takes the nearest pixel."""
        turn = torch.deg2rad(angle)[:, None, None]
        x, y = self.columns + 0.5 - self.width / 2, (self.rows + 0.5 - self.height / 2)[:, None]
        columns = (turn.cos() * x - turn.sin() * y + self.width / 2).floor().long()  # (B, H, W)
        rows = (turn.sin() * x + turn.cos() * y + self.height / 2).floor().long()
        outside = (columns < 0) | (columns >= self.width) | (rows < 0) | (rows >= self.height)
        columns, rows = columns.clamp(0, self.width - 1), rows.clamp(0, self.height - 1)
        index, top, left, flip = (t[:, None, None] for t in (index, top, left, flip))
        columns = torch.where(flip, self.width - 1 - columns, columns) + left
        return (index * down + rows + top) * across + columns, outside

    def finish(self, pixels: torch.Tensor, *jitter: torch.Tensor) -> torch.Tensor:
        """Change colours and normalise pixels (B, H, W, C) uint8, to what ``place`` returns."""
        group = max(1, GROUP // (self.height * self.width))
        if self.device.type != "cpu" or len(pixels) <= group:
            return self._finished(pixels, *jitter)
        out = torch.empty(pixels.shape, device=self.device).permute(0, 3, 1, 2)
        for k in range(0, len(pixels), group):
            out[k : k + group] = self._finished(*[t[k : k + group] for t in (pixels, *jitter)])
        return out

    def _finished(self, pixels: torch.Tensor, *jitter: torch.Tensor) -> torch.Tensor:
        if not jitter:
            return torch.addcmul(self.shift, pixels.float(), self.scale).permute(0, 3, 1, 2)
        x = augment.jitter(pixels.permute(0, 3, 1, 2).contiguous().float().div_(255), *jitter)
        x = x.sub_(self.mean.view(-1, 1, 1)).div_(self.std.view(-1, 1, 1))
        return x.contiguous(memory_format=torch.channels_last)


class Resident(Loader):
    """A split held on the device as uint8 (N, H + 2p, W + 2p, C), padded once."""

    def __init__(self, split: Split, *how, **more):
        super().__init__(split, *how, **more)
        p, (h, w) = self.padding, (self.height, self.width)
        self.images = self.fill.repeat(len(split), h + 2 * p, w + 2 * p, 1)
        for k in range(0, len(split), ROWS):  # of a memory map never the whole in memory besides
            part = torch.from_numpy(np.array(split.images[k : k + ROWS])).to(self.device)
            self.images[k : k + ROWS, p : p + h, p : p + w] = part

    def cut(self, index: torch.Tensor, *draws: torch.Tensor) -> torch.Tensor:
        """Images ``index`` as ``place`` makes them."""
        return self.place(self.images, index, *draws)

    def epoch(
        self, indices: torch.Tensor, batch_size: int, generator: torch.Generator, flip: bool = True
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch, all that is random in it drawn at once; the last batch may be short.

        Arguments: ``indices`` (M,) int64 and ``generator`` on the CPU; ``flip`` mirrors half of
        them. Yields: images (B, C, H, W) float32, of several processes its share of the batch;
        labels (B,) int64 of the whole batch.
        """
        draws = [t.to(self.device) for t in (indices, *self.draw(len(indices), generator, flip))]
        rank, world = self.shard
        for batch in zip(*[t.split(batch_size) for t in draws], strict=True):
            yield self.cut(*[t[rank::world] for t in batch]), self.labels[batch[0]]

    def plain(self, index: torch.Tensor) -> torch.Tensor:
        """Images ``index`` (B,), uncropped and unflipped: (B, C, H, W)."""
        index = index.to(self.device)
        middle = torch.full_like(index, self.padding)
        return self.cut(index, middle, middle, torch.zeros_like(index, dtype=torch.bool))

    def batches(self, batch_size: int = 500) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images once, in order, unaugmented; of several processes its share, with labels."""
        rank, world = self.shard
        for index in torch.arange(rank, len(self), world, device=self.device).split(batch_size):
            yield self.plain(index), self.labels[index]
