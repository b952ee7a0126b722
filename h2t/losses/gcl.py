"""Gaussian clouded logits (GCL)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from h2t.base import rng
from h2t.losses.cross_entropy import mean

SCALE, DELTA = 30.0, 0.5


def gcl(
    logits,
    labels,
    counts,
    weight=None,
    *,
    generator: torch.Generator | Iterator[torch.Tensor] | None = None,
    delta: float = DELTA,
    scale: float = SCALE,
    margin: float = 0.0,
    gamma: float = 0.0,
) -> torch.Tensor:
    """Cross entropy on cosines lowered at random, the more the rarer their class.

    Source: Li et al., "Long-tailed visual recognition via Gaussian clouded logit adjustment", CVPR
    2022, equations 5 to 8, with its released settings: cosine_j - delta |e| (log n_max - log n_j) /
    log(n_max / n_min), e ~ N(0, 1/3) clipped to +-1. Its second stage has ``scale`` 20, a
    ``margin`` 0.1 off the true class's cosine, and a focal factor (1 - p)^``gamma``, gamma = 1,
    through which no gradient flows.

    Arguments: ``logits`` of a cosine head, already multiplied by ``SCALE``; ``generator`` of the
    cloud, on the CPU, or an iterator over standard normal numbers (B, C) (None: no cloud);
    ``delta`` its size and ``margin``, both in cosines; ``scale`` of this loss.
    """
    log_n = counts.double().log()
    spread = (log_n.max() - log_n.min()).clamp_min(1e-12)
    rarity = ((log_n.max() - log_n) / spread).to(logits.dtype)  # (C,) 0 head .. 1 tail
    lowered = logits / SCALE
    if generator is not None:
        cloud = rng.normal(logits.shape, generator).div(3).clamp_(-1, 1).abs_()
        lowered = lowered - delta * cloud.to(logits, non_blocking=True) * rarity
    if margin:
        lowered = lowered - margin * F.one_hot(labels, logits.shape[1])
    log_p = F.log_softmax(scale * lowered, 1).gather(1, labels[:, None])[:, 0]  # (B,)
    loss = (-torch.expm1(log_p.detach())).clamp_min(0) ** gamma * -log_p if gamma else -log_p
    return mean(loss, labels, weight)
