"""scikit-learn's balanced logistic regression: the reference that comes from outside of this
field.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from h2t.heads.features import Classifier, Features

DETERMINISTIC = True
GRID = [{"C": 10.0**k} for k in (-4, -3.5, -3, -2.5, -2, -1.5, -1, 0)]


def fit(features: Features, grid, seed: int) -> list[Classifier]:
    """``LogisticRegression(class_weight="balanced")`` on standardised features of the first
    view.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    z, y = features.views[0].numpy(), features.labels.numpy()
    mean, std = z.mean(0), np.maximum(z.std(0), 1e-6)
    made, before = [], None
    for g in sorted(
        grid, key=lambda g: g["C"]
    ):  # from strong to weak, each begun where the last ended
        model = LogisticRegression(C=g["C"], class_weight="balanced", max_iter=100, warm_start=True)
        if before is not None:
            model.coef_, model.intercept_, model.classes_ = before
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((z - mean) / std, y)
        before = model.coef_, model.intercept_, model.classes_
        made.append((g["C"], _linear(model, mean, std)))
    by_c = dict(made)
    return [by_c[g["C"]] for g in grid]


def _linear(model, mean: np.ndarray, std: np.ndarray) -> Classifier:
    """The model as a classifier of features that are not standardised; two classes have one row
    there, two here.
    """
    rows, bias = model.coef_, model.intercept_
    if len(rows) == 1:
        rows, bias = np.concatenate([-rows / 2, rows / 2]), np.concatenate([-bias / 2, bias / 2])
    rows = rows / std
    return Classifier(torch.from_numpy(rows).float(), torch.from_numpy(bias - rows @ mean).float())
