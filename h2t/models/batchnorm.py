"""Batch normalisation: over all processes that train together, and folded into convolutions."""

import copy

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def norms(network: nn.Module) -> list[nn.Module]:
    """The batch normalisations of a network, in order."""
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the whole batch, of which each process holds a share, or no image.

    torch's own, ``nn.SyncBatchNorm``, knows GPUs only; this one is for the rest.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        own = x.to(torch.promote_types(x.dtype, torch.float32))  # (b, C, H, W)
        n = own[:, 0].numel()
        mean = own.sum((0, 2, 3)) / max(n, 1)
        # about the mean, and so without cancellation
        square = (own - mean[:, None, None]).square().sum((0, 2, 3))
        every = _Gathered.apply(torch.cat([mean, square, own.new_tensor([n])]))  # (world, 2 C + 1)
        means, squares, ns = every.tensor_split([len(mean), 2 * len(mean)], 1)
        n = ns.sum()
        mean = (ns * means).sum(0) / n
        var = (squares + ns * (means - mean).square()).sum(0) / n
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (n / (n - 1)), self.momentum)
        scale = (var + self.eps).rsqrt() * self.weight
        out = (own - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)


class _Gathered(torch.autograd.Function):
    """The vectors of all processes (world, D); one's own has the sum of all their gradients."""

    @staticmethod
    def forward(ctx, own):
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Let a model's batch normalisations see the batches of all processes, which all call this."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d  # the same state, another forward
    return model


def fold(network: nn.Module) -> nn.Module:
    """A copy in eval mode with each BN folded into the convolution before it: equal up to rounding.

    A BN belongs to the convolution whose name in the same module has ``conv`` where its own has
    ``bn``, or that it follows in a sequence; others stay as they are.
    """
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        for name, child in list(module.named_children()):
            before = str(int(name) - 1) if name.isdigit() else name.replace("bn", "conv")
            conv = getattr(module, before, None)
            if isinstance(child, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                setattr(module, before, fuse_conv_bn_eval(conv, child))
                setattr(module, name, nn.Identity())
    return folded.to(memory_format=torch.channels_last)
