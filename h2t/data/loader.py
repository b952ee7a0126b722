"""The Resident loader: the whole set as uint8 on the device, crops and flips by index, no host in the loop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from h2t.data.split import Split

PAD_VALUES = ("zero", "mean")


class Resident:
    """A split held on the device as uint8 (N, H + 2p, W + 2p, C), padded once, cut and normalised batch by batch.

    Arguments: ``split``; ``mean``, ``std`` per channel in [0, 1]; ``device``; ``padding`` p in pixels; ``pad_value``
    "zero" pads the raw image with black, as the reference does, "mean" with the mean colour rounded to 8 bits (what
    padding after normalisation gives, up to that rounding); ``shard`` (rank, world) of a process among several, which
    gets every world-th image from the rank-th on. ``rotation`` may be set afterwards: ``epoch`` then turns every image by up to
    so many degrees.
    """

    rotation = 0.0

    def __init__(self, split: Split, mean, std, device="cpu", padding: int = 0, pad_value: str = "zero", shard: tuple[int, int] = (0, 1)):
        self.device, self.padding, self.shard = torch.device(device), padding, shard
        # a memory map is read-only, which torch cannot hold
        pixels = split.images if split.images.flags.writeable else np.array(split.images)
        images = torch.from_numpy(pixels).to(self.device)
        n, self.height, self.width, c = images.shape
        fill = [round(255 * m) if pad_value == "mean" else 0 for m in mean]
        self.fill = torch.tensor(fill, dtype=torch.uint8, device=self.device)
        if padding:
            padded = torch.empty(n, self.height + 2 * padding, self.width + 2 * padding, c, dtype=torch.uint8)
            padded = padded.to(self.device)
            padded[:] = self.fill
            padded[:, padding : padding + self.height, padding : padding + self.width] = images
            images = padded
        self.images = images.contiguous()
        self.labels = torch.from_numpy(split.labels).to(self.device)
        # (x / 255 - mean) / std as one multiply-add
        std = torch.tensor(std, dtype=torch.float32, device=self.device)
        self.scale = 1 / (255 * std)
        self.shift = -torch.tensor(mean, dtype=torch.float32, device=self.device) / std
        self.rows = torch.arange(self.height, device=self.device)
        self.columns = torch.arange(self.width, device=self.device)

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, index: torch.Tensor, top: torch.Tensor, left: torch.Tensor, flip: torch.Tensor, angle: torch.Tensor | None = None) -> torch.Tensor:
        """Crop, flip, turn and normalise images.

        Arguments, all (B,) on the device: ``index`` int64; ``top``, ``left`` int64 offsets into the padded image, in
        pixels, 0..2p; ``flip`` bool; ``angle`` float32 in degrees, counter-clockwise, or None. Returns: (B, C, H, W) float32 in
        channels_last memory order.
        """
        if angle is not None:
            return self._turned(index, top, left, flip, angle)
        columns = torch.where(flip[:, None], self.width - 1 - self.columns, self.columns) + left[:, None]  # (B, W)
        rows = self.rows + top[:, None]  # (B, H)
        _, down, across, channels = self.images.shape
        places = ((index[:, None] * down + rows) * across)[:, :, None] + columns[:, None, :]  # (B, H, W), of pixels in the whole set
        # one index a pixel: a third of the time of indexing by image, row and column
        pixels = self.images.view(-1, channels).index_select(0, places.flatten()).view(*places.shape, channels)
        return torch.addcmul(self.shift, pixels.float(), self.scale).permute(0, 3, 1, 2)

    def _turned(self, index, top, left, flip, angle) -> torch.Tensor:
        """``cut`` where images are turned about their centre, each pixel taking the nearest one, and what lies outside the padding's
        colour: what torchvision's RandomRotation gives after crop and flip."""
        turn = torch.deg2rad(angle)[:, None, None]
        x, y = self.columns + 0.5 - self.width / 2, (self.rows + 0.5 - self.height / 2)[:, None]
        columns = (turn.cos() * x - turn.sin() * y + self.width / 2).floor().long()  # (B, H, W)
        rows = (turn.sin() * x + turn.cos() * y + self.height / 2).floor().long()
        outside = (columns < 0) | (columns >= self.width) | (rows < 0) | (rows >= self.height)
        columns, rows = columns.clamp(0, self.width - 1), rows.clamp(0, self.height - 1)
        index, top, left, flip = (t[:, None, None] for t in (index, top, left, flip))
        columns = torch.where(flip, self.width - 1 - columns, columns) + left
        _, down, across, channels = self.images.shape
        places = (index * down + rows + top) * across + columns
        pixels = self.images.view(-1, channels).index_select(0, places.flatten()).view(*places.shape, channels)
        pixels = torch.where(outside[..., None], self.fill, pixels)
        return torch.addcmul(self.shift, pixels.float(), self.scale).permute(0, 3, 1, 2)

    def epoch(
        self, indices: torch.Tensor, batch_size: int, generator: torch.Generator, flip: bool = True
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One augmented epoch: a random crop, flip and, with ``rotation``, turn for every image, drawn at once, the last batch may be short.

        Arguments: ``indices`` (M,) int64 on the CPU; ``generator`` on the CPU; ``flip`` whether to mirror half of them.
        Yields: images (B, C, H, W) float32, of several processes its share of the batch; labels (B,) int64 of the whole batch.
        """
        m, offsets = len(indices), 2 * self.padding + 1
        top = torch.randint(offsets, (m,), generator=generator)
        left = torch.randint(offsets, (m,), generator=generator)
        mirror = torch.rand(m, generator=generator) < (0.5 if flip else 0.0)
        turned = [self.rotation * (2 * torch.rand(m, generator=generator) - 1)] if self.rotation else []
        draws = [t.to(self.device) for t in (indices, top, left, mirror, *turned)]
        rank, world = self.shard
        for batch in zip(*[t.split(batch_size) for t in draws], strict=True):
            yield self.cut(*[t[rank::world] for t in batch]), self.labels[batch[0]]

    def batches(self, batch_size: int = 500) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images once, in order, uncropped and unflipped, for evaluation; of several processes its share, with its labels."""
        p, (rank, world) = self.padding, self.shard
        for index in torch.arange(rank, len(self), world, device=self.device).split(batch_size):
            middle = torch.full_like(index, p)
            yield self.cut(index, middle, middle, torch.zeros_like(index, dtype=torch.bool)), self.labels[index]
