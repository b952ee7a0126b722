"""Losses, one idea a file: functions of (logits, labels, counts, weight) that return a scalar.

    balanced_softmax.py: BSCE, Ren et al. 2020
    class_balanced.py: weights by effective number, Cui et al. 2019
    cross_entropy.py: the plain one
    focal.py: Lin et al. 2017
    gcl.py: Gaussian clouded logits, Li et al. 2022
    label_aware_smoothing.py: MiSLAS, Zhong et al. 2021
    ldam.py: label-distribution-aware margins, Cao et al. 2019
    logit_adjustment.py: Menon et al. 2021
    reslt.py: ResLT's branches, Cui et al. 2022
    ride.py: RIDE's diverse experts, Wang et al. 2021

``logits`` are (B, C), ``labels`` (B,) int64, ``counts`` (C,) training images per class, none 0;
``weight`` (C,) or None is the deferred re-weighting of the training loop (DRW, Cao et al. 2019): a
batch's mean is then the weighted one, as in ``torch.nn.functional.cross_entropy``. What else a loss
takes are keywords: one named like a parameter of stage 1 gets its value, and ``generator``, of a
loss that draws, one of its own for every epoch.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping

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
# of logits (K, B, C), one set for each expert; the others take the model's answer (B, C)
EXPERT_LOSSES = ("ride", "reslt")


def loss_of(name: str) -> Callable:
    """The loss function of a name in ``LOSSES``."""
    return getattr(importlib.import_module(f"h2t.losses.{LOSSES[name]}"), LOSSES[name])


def bound(name: str, settings: Mapping, generator) -> Callable:
    """A loss as a function of (logits, labels, counts, weight), its keywords from ``settings``."""
    given = {**settings, "generator": generator}
    return functools.partial(loss_of(name), **{k: given[k] for k in needs(name) if k in given})


def needs(name: str) -> list[str]:
    """The keywords of a loss; ``generator`` among them says that it draws random numbers."""
    return inspect.getfullargspec(loss_of(name)).kwonlyargs
