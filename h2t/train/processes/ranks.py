"""Training in several processes: what a share of the batch and one writer mean.

Every process draws the same epoch and takes the images ``rank::world`` of every batch through the
network. In stage 1 the logits are gathered (B x C numbers), so that every loss is that of one
process to the letter; each process's gradient of it, which reaches its own images alone, is added
up. In stage 2, whose backbone is frozen, the features are gathered, and no gradient travels.

DistributedDataParallel would average losses that are means over shares, which is not the mean over
the batch where shares are uneven, classes have weights or a loss looks at the whole batch; what it
would gain is a millisecond for 25 million parameters between GPUs of one machine. A checkpoint
knows nothing of processes, so that any number of them goes on with it.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import NamedTuple

import torch
import torch.distributed as dist

from h2t.base.errors import Error
from h2t.models.batchnorm import synchronise


def ranks() -> Ranks:
    """Which process of how many this is."""
    joined = dist.is_available() and dist.is_initialized()
    return Ranks(dist.get_rank(), dist.get_world_size()) if joined else Ranks()


class Ranks(NamedTuple):
    """A process among those that train together: ``rank`` of ``world``. The first one alone
    writes."""

    rank: int = 0
    world: int = 1

    def check(self, batch_size: int) -> None:
        """Refuse more processes than a batch has images."""
        if batch_size < self.world:
            raise Error(
                f"batch_size {batch_size} leaves some of {self.world} processes without images; "
                f"start at most {batch_size}, or raise batch_size"
            )

    def prepare(self, model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        """Batch normalisation over the whole batch, or as it is over each process's share."""
        return synchronise(model, device) if self.world > 1 else model

    def gather(self, own: torch.Tensor, total: int) -> torch.Tensor:
        """The rows of a whole batch (..., B, D), in order, of which this process has ``own`` (...,
        b, D), the rows ``rank::world`` of ``total`` B. Gradients flow into the own rows alone."""
        if self.world == 1:
            return own
        most = -(-total // self.world)
        padded = own.new_zeros(*own.shape[:-2], most, own.shape[-1])
        padded[..., : own.shape[-2], :] = own.detach()
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        whole = torch.stack(parts, -2).flatten(-3, -2)[..., :total, :]
        whole[..., self.rank :: self.world, :] = own
        return whole

    def take(self, own: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Images ``index[rank::world]`` of the whole batch, from whichever process has them.

        Arguments: ``own`` (b, C, H, W), the images ``rank::world``; ``index`` (B,) int64 on the
        CPU, a permutation that all processes agree on.
        """
        if self.world == 1:
            return own[index.to(own.device, non_blocking=True)]
        wanted = [index[r :: self.world] for r in range(self.world)]
        # my rows, by who wants them
        mine = [w[w % self.world == self.rank] // self.world for w in wanted]
        owners = wanted[self.rank] % self.world
        sent = own[torch.cat(mine).to(own.device)].flatten(1)
        received = sent.new_empty(len(owners), sent.shape[1])
        counts = torch.bincount(owners, minlength=self.world).tolist()
        dist.all_to_all_single(received, sent, counts, [len(m) for m in mine])
        images = torch.empty_like(own)  # in its memory order
        images[owners.argsort(stable=True).to(own.device)] = received.view(-1, *own.shape[1:])
        return images

    def sum_gradients(self, model: torch.nn.Module) -> None:
        if self.world > 1:
            _together([p.grad for p in model.parameters() if p.grad is not None])

    def agree(self, model: torch.nn.Module) -> None:
        """Average running statistics, which differ where each process saw its own share."""
        if self.world > 1:
            _together([b for b in model.buffers() if b.is_floating_point()], self.world)

    def first(self, function, *arguments):
        """Call a function in the first process while the others wait; all return its result, which
        is made of what a checkpoint may hold, or raise its ``h2t.Error``."""
        if self.world == 1:
            return function(*arguments)
        answer = {}
        if self.rank == 0:
            try:
                answer["result"] = function(*arguments)
            except Error as e:
                answer["error"] = str(e)
        answer = _told(answer, self.rank)
        if "error" in answer:
            raise Error(answer["error"])
        return answer["result"]

    @contextlib.contextmanager
    def alone(self, context):
        """Hold a context, such as a run's lock, in the first process for all of them."""
        with contextlib.ExitStack() as stack:

            def enter() -> None:
                stack.enter_context(context)

            self.first(enter)
            yield

    def each_machine(self, function) -> None:
        """Call a function in one process of every other machine while the rest wait."""
        if self.rank and os.environ.get("LOCAL_RANK") == "0":
            function()
        self.first(lambda: None)


ALONE = Ranks()


def _together(tensors: list[torch.Tensor], parts: int = 1) -> None:
    """Replace tensors by their sums over all processes, over ``parts``, in one message."""
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    for t, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        t.copy_(total.view_as(t) / parts if parts > 1 else total.view_as(t))


def _told(value, rank: int):
    """What the first process says, opened weights-only like any other pickle."""
    buffer = io.BytesIO()
    if rank == 0:
        torch.save(value, buffer)
    size = torch.tensor(buffer.tell())
    dist.broadcast(size, 0)
    content = torch.zeros(int(size), dtype=torch.uint8)
    if rank == 0:
        content = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
    dist.broadcast(content, 0)
    if rank == 0:
        return value
    return torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True)
