"""Batch normalisation over the images of all processes that train together."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose mean and variance are those of the whole batch, of which each process holds a share.

    torch's own, ``nn.SyncBatchNorm``, knows GPUs only; this one is for the rest. In eval mode it is ``nn.BatchNorm2d``.
    A process may hold no image of a batch. Shapes, parameters and buffers are those of ``nn.BatchNorm2d``.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        own = x.to(torch.promote_types(x.dtype, torch.float32))  # (b, C, H, W)
        number = own.new_full((1,), own[:, 0].numel())
        total, n = _Sum.apply(torch.cat([own.sum((0, 2, 3)), number])).tensor_split([-1])
        mean = total / n
        centred = own - mean[:, None, None]
        var = _Sum.apply(centred.square().sum((0, 2, 3))) / n  # about the mean, and so without cancellation
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (n / (n - 1)), self.momentum)
        scale = (var + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's gradient is the sum of what all of them do with it."""

    @staticmethod
    def forward(ctx, x):
        return _summed(x)

    @staticmethod
    def backward(ctx, gradient):
        return _summed(gradient)


def _summed(x: torch.Tensor) -> torch.Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Let a model's batch normalisations see the batches of all processes, their parameters and buffers as they were.

    Returns: the model. Call in every process, with the process group of ``torch.distributed`` set up.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d  # the same state, another forward
    return model
