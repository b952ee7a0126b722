"""Losses, one idea per file: a function of (logits, labels, counts, weight). A new one is a file and a line here.

``weight`` (C,) or None is the deferred re-weighting of the training loop (DRW, Cao et al. 2019); a batch's mean is then the
weighted one, as in ``torch.nn.functional.cross_entropy``. A loss that draws has a keyword ``generator``, and the training loop
gives it one of its own for every epoch.
"""

import importlib
from collections.abc import Callable

LOSSES = {  # name in recipes: the file, and the function in it
    "ce": "cross_entropy",
    "focal": "focal",
    "cb": "class_balanced",
    "bsce": "balanced_softmax",
    "la": "logit_adjustment",
    "ldam": "ldam",
    "las": "label_aware_smoothing",
    "gcl": "gcl",
    "ride": "ride",
    "reslt": "reslt",
}
EXPERT_LOSSES = ("ride", "reslt")  # of logits (K, B, C), one set for each expert; the others take the model's answer (B, C)


def loss_of(name: str) -> Callable:
    """The loss function of a name in ``LOSSES``."""
    return getattr(importlib.import_module(f"h2t.losses.{LOSSES[name]}"), LOSSES[name])
