"""Class-balanced weights."""

import math

import torch
import torch.nn.functional as F

BETA = 0.9999


def class_weights(counts: torch.Tensor) -> torch.Tensor:
    """Weights of classes (C,) by effective number of images, (1 - beta) / (1 - beta^n), of sum C.

    Source: Cui et al. 2019, equation 4.
    """
    effective = -torch.expm1(counts.double() * math.log(BETA))
    return len(counts) * (1 / effective) / (1 / effective).sum()


def class_balanced(logits, labels, counts, weight=None) -> torch.Tensor:
    """Cross entropy with ``class_weights``.

    Deviation: the mean is over the batch's weights, as in LDAM-DRW's code (Cao et al. 2019); Cui et
    al. take the plain one, over its images.
    """
    own = class_weights(counts).to(logits.dtype)
    return F.cross_entropy(logits, labels, own if weight is None else own * weight)
