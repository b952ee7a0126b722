"""Tau normalisation: each row of a linear probe is divided by a power of its length."""

import torch

from h2t.heads.features import Classifier
from h2t.heads.grids import after_probe
from h2t.heads.probe import probes
from h2t.models.heads import tau_normalised

GRID = after_probe("tau", (0.5, 0.75, 1.0, 1.5))


def fit(features, grid, seed):
    """Source: Kang et al. 2020, section 4.1 (tau-norm), without a bias, as there."""
    found = zip(grid, probes(features, grid, seed), strict=True)
    return [
        Classifier(tau_normalised(probe.weight, g["tau"]), torch.zeros_like(probe.bias))
        for g, probe in found
    ]
