"""The cached stage 2: classifiers for many fusion ratios and seeds, trained at once on a feature
bank."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad

from h2t import metrics
from h2t.base import rng
from h2t.base.errors import Error
from h2t.data import samplers
from h2t.fusion import lend
from h2t.models.heads import tau_normalised, unit
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
    seconds: float
    bank: Bank

    def logits(self, r: int = 0, s: int = 0, part: str = "test") -> torch.Tensor:
        """Logits (T, C) of one classifier on the test set, or with ``part`` val on that part."""
        z, classifier = getattr(self.bank, part), (self.weight[r, s], self.bias[r, s])
        return classify(z, *classifier, self.bank.scale, self.bank.num_experts)

    def table(self, part: str = "test"):
        """Accuracy in % of every pair on a part (test, val): a DataFrame with columns ratio, seed,
        group (many, medium, few, all) and accuracy, NaN for a group without images."""
        if part == "val" and self.bank.val is None:
            raise Error("the run has no validation part; prepare one with `-p val_fraction 0.2`")
        import pandas as pd

        rows, labels, counts = [], getattr(self.bank, f"{part}_labels"), self.bank.counts
        total = torch.bincount(labels, minlength=len(counts)).double()
        for r, ratio in enumerate(self.ratios):
            for s, seed in enumerate(self.seeds):
                right = labels[self.logits(r, s, part).argmax(1) == labels]
                per_class = 100 * torch.bincount(right, minlength=len(counts)) / total
                means = metrics.group_means(per_class.numpy(), counts, self.bank.scheme)
                means["all"] = 100 * len(right) / len(labels)
                pair = {"ratio": ratio, "seed": seed}
                rows += [{**pair, "group": g, "accuracy": a} for g, a in means.items()]
        return pd.DataFrame(rows).astype({"accuracy": float})


def classify(z, weight, bias, scale: float | None, num_experts: int = 1) -> torch.Tensor:
    """Logits of features ``z`` (..., D) under a linear (``scale`` None) or a cosine classifier, of
    several experts the mean."""
    if scale is None:
        return z @ weight.mT + (bias.unsqueeze(-2) if bias.dim() > 1 else bias)
    return scale / num_experts * unit(z, num_experts) @ unit(weight, num_experts).mT


def draw_all(bank: Bank, config: Stage2, seeds) -> list[tuple]:
    """What a fit draws, in each epoch: features of both branches with a 1 behind them (S, N, D +
    1), labels (S, N), and each step's channel ranks (S, steps, D + 1), never swapped for the 1. Who
    changes only ratio or rate may keep it.
    """
    epochs = range(1, config.stage2_epochs + 1)
    return [_epoch_draws(bank, config, seeds, epoch) for epoch in epochs]


def _epoch_draws(bank: Bank, config: Stage2, seeds, epoch: int) -> tuple:
    labels, device = bank.labels, bank.train.device
    draws = [_draws(bank, config, s, epoch, labels) for s in seeds]
    ib, vb, ii, vi, rank = (torch.stack(t).to(device) for t in zip(*draws, strict=True))
    lent = [
        lend(bank.lent[v, i], config.fusion, rng.torch_generator(s, "cached/noise", epoch))
        for s, v, i in zip(seeds, vi, ii, strict=True)
    ]
    fused, fusing = (pad(z, (0, 1), value=1.0) for z in (bank.train[vb, ib], torch.stack(lent)))
    return fused, fusing, labels.to(device)[ib], pad(rank, (0, 1), value=bank.num_features)


def _draws(bank: Bank, config: Stage2, seed: int, epoch: int, labels) -> tuple[torch.Tensor, ...]:
    """One seed's epoch: image and view of both branches (N,), each step's ranks (steps, D)."""
    n, out, kinds = len(labels), [], (config.fused_branch, config.fusing_branch)
    branches = zip(("fused", "fusing"), kinds, (bank.train, bank.lent), strict=True)
    for branch, sampler, views in branches:
        g = rng.torch_generator(seed, f"cached/{branch}", epoch)
        out += [samplers.epoch(sampler, labels, n, g), torch.randint(len(views), (n,), generator=g)]
    g, steps = rng.torch_generator(seed, "cached/mask", epoch), -(-n // config.batch_size)
    # a channel's rank in a random order of its expert: swapped where it is below int(p D)
    order = torch.rand(steps, bank.num_features, generator=g)
    order = order.unflatten(1, (bank.num_experts, -1)).argsort(2)
    return *out, order.argsort(2).flatten(1)


def fit(
    bank: Bank,
    ratios,
    seeds=(0,),
    config: Stage2 | None = None,
    *,
    draws: list[tuple] | None = None,
    device: str | None = None,
    progress: bool = False,
    on_epoch: Callable[[], object] = lambda: None,
) -> Fits:
    """Train the classifier for every pair of ratio and seed at once, on banked features, by the
    mathematics of stage 2. Ratios share each seed's draws, so that they compare in pairs.

    Arguments: ``ratios`` (R) in [0, 1]; ``seeds`` (S); ``config``, whose fusion_ratio and seed are
    not used; ``draws`` of ``draw_all`` with the same bank, recipe and seeds; ``on_epoch`` is called
    before each epoch, by every thread that trains, and ends the fit by raising.
    Raises: ``h2t.Error`` for a ratio outside [0, 1], or a method that is not cached or does not go
    with the bank's head.
    """
    start, config = time.perf_counter(), config or Stage2()
    ratios, seeds = tuple(map(float, ratios)), tuple(map(int, seeds))
    _refuse(bank, ratios, seeds, config)
    if (place := torch.device(device or "cpu")) != bank.train.device:
        bank = dataclasses.replace(bank, train=bank.train.to(place), lent=bank.lent.to(place))

    def epoch_draws(epoch: int) -> tuple:
        return draws[epoch - 1] if draws else _epoch_draws(bank, config, seeds, epoch)

    def descended(part: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
        shown = progress and part[0] == ratios[0]
        return descend(bank, part, len(seeds), config, epoch_draws, shown, on_epoch)

    if config.stage2_method == "tau":
        own = tau_normalised(bank.weight[:, : bank.num_features // bank.tied], config.tau)
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
    return Fits(ratios, seeds, weight, bias, time.perf_counter() - start, bank)


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
