"""Heads: methods that train a classifier on the features of a frozen network, one idea a file.

Each has ``GRID``, the settings among which it is tuned, and ``fit(features, grid, seed)``: from
``Features`` a ``Classifier`` for each setting. Where it is ``DETERMINISTIC`` nothing is drawn.

balanced_softmax.py: the classes' frequencies in the loss
ce.py: the linear probe
cosine.py: angles only
crt.py: class-balanced batches, the field's DR
gaussian.py: small classes spread as the large ones are
h2t.py: channels of the head
h2t_balanced.py: channels of any class (control)
logistic.py: scikit-learn's balanced logistic regression
logit_adjustment.py: priors taken off a probe
lws.py: a factor per class for a probe
mislas.py: labels softer the larger their class
mixup.py: blended features (control)
nearest_mean.py: no training
noise.py: noise for channels (control)
tau_norm.py: a probe's rows of one length
zeros.py: nothing for channels (control)

features.py: what goes in and what comes out
grids.py: settings that several share
probe.py: linear probes that others begin with
sgd.py: several settings trained at once
tune.py: the setting that does best on images held out
"""

import importlib
from types import ModuleType

from h2t.base.errors import Error

# by the name that parameters and tables use: what figures call it
HEADS = {
    "ce": "CE probe",
    "balanced_softmax": "balanced softmax",
    "logit_adjustment": "logit adjustment",
    "crt": "DR (cRT)",
    "lws": "LWS",
    "tau_norm": "tau-norm",
    "mislas": "MiSLAS",
    "cosine": "cosine",
    "nearest_mean": "nearest mean",
    "logistic": "logistic regression, balanced",
    "gaussian": "DR + Gaussian spread",
    "mixup": "DR + mixup",
    "zeros": "DR + zeros",
    "noise": "DR + noise",
    "h2t_balanced": "DR + fusion from all",
    "h2t": "DR + H2T",
}


def head(name: str) -> ModuleType:
    """A head's file. Raises: ``h2t.Error`` for one that is not there."""
    if name not in HEADS:
        raise Error(f"there is no head {name!r}; choose one of {', '.join(HEADS)}")
    return importlib.import_module(f"h2t.heads.{name}")
