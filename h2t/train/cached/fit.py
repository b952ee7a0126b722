"""The cached stage 2: classifiers for many fusion ratios and seeds, trained at once on a feature
bank."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from h2t import metrics
from h2t.base.errors import Error
from h2t.models.heads import tau_normalised
from h2t.recipes.combinations import check_method
from h2t.recipes.parameters import Stage2
from h2t.train.cached.bank import Bank
from h2t.train.cached.descent import descend
from h2t.train.device import threads
from h2t.train.methods import cannot_cache


@dataclass(frozen=True)
class Fits:
    """Classifiers of a cached stage 2: ``weight`` (R, S, C, D), ``bias`` (R, S, C), for ``ratios``
    (R) and ``seeds`` (S)."""

    ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    weight: torch.Tensor
    bias: torch.Tensor
    bank: Bank

    def logits(self, r: int = 0, s: int = 0) -> torch.Tensor:
        """Test logits (T, C) of one classifier."""
        return self.bank.classify(self.bank.test, self.weight[r, s], self.bias[r, s])

    def table(self):
        """Test accuracy in % of every pair: a DataFrame with columns ratio, seed, group (many,
        medium, few, all) and accuracy, NaN for a group without images."""
        import pandas as pd

        rows, labels, counts = [], self.bank.test_labels, self.bank.counts
        total = torch.bincount(labels, minlength=len(counts)).double()
        for r, ratio in enumerate(self.ratios):
            for s, seed in enumerate(self.seeds):
                right = labels[self.logits(r, s).argmax(1) == labels]
                per_class = 100 * torch.bincount(right, minlength=len(counts)) / total
                means = metrics.group_means(per_class.numpy(), counts, self.bank.scheme)
                means["all"] = 100 * len(right) / len(labels)
                pair = {"ratio": ratio, "seed": seed}
                rows += [{**pair, "group": g, "accuracy": a} for g, a in means.items()]
        return pd.DataFrame(rows).astype({"accuracy": float})


def fit(
    bank: Bank,
    ratios,
    seeds=(0,),
    config: Stage2 | None = None,
    *,
    device: str = "cpu",
    progress: bool = False,
    on_epoch: Callable[[], object] = lambda: None,
) -> Fits:
    """Train the classifier for every pair of ratio and seed at once, on banked features, by the
    mathematics of stage 2. Ratios share each seed's draws, so that they compare in pairs.

    Arguments: ``ratios`` (R) in [0, 1]; ``seeds`` (S); ``config``, whose fusion_ratio and seed are
    not used; ``on_epoch`` is called before each epoch, by every thread that trains, and ends the
    fit by raising.
    Raises: ``h2t.Error`` for a ratio outside [0, 1], or a method that is not cached or does not go
    with the bank's head.
    """
    config, place = config or Stage2(), torch.device(device)
    ratios, seeds = tuple(map(float, ratios)), tuple(map(int, seeds))
    _refuse(bank, ratios, seeds, config)
    if place != bank.train.device:
        bank = dataclasses.replace(bank, train=bank.train.to(place), lent=bank.lent.to(place))

    def descended(part: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
        shown = progress and part[0] == ratios[0]
        return descend(bank, part, seeds, config, shown, on_epoch)

    if config.stage2_method == "tau":
        own = tau_normalised(bank.own_weight, config.tau)
        both = own.repeat(1, bank.tied), torch.zeros_like(bank.bias)
        weight, bias = (t.expand(len(ratios), len(seeds), *t.shape) for t in both)
    elif place.type == "cuda":
        weight, bias = descended(list(ratios))
    else:
        # The products are too small to share out: every thread takes ratios of its own, and none
        # waits for another, which on a busy machine is ten times as fast.
        number = min(torch.get_num_threads(), len(ratios))
        parts = [part.tolist() for part in np.array_split(ratios, number)]
        alone = {"initializer": torch.set_num_threads, "initargs": (1,)}
        with threads(), ThreadPoolExecutor(number, **alone) as pool:
            done = list(pool.map(descended, parts)) if number > 1 else [descended(parts[0])]
        weight, bias = (torch.cat(t) for t in zip(*done, strict=True))
    return Fits(ratios, seeds, weight, bias, bank)


def _refuse(bank: Bank, ratios, seeds, config: Stage2) -> None:
    for r in ratios:
        if not 0 <= r <= 1:
            raise Error(f"fusion_ratio is {r}; it must be in [0, 1]")
    if not ratios or not seeds:
        raise Error("fit needs at least one ratio and one seed")
    if why := cannot_cache(config):
        raise Error(why)
    check_method(config.stage2_method, "linear" if bank.scale is None else "cosine")
    if config.stage2_method == "tau" and any(ratios):
        raise Error("method tau trains nothing, so there is nothing to fuse; its only ratio is 0")
