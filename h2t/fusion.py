"""H2T, the fusion of head features into the tail, and what to hold it against."""

import torch

from h2t.base import rng
from h2t.base.errors import Error

# The permutation-invariant fusion (PIF) of the follow-up, Li et al. 2025, arXiv 2506.00625, is not
# among these: it fuses while the backbone learns, and its abstract gives no formula.


def channel_mask(
    num_channels: int, fusion_ratio: float, generator: torch.Generator, num_experts: int = 1
) -> torch.Tensor:
    """Draw the channel mask M_p of one batch.

    Source: Li et al., "Feature Fusion from Head to Tail for Long-Tailed Visual Recognition", AAAI
    2024, section 3.2.

    Arguments: ``num_channels`` D; ``fusion_ratio`` p in [0, 1]; ``generator`` on the CPU;
    ``num_experts`` K, whose blocks of D / K channels each have a permutation of their own.
    Returns: (D,) bool, True for the first int(p * D / K) channels of each permutation.
    """
    if not 0.0 <= fusion_ratio <= 1.0:
        raise Error(f"fusion_ratio is {fusion_ratio}, a share of channels; it must lie in [0, 1]")
    each = num_channels // num_experts
    mask = torch.zeros(num_experts, each, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(each, generator=generator)[: int(fusion_ratio * each)]] = True
    return mask.flatten()


def fuse(fused: torch.Tensor, fusing: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Replace the masked channels of the fused branch: M_p * F_I + (1 - M_p) * F_B.

    Source: Li et al., AAAI 2024, equation 4. The fused branch keeps its labels. The swap commutes
    with average pooling: feature maps or pooled features give the same result.

    Arguments: ``fused`` F_B and ``fusing`` F_I, both (B, D) or (B, D, h, w); ``mask`` (D,) bool.
    """
    if fused.shape != fusing.shape or mask.shape != fused.shape[1:2]:
        raise Error(
            f"fuse needs two branches of one shape (B, D, ...) and a mask (D,); "
            f"got {tuple(fused.shape)}, {tuple(fusing.shape)} and {tuple(mask.shape)}"
        )
    return torch.where(mask.view(1, -1, *[1] * (fused.dim() - 2)), fusing, fused)


def lend(fusing: torch.Tensor, fusion: str, generator) -> torch.Tensor:
    """What is put into the swapped channels (B, D): the features ``fusing``; with ``fusion`` noise
    a Gaussian of each channel's mean and standard deviation over the batch, drawn as by
    ``rng.normal``; with zeros zeros.
    """
    if fusion == "zeros":
        return torch.zeros_like(fusing)
    if fusion == "noise":
        noise = rng.normal(fusing.shape, generator).to(fusing)
        return fusing.mean(0) + fusing.std(0, correction=0) * noise
    return fusing


def soft_share(fused: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """The share w that an image keeps of itself in a soft fusion: 0.2 + 0.8 / (1 + d).

    Source: a variant in the code of Li et al. 2024 that its paper does not use. Its d is taken here
    as the Euclidean distance to the mean feature of the image's class, as stage 1's backbone sees
    the training images: a row of the classifier moves during training.

    Arguments: ``fused`` (..., D); ``centres`` (..., D), of each image's class. Returns: (..., 1).
    """
    return 0.2 + 0.8 / (1 + (fused - centres).norm(dim=-1, keepdim=True))


def class_means(z: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Mean features by class (C, D) of ``z`` (N, D) and ``labels`` (N,), zeros for one without."""
    total = z.new_zeros(num_classes, z.shape[1]).index_add_(0, labels, z)
    return total / torch.bincount(labels, minlength=num_classes).clamp_min(1)[:, None]


def blend(fused, lent, mask, fusion_ratio, fusion: str, share=None) -> torch.Tensor:
    """Fuse the fused branch with what is lent to it, by any of ``FUSIONS``.

    Arguments: ``fused`` and ``lent`` (..., B, D), and broadcast to them: ``mask`` bool, of channels
    to swap; ``fusion_ratio`` p for mixup, (1 - p) fused + p lent; ``share`` (..., B, 1) of
    ``soft_share`` for soft, w fused + (1 - w) lent in the channels of the mask (the source: in all,
    p = 1). Returns: (..., B, D).
    """
    if fusion == "soft":
        return torch.where(mask, torch.lerp(lent, fused, share.to(fused.dtype)), fused)
    if fusion == "mixup":
        return fused + fusion_ratio * (lent - fused)
    return torch.where(mask, lent, fused)
