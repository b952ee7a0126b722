"""What a head is trained on, features of a frozen network, and what it becomes, a classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from h2t.fusion import class_means

LENGTH = 64.0  # the mean squared length of features that heads are trained on


@dataclass(frozen=True)
class Features:
    """Features of training images: ``views`` (V, N, D) float32 and ``labels`` (N,) int64 in 0 to
    C - 1. ``lent`` (L, N, D) is what the fusing branch lends, the views where None; ``groups`` (N,)
    int64 say which images no split may part.
    """

    views: torch.Tensor
    labels: torch.Tensor
    num_classes: int
    lent: torch.Tensor | None = None
    groups: torch.Tensor | None = None

    @property
    def counts(self) -> torch.Tensor:
        """Images per class (C,)."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    @property
    def means(self) -> torch.Tensor:
        """Each class's mean feature over all views (C, D)."""
        return class_means(self.views.mean(0), self.labels, self.num_classes)

    def take(self, indices: torch.Tensor) -> Features:
        """The part with these images (M,)."""
        lent = None if self.lent is None else self.lent[:, indices]
        groups = None if self.groups is None else self.groups[indices]
        views, labels = self.views[:, indices], self.labels[indices]
        return replace(self, views=views, labels=labels, lent=lent, groups=groups)

    def scaled(self) -> tuple[Features, float]:
        """Features of ``LENGTH``, so that one rate suits all networks, and their factor."""
        factor = (LENGTH / self.views.square().sum(2).mean().clamp_min(1e-12)).sqrt().item()
        lent = None if self.lent is None else self.lent * factor
        return replace(self, views=self.views * factor, lent=lent), factor


@dataclass(frozen=True)
class Classifier:
    """Linear, ``weight`` (C, D) and ``bias`` (C,); with ``scale`` of cosines instead."""

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
