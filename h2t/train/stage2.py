"""Stage 2: re-train the classifier on fused features, the backbone frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import torch
from torch import nn

from h2t import models
from h2t.base import rng
from h2t.data import samplers
from h2t.fusion import blend, channel_mask, class_means, lend, soft_share
from h2t.models.batchnorm import norms
from h2t.recipes.combinations import check_method
from h2t.recipes.parameters import Stage2
from h2t.runs import Run, Step, check_variant
from h2t.train import methods, mixing
from h2t.train.bn_statistics import momentum
from h2t.train.device import autocast, sgd, threads_for
from h2t.train.evaluate import load_model
from h2t.train.loop import Asked, Report, run_epochs
from h2t.train.processes.ranks import ALONE, Ranks, ranks
from h2t.train.rundata import RunData, dataset, run_of
from h2t.train.schedule import stage2_lr
from h2t.train.update import Update


def train_stage2(
    run: RunData | Run | str,
    config: Stage2,
    variant: str = "h2t",
    **how: Any,
) -> dict[str, Any]:
    """Re-train the classifier of a run's stage 1 with H2T (or, with ``fusion_ratio`` 0, DR), unless
    that is done.

    Source: Li et al. 2024, section 3.2 and its released settings: the classifier goes on from stage
    1; ceil(N / B) steps an epoch; one channel permutation per batch; the frozen backbone runs in
    train mode unless ``bn_statistics`` is "none", so each branch is normalised by its own batch and
    the running statistics follow the streams named there.
    Deviation: fusion is applied to the pooled features, which gives the same numbers (``fuse``). Of
    several experts each has a permutation of its own, and the loss is that of the model's answer.

    Arguments: ``variant`` names the step, ``stage2-<variant>``; ``how`` as of stage 1. Returns: the
    content of result.json.
    Raises: ``h2t.Error`` as stage 1 does, and where that is not finished or its head does not go
    with the method.
    """
    check_variant(variant)
    step, asked, together = run_of(run).step(f"stage2-{variant}"), Asked(**how), ranks()
    with together.alone(step.run.lock()):
        before = together.first(lambda: step.run.step("stage1").result)
        check_method(config.stage2_method, before["head"])
        params = {**config.to_dict(), "stage1_weights": before["weights_sha256"]}
        done = together.first(step.begin, params, asked.again, Stage2().to_dict())
        if done is not None:
            return done
        return _train(step, dataset(run, progress=asked.progress), config, asked)


def _train(step: Step, data: RunData, config: Stage2, asked: Asked) -> dict[str, Any]:
    together, variant, device = ranks(), step.name.removeprefix("stage2-"), asked.device
    train_set = data.loader("train", device, config, together)
    labels = torch.from_numpy(data.train.labels)  # (N,), on the CPU, where orders are drawn
    counts = torch.from_numpy(data.train.counts).to(device)
    model = together.prepare(load_model(data, "stage1", device, together), device)
    model.backbone.requires_grad_(False)
    if config.reinitialise_head:
        models.initialise(model.head, rng.torch_generator(config.seed, "stage2/init"))
    centres = _centres(model, train_set, config, len(data.classes))
    groups, peaks = methods.begin(model, config)
    optimizer = sgd(groups, 0.1, config.momentum, config.stage2_weight_decay)
    epochs = 0 if config.stage2_method == "tau" else config.stage2_epochs
    report = Report(step, data, model, optimizer, config, epochs, asked)
    loss_of = objective(model, counts, centres, config, device, together)
    # every process has the whole batch's features here, and with them the whole gradient
    update = Update(loss_of, model, optimizer, device, capturable=together.world == 1)

    def epoch(number: int) -> torch.Tensor:
        return _epoch(update, train_set, labels, config, number)

    def rates(number: int) -> list[float]:
        return [stage2_lr(number, config, peak) for peak in peaks]

    blame = "scale_lr" if config.stage2_method == "lws" else "stage2_lr"
    with threads_for(train_set, config.batch_size):
        run_epochs(report, epoch, rates, name=f"stage 2 {variant}", blame=blame)
        methods.end(model, config)
        before = together.first(lambda: step.run.step("stage1").result)
        kind = {k: before[k] for k in ("model", "head")}
        return report.finish(variant=variant, update=update.kind, **kind)


def objective(
    model,
    counts: torch.Tensor,
    centres: torch.Tensor | None,
    config: Stage2,
    device: torch.device,
    together: Ranks = ALONE,
) -> Callable[..., torch.Tensor]:
    """The loss of stage 2 as a function of the fused branch's images (B, C, H, W) and labels (B,),
    the labels (B,) that are mixed in and the share of the first ones, or twice None; the fusing
    branch's images and the channel mask (D,), or twice None; and what fusion (B, D) and loss (B,
    classes) draw. The features of all processes are gathered."""
    shift, both = config.bn_statistics != "none", config.bn_statistics == "both"

    def fused(x_b, y_b, x_i, mask, drawn):
        """Features (B, D) of the fused branch, with what the other one lends it."""
        z = features(model.backbone, x_b, batch_statistics=shift, update=shift)
        z = together.gather(z, len(y_b))
        if x_i is None:
            return z
        z_i = features(model.backbone, x_i, batch_statistics=shift, update=both)
        z_i = lend(together.gather(z_i, len(y_b)), config.fusion, drawn)
        own = None if centres is None else soft_share(z, centres[y_b])  # (B, 1)
        return blend(z, z_i, mask, config.fusion_ratio, config.fusion, own)

    def loss_of(x_b, y_b, y_mixed, share, x_i, mask, *drawn):
        drawn = iter(drawn)
        loss_function = methods.loss_of(config, counts, drawn)
        with torch.no_grad(), autocast(device, config.precision):
            z = fused(x_b, y_b, x_i, mask, drawn)  # (B, D)
        logits = model.head(z.float())  # (B, classes)
        loss = loss_function(logits, y_b)
        return loss if y_mixed is None else torch.lerp(loss_function(logits, y_mixed), loss, share)

    return loss_of


def _epoch(update: Update, train_set, labels, config: Stage2, epoch: int) -> torch.Tensor:
    """One epoch of updates. Returns: the losses (steps,), fetched once, at the end."""

    def generator(stream: str) -> torch.Generator:
        return rng.torch_generator(config.seed, f"stage2/{stream}", epoch)

    def batches(branch: str, sampler: str) -> Iterator:
        order = samplers.epoch(sampler, labels, len(labels), generator(branch))
        draws = generator(f"{branch}-augment")
        return train_set.epoch(order, config.batch_size, draws, config.flip)

    backbone, head = update.model.backbone, update.model.head
    head.train()
    steps, width = -(-len(labels) // config.batch_size), backbone.num_features
    fused = batches("fused", config.fused_branch)
    if alpha := config.stage2_mixup_alpha:
        fused = mixing.mixup(fused, steps, alpha, config.seed, "stage2", epoch, train_set)
    else:
        fused = mixing.plain(fused)
    fusing = repeat((None, None))
    # the fusing branch also runs where nothing is fused but the statistics are to see it
    if config.fusion_ratio > 0 or config.bn_statistics == "both":
        drawn = (width, config.fusion_ratio, generator("mask"), backbone.num_experts)
        masks = torch.stack([channel_mask(*drawn) for _ in range(steps)])  # (steps, D)
        masks = masks.to(train_set.device)  # once
        images = batches("fusing", config.fusing_branch)
        fusing = ((x, mask) for (x, _), mask in zip(images, masks, strict=True))
    draws, losses = generator("draws"), []
    for (x, y, other, share), (lent, mask) in zip(fused, fusing, strict=False):
        shapes = [(len(y), width)] if config.fusion == "noise" and lent is not None else []
        if config.stage2_method == "gcl":
            shapes += [(len(y), len(head.weight))] * (1 if other is None else 2)
        drawn = [rng.normal(shape, draws).to(x.device, non_blocking=True) for shape in shapes]
        losses.append(update(x, y, other, share, lent, mask, *drawn))
    return torch.stack(losses).cpu()


@torch.inference_mode()
def _centres(model, train_set, config: Stage2, num_classes: int) -> torch.Tensor | None:
    """Mean features by class (C, D) of stage 1's backbone in eval mode, for soft fusion alone."""
    if config.fusion != "soft":
        return None
    model.eval()
    batch_size = config.batch_size
    with threads_for(train_set, batch_size), autocast(train_set.device, config.precision):
        z = torch.cat([model.features(x).float() for x, _ in train_set.batches(batch_size)])
    z = Ranks(*train_set.shard).gather(z, len(train_set))
    return class_means(z, train_set.labels, num_classes)


def features(
    backbone: nn.Module, images: torch.Tensor, *, batch_statistics: bool, update: bool
) -> torch.Tensor:
    """Pooled features (B, D) of a frozen backbone, normalised by this batch (``batch_statistics``)
    or by the running statistics, which follow it where ``update``."""
    backbone.train(batch_statistics)
    if update or not batch_statistics:
        return backbone(images)
    with momentum(norms(backbone), 0.0):
        return backbone(images)
