"""What a head is trained on, features of a frozen network, and what it becomes, a classifier of
them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from h2t.base.errors import Error


@dataclass(frozen=True)
class Features:
    """Features of training images: ``views`` (V, N, D) float32, a row of views an image; ``labels``
    (N,) int64 in 0 to C - 1; ``num_classes`` C. ``lent`` (L, N, D) are what the fusing branch
    lends, the views where it is None; ``groups`` (N,) int64 say which images no split may part, or
    are None.
    """

    views: torch.Tensor
    labels: torch.Tensor
    num_classes: int
    lent: torch.Tensor | None = None
    groups: torch.Tensor | None = None

    @property
    def counts(self) -> torch.Tensor:
        """Images per class, (C,) int64."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    @property
    def means(self) -> torch.Tensor:
        """The mean feature of each class (C, D) over all views; zeros for a class without
        images.
        """
        z = self.views.mean(0)
        total = z.new_zeros(self.num_classes, z.shape[1]).index_add_(0, self.labels, z)
        return total / self.counts.clamp_min(1)[:, None]

    def take(self, indices: torch.Tensor) -> Features:
        """The part with these images (M,)."""
        lent = None if self.lent is None else self.lent[:, indices]
        groups = None if self.groups is None else self.groups[indices]
        views, labels = self.views[:, indices], self.labels[indices]
        return replace(self, views=views, labels=labels, lent=lent, groups=groups)

    def scaled(self) -> tuple[Features, float]:
        """The same with a mean squared length of ``LENGTH``, and the factor: one learning rate
        suits all networks.
        """
        factor = (LENGTH / self.views.square().sum(2).mean().clamp_min(1e-12)).sqrt().item()
        lent = None if self.lent is None else self.lent * factor
        return replace(self, views=self.views * factor, lent=lent), factor


LENGTH = 64.0  # the mean squared length of features that heads are trained on


def features(views, labels, num_classes: int | None = None) -> Features:
    """Check arrays and make ``Features`` of them.

    Arguments: ``views`` (V, N, D) or (N, D); ``labels`` (N,) integers. Raises: ``h2t.Error`` for
    features that are not finite, other numbers of features and labels, or a class without images.
    """
    z, y = torch.as_tensor(np.asarray(views)).float(), torch.as_tensor(np.asarray(labels)).long()
    z = z[None] if z.dim() == 2 else z
    if z.dim() != 3 or y.dim() != 1 or z.shape[1] != len(y):
        raise Error(f"features {tuple(z.shape)} and labels {tuple(y.shape)} are not of one length")
    if not torch.isfinite(z).all():
        bad = (~torch.isfinite(z)).any(2).any(0).nonzero().flatten()
        raise Error(f"features of {len(bad)} images are not finite, the first of image {bad[0]}")
    c = num_classes or int(y.max()) + 1
    if not len(y) or y.min() < 0 or y.max() >= c:
        raise Error(f"labels must lie in 0 to {c - 1}")
    empty = (torch.bincount(y, minlength=c) == 0).nonzero().flatten().tolist()
    if empty:
        raise Error(f"class {empty[0]} has no training images; leave it out, or add some")
    return Features(z, y, c)


@dataclass(frozen=True)
class Classifier:
    """Linear, ``weight`` (C, D) and ``bias`` (C,); with a ``scale`` the cosine of rows and features
    instead.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    scale: float | None = None

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of features (N, D)."""
        if self.scale is None:
            return z @ self.weight.T + self.bias
        return self.scale * F.normalize(z, dim=1) @ F.normalize(self.weight, dim=1).T + self.bias

    def unscaled(self, factor: float) -> Classifier:
        """For features that were not multiplied by ``factor``."""
        return replace(self, weight=self.weight * factor) if self.scale is None else self
