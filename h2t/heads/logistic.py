"""scikit-learn's balanced logistic regression: the reference from outside of this field."""

import warnings

import numpy as np
import torch

from h2t.heads.features import Classifier

DETERMINISTIC = True
GRID = [{"C": 10.0**k} for k in (-4, -3.5, -3, -2.5, -2, -1.5, -1, 0)]


def fit(features, grid, seed):
    """``LogisticRegression(class_weight="balanced")`` on the first view, standardised."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    z, y = features.views[0].numpy(), features.labels.numpy()
    mean, std = z.mean(0), np.maximum(z.std(0), 1e-6)
    model = LogisticRegression(class_weight="balanced", max_iter=100, warm_start=True)
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for c in sorted(g["C"] for g in grid):  # from strong to weak, each begun where one ended
            model.set_params(C=c).fit((z - mean) / std, y)
            made[c] = _linear(model, mean, std)
    return [made[g["C"]] for g in grid]


def _linear(model, mean: np.ndarray, std: np.ndarray) -> Classifier:
    """The model for features as they were; of two classes it has one row, a classifier two."""
    rows, bias = model.coef_, model.intercept_
    if len(rows) == 1:
        rows, bias = np.concatenate([-rows / 2, rows / 2]), np.concatenate([-bias / 2, bias / 2])
    rows = rows / std
    return Classifier(torch.from_numpy(rows).float(), torch.from_numpy(bias - rows @ mean).float())
