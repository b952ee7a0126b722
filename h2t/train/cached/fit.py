"""The cached stage 2: classifiers for many fusion ratios and seeds, trained at once on a feature bank."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from h2t import metrics
from h2t.base import rng
from h2t.base.errors import Error
from h2t.base.progress import bar as progress_bar
from h2t.data import samplers
from h2t.fusion import blend, lend, soft_share
from h2t.losses.label_aware_smoothing import smoothing
from h2t.models.heads import tau_normalised, unit
from h2t.recipes.parameters import LEARNED_SCALE, Stage2, check_method
from h2t.train import methods
from h2t.train.cached.bank import Bank
from h2t.train.device import threads
from h2t.train.schedule import stage2_lr


@dataclass(frozen=True)
class Fits:
    """Classifiers of a cached stage 2: ``weight`` (R, S, C, D), ``bias`` (R, S, C), for ``ratios`` (R) and ``seeds`` (S)."""

    ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    weight: torch.Tensor
    bias: torch.Tensor
    seconds: float
    bank: Bank

    def logits(self, r: int = 0, s: int = 0, part: str = "test") -> torch.Tensor:
        """Logits (T, C) of one classifier on the test set, or on the validation part (``part`` val)."""
        return classify(
            getattr(self.bank, part),
            self.weight[r, s],
            self.bias[r, s],
            self.bank.scale,
            self.bank.num_experts,
        )

    def table(self, part: str = "test"):
        """Accuracy of every pair: a DataFrame with columns ratio, seed, group (many, medium, few, all), accuracy in %.

        Arguments: ``part`` test, or val where the bank has a validation part. Raises: ``h2t.Error`` where it has none.
        """
        if part == "val" and self.bank.val is None:
            raise Error("the run has no validation part; prepare one with `-p val_fraction 0.2`")
        import pandas as pd

        groups = metrics.groups(self.bank.counts, self.bank.scheme)
        correct = self._per_class(part)
        rows = []
        for r, ratio in enumerate(self.ratios):
            for s, seed in enumerate(self.seeds):
                per_class, top1 = correct[r][s]
                values = {
                    g: float(np.nanmean(per_class[i])) if len(i) else float("nan")
                    for g, i in groups.items()
                }
                rows += [
                    {"ratio": ratio, "seed": seed, "group": g, "accuracy": a}
                    for g, a in {**values, "all": top1}.items()
                ]
        return pd.DataFrame(rows)

    def _per_class(self, part: str):
        """Per-class accuracy (C,) and top-1, both in %, of every pair; NaN for a class without images."""
        labels = getattr(self.bank, f"{part}_labels")
        total = torch.bincount(labels, minlength=len(self.bank.counts)).double()
        out = []
        for r in range(len(self.ratios)):
            out.append([])
            for s in range(len(self.seeds)):
                hit = labels[self.logits(r, s, part).argmax(1) == labels]
                per_class = 100 * torch.bincount(hit, minlength=len(total)).double() / total
                out[-1].append((per_class.numpy(), 100 * len(hit) / len(labels)))
        return out


def classify(
    z: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    scale: float | None,
    num_experts: int = 1,
) -> torch.Tensor:
    """Logits of features ``z`` (..., D) under a linear (``scale`` None) or a cosine classifier, of several experts the mean."""
    if scale is None:
        return z @ weight.mT + (bias.unsqueeze(-2) if bias.dim() > 1 else bias)
    return scale / num_experts * unit(z, num_experts) @ unit(weight, num_experts).mT


def draw_all(bank: Bank, config: Stage2, seeds) -> list[tuple]:
    """What a fit draws, for all epochs and seeds: features of both branches with a 1 behind them (S, N, D + 1), labels
    (S, N), and each step's channel ranks (S, steps, D + 1), never swapped for the 1.

    It depends on neither the ratio nor the rate, so that who moves only these may keep it.
    """
    return [
        _epoch_draws(bank, config, seeds, epoch) for epoch in range(1, config.stage2_epochs + 1)
    ]


def _epoch_draws(bank: Bank, config: Stage2, seeds, epoch: int) -> tuple:
    labels, device = bank.labels, bank.train.device
    draws = [_draws(bank, config, s, epoch, labels) for s in seeds]
    ib, vb, ii, vi, rank = (torch.stack(t).to(device) for t in zip(*draws, strict=True))
    lent = [
        lend(bank.lent[v, i], config.fusion, rng.torch_generator(s, "cached/noise", epoch))
        for s, v, i in zip(seeds, vi, ii, strict=True)
    ]
    fused, fusing = (
        torch.nn.functional.pad(z, (0, 1), value=1.0)
        for z in (bank.train[vb, ib], torch.stack(lent))
    )
    return (
        fused,
        fusing,
        labels.to(device)[ib],
        torch.nn.functional.pad(rank, (0, 1), value=bank.num_features),
    )


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
    """Train the classifier for every pair of ratio and seed at once, on banked features.

    The mathematics of stage 2 (the loss of the method, SGD with momentum and weight decay, cosine by epoch, one permutation a
    batch), with the softmax gradient written out. Ratios share each seed's draws, so that they compare in pairs.

    Arguments: ``ratios`` (R) in [0, 1]; ``seeds`` (S); ``config`` for branches, epochs, rate, decay and batch size
    (its fusion_ratio and seed are not used); ``draws`` of ``draw_all`` with the same bank, recipe and seeds;
    ``on_epoch`` is called before each epoch, by every thread that trains, and ends the fit by raising.
    Returns: ``Fits``. Raises: ``h2t.Error`` for a ratio outside [0, 1], or a method that is not cached
    or does not go with the bank's head.
    """
    config, ratios, seeds = (
        config or Stage2(),
        tuple(float(r) for r in ratios),
        tuple(int(s) for s in seeds),
    )
    for r in ratios:
        if not 0 <= r <= 1:
            raise Error(f"fusion_ratio is {r}; it must be in [0, 1]")
    if not ratios or not seeds:
        raise Error("fit needs at least one ratio and one seed")
    _refuse(bank, ratios, config)
    start, dev = time.perf_counter(), torch.device(device or "cpu")
    if dev != bank.train.device:
        bank = dataclasses.replace(bank, train=bank.train.to(dev), lent=bank.lent.to(dev))
    if config.stage2_method == "tau":
        weight = tau_normalised(
            bank.weight[:, : bank.num_features // bank.tied], config.tau
        ).repeat(1, bank.tied)
        weight, bias = (
            t.expand(len(ratios), len(seeds), *t.shape)
            for t in (weight, torch.zeros_like(bank.bias))
        )
    elif dev.type == "cuda":
        weight, bias = _fit(bank, ratios, seeds, config, draws, dev, progress, on_epoch)
    else:
        # The products are too small to share out one by one: every thread takes ratios of its own instead, and no
        # thread ever waits for another, which on a busy machine is ten times as fast.
        number = min(torch.get_num_threads(), len(ratios))
        parts = [part.tolist() for part in np.array_split(ratios, number)]
        jobs = [
            (bank, part, seeds, config, draws, dev, progress and part is parts[0], on_epoch)
            for part in parts
        ]
        with (
            threads(),
            ThreadPoolExecutor(
                len(parts), initializer=torch.set_num_threads, initargs=(1,)
            ) as pool,
        ):
            done = (
                list(pool.map(_fit, *zip(*jobs, strict=True)))
                if len(parts) > 1
                else [_fit(*jobs[0])]
            )
        weight, bias = (torch.cat(t) for t in zip(*done, strict=True))
    return Fits(ratios, seeds, weight, bias, time.perf_counter() - start, bank)


def _refuse(bank: Bank, ratios, config: Stage2) -> None:
    if why := methods.cannot_cache(config):
        raise Error(why)
    check_method(config.stage2_method, "linear" if bank.scale is None else "cosine")
    if config.stage2_method == "tau" and any(ratios):
        raise Error("method tau trains nothing, so there is nothing to fuse; its only ratio is 0")


def _fit(
    bank: Bank, ratios, seeds, config: Stage2, draws, dev, progress: bool, on_epoch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (R, S, C, D) and biases (R, S, C) of ``fit``, one batched product for all pairs."""
    pairs, d = (len(ratios), len(seeds)), bank.num_features
    # the bias is one more weight of a feature that is always 1: half as many small operations a step
    # and where experts share a classifier it is trained on the sum of their features, whose 1s add up to their number
    weight = torch.cat([bank.weight[:, : d // bank.tied], bank.bias[:, None] / bank.tied], 1).to(
        dev
    )
    weight = weight.expand(*pairs, -1, -1).reshape(-1, *weight.shape).clone()  # (P, C, D + 1)
    velocity = torch.zeros_like(weight)
    scaled = _Scaled(bank, config, weight) if config.stage2_method in LEARNED_SCALE else None
    swapped = torch.tensor([int(r * (d // bank.num_experts)) for r in ratios], device=dev).view(
        -1, 1, 1
    )
    shares = torch.tensor(ratios, device=dev).view(-1, 1, 1, 1)  # (R, S, B, D + 1)
    with torch.inference_mode():
        for epoch in progress_bar(
            range(1, config.stage2_epochs + 1), "cached stage 2", unit="epoch", progress=progress
        ):
            on_epoch()
            lr = stage2_lr(epoch, config)
            zb, zi, yb, rank = (
                draws[epoch - 1] if draws else _epoch_draws(bank, config, seeds, epoch)
            )
            own = (
                soft_share(zb[..., :-1], bank.centres.to(dev)[yb])
                if config.fusion == "soft"
                else None
            )  # (S, N, 1)
            masks = (rank < swapped.unsqueeze(-1)).unsqueeze(3)  # (R, S, steps, 1, D + 1)
            for step, k in enumerate(range(0, len(bank.labels), config.batch_size)):
                rows = slice(k, k + config.batch_size)
                share = None if own is None else own[:, rows]
                z = blend(
                    zb[:, rows], zi[:, rows], masks[:, :, step], shares, config.fusion, share
                ).flatten(0, 1)  # (P, B, D + 1)
                if bank.shared:
                    z = torch.cat(
                        [
                            z[..., :-1].unflatten(-1, (bank.tied, -1)).sum(-2),
                            bank.tied * z[..., -1:],
                        ],
                        -1,
                    )
                y = yb[:, rows].expand(len(ratios), -1, -1).reshape(len(weight), -1, 1)  # (P, B, 1)
                if scaled:
                    scaled.step(
                        z, y, weight, velocity, lr, stage2_lr(epoch, config, config.scale_lr)
                    )
                    continue
                if bank.scale is None:
                    p = torch.bmm(z, weight.mT).softmax(2)  # (P, B, C)
                    p.scatter_add_(2, y, p.new_full((1, 1, 1), -1.0).expand_as(y))
                    gradient = p.mT
                else:
                    gradient, z = (
                        _cosine_gradient(
                            z[..., :-1], y, weight[..., :-1], bank.scale, bank.num_experts
                        ),
                        None,
                    )
                velocity.mul_(config.momentum).add_(weight, alpha=config.stage2_weight_decay)
                if z is None:
                    velocity[..., :-1].add_(gradient)
                else:
                    velocity.baddbmm_(gradient, z, alpha=1 / z.shape[1])
                weight.sub_(velocity, alpha=lr)
    if scaled:
        weight *= scaled.scale.unsqueeze(2)
    fitted = weight.reshape(*pairs, *weight.shape[1:]).cpu()
    bias = bank.tied * fitted[..., -1] if bank.scale is None else bank.bias.expand(*pairs, -1)
    return fitted[..., :-1].repeat(1, 1, 1, bank.tied), bias.contiguous()


class _Scaled:
    """The steps of lws and mislas: a factor per class (P, C), and for mislas the weights, by the gradient of softened labels."""

    def __init__(self, bank: Bank, config: Stage2, weight: torch.Tensor):
        self.config, self.scale = config, weight.new_ones(weight.shape[:2])
        self.pace = torch.zeros_like(self.scale)
        counts = torch.from_numpy(np.asarray(bank.counts)).to(weight.device)
        soft = (
            smoothing(counts, config.smooth_head, config.smooth_tail)
            if config.stage2_method == "mislas"
            else torch.zeros(len(counts))
        )
        self.soft = soft.to(weight)  # (C,)

    def step(self, z, y, weight, velocity, lr: float, scale_lr: float) -> None:
        """One update in place. ``z`` (P, B, D + 1); ``y`` (P, B, 1); ``weight`` and ``velocity`` (P, C, D + 1)."""
        config, given = self.config, self.soft[y]
        plain = torch.bmm(z, weight.mT)  # logits before their factor, (P, B, C)
        # d loss / d logits: softmax less the label, of which a share is spread over all classes
        gradient = (self.scale.unsqueeze(1) * plain).softmax(2).sub_(given / plain.shape[2])
        gradient.scatter_add_(2, y, given - 1)
        on_scale = (gradient * plain).sum(1) / z.shape[1]
        if config.stage2_method == "mislas":
            velocity.mul_(config.momentum).add_(weight, alpha=config.stage2_weight_decay)
            velocity.baddbmm_((gradient * self.scale.unsqueeze(1)).mT, z, alpha=1 / z.shape[1])
            weight.sub_(velocity, alpha=lr)
        self.pace.mul_(config.momentum).add_(self.scale, alpha=config.stage2_weight_decay).add_(
            on_scale
        )
        self.scale.sub_(self.pace, alpha=scale_lr)


def _draws(bank: Bank, config: Stage2, seed: int, epoch: int, labels):
    """One seed's epoch: image and view of both branches (N,), and each step's channel ranks (steps, D)."""
    n, out = len(labels), []
    for branch, sampler, views in (
        ("fused", config.fused_branch, bank.train),
        ("fusing", config.fusing_branch, bank.lent),
    ):
        g = rng.torch_generator(seed, f"cached/{branch}", epoch)
        out += [samplers.epoch(sampler, labels, n, g), torch.randint(len(views), (n,), generator=g)]
    g, steps = rng.torch_generator(seed, "cached/mask", epoch), -(-n // config.batch_size)
    # a channel's rank in a random order of its expert: it is swapped where the rank is below int(p D)
    order = (
        torch.rand(steps, bank.num_features, generator=g)
        .unflatten(1, (bank.num_experts, -1))
        .argsort(2)
    )
    return *out, order.argsort(2).flatten(1)


def _cosine_gradient(z, y, weight, scale: float, num_experts: int = 1) -> torch.Tensor:
    """d CE / d W of a cosine classifier: the gradient at the unit row, projected off it, over the row's length, for the
    block of each expert."""
    z, blocks = (
        unit(z, num_experts).unflatten(2, (num_experts, -1)),
        weight.unflatten(2, (num_experts, -1)),
    )
    length = blocks.norm(dim=3, keepdim=True).clamp_min(1e-12)  # (P, C, K, 1)
    rows, scale = blocks / length, scale / num_experts
    p = (scale * z.flatten(2) @ rows.flatten(2).mT).softmax(2)
    p.scatter_add_(2, y, p.new_full((1, 1, 1), -1.0).expand_as(y))
    g = (scale * (p.mT @ z.flatten(2)) / y.shape[1]).unflatten(2, (num_experts, -1))
    return ((g - (g * rows).sum(3, keepdim=True) * rows) / length).flatten(2)
