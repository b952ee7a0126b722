"""Stage 2: re-train the classifier on fused features, the backbone frozen."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch
from torch import nn

from h2t import models
from h2t.base import rng
from h2t.base.progress import bar as progress_bar
from h2t.data import samplers
from h2t.fusion import blend, channel_mask, class_means, lend, soft_share
from h2t.recipes.parameters import Stage2, check_method
from h2t.runs import Run, check_variant
from h2t.train import device as stepping
from h2t.train import methods, mixing
from h2t.train.bn_statistics import reestimate
from h2t.train.loop import Report
from h2t.train.prepare import dataset, loaders
from h2t.train.processes import ranks as distributed
from h2t.train.processes.ranks import ALONE, Ranks
from h2t.train.schedule import stage2_lr
from h2t.train.stage1 import load_model
from h2t.train.update import Update


def train_stage2(
    run: Run | str,
    config: Stage2,
    variant: str = "h2t",
    *,
    device: str = "auto",
    again: bool = False,
    progress: bool = True,
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> dict[str, Any]:
    """Re-train the classifier of a run's stage 1 with H2T (or, with ``fusion_ratio`` 0, DR), or return the result.

    Source: Li et al. 2024, section 3.2 and its released settings: the classifier goes on from stage 1; ceil(N / B)
    steps an epoch; one channel permutation per batch; the frozen backbone runs in train mode unless
    ``bn_statistics`` is "none", so each branch is normalised by its own batch and the running statistics follow the
    streams named there. Deviation: fusion is applied to the pooled features, which gives the same numbers (``fuse``).
    Of several experts each has a permutation of its own, and the loss is that of the model's answer, the mean (RIDE) or sum
    (ResLT) of theirs. Other methods than cross entropy on the whole classifier: ``h2t.train.methods``.
    Several ``heads`` are averaged: ``h2t.train.averaging``.

    Arguments: ``run`` with a finished stage 1; ``config``; ``variant`` names the step, ``stage2-<variant>``; the rest
    as in ``train_stage1``. Returns: the content of result.json. Raises: ``h2t.Error`` as ``train_stage1`` does, and
    where stage 1 is not finished or its head does not go with the method.
    """
    check_variant(variant)
    run, device = Run(run, create=False), stepping.pick_device(device)
    if config.heads == 1:
        return _train(run, config, f"stage2-{variant}", device, again, progress, on_epoch)
    from h2t.train.averaging import train_averaged

    train_one = lambda name, member: _train(run, member, name, device, False, progress, on_epoch)  # noqa: E731
    return train_averaged(
        run, config, variant, train_one, device=device, again=again, progress=progress
    )


def _train(
    run: Run,
    config: Stage2,
    step_name: str,
    device: torch.device,
    again: bool,
    progress: bool,
    on_epoch,
) -> dict[str, Any]:
    """Train one classifier into a step of the run, or return its result where that is done."""
    step, ranks, variant = (
        run.step(step_name),
        distributed.ranks(),
        step_name.removeprefix("stage2-"),
    )
    with ranks.alone(run.lock()):
        before = ranks.first(lambda: run.step("stage1").result)
        check_method(config.stage2_method, before["head"])
        params = {**config.to_dict(), "stage1_weights": before["weights_sha256"]}
        if (done := ranks.first(step.begin, params, again, Stage2().to_dict())) is not None:
            return done
        data = dataset(run, progress=progress)
        train, test = loaders(run, data, device, config, ranks)
        labels = torch.from_numpy(data.train.labels)
        model = ranks.prepare(load_model(run, "stage1", str(device), ranks), config.sync_bn, device)
        model.backbone.requires_grad_(False)
        if config.reinitialise_head:
            models.initialise(model.head, rng.torch_generator(config.seed, "stage2/init"))
        centres = (
            _centres(model, train, config, len(data.train.classes))
            if config.fusion == "soft"
            else None
        )
        counts = torch.from_numpy(data.train.counts).to(device)
        groups, peaks = methods.begin(model, config)
        optimizer = stepping.sgd(groups, 0.1, config.momentum, config.stage2_weight_decay)
        epochs = 0 if config.stage2_method == "tau" else config.stage2_epochs
        report = Report(step, data, run.params["groups"], epochs, config.eval_every, on_epoch)
        first = report.resume(model, optimizer) + 1
        draws = torch.Generator()  # of the loss and of noise in place of features
        capturable = ranks.world == 1 and config.stage2_method != "gcl" and config.fusion != "noise"
        update = Update(
            objective(model, counts, centres, config, draws, device, ranks),
            model,
            optimizer,
            device,
            capturable=capturable,
        )
        name = f"stage 2 {variant}"
        bar = progress_bar(
            range(first, epochs + 1),
            name,
            epochs,
            initial=first - 1,
            unit="epoch",
            progress=progress,
        )
        with stepping.threads_for(train, config.batch_size):
            for epoch in bar:
                start = time.perf_counter()
                rates = [stage2_lr(epoch, config, peak) for peak in peaks]
                stepping.set_lr(optimizer, *rates)
                draws.manual_seed(rng.derive(config.seed, "stage2/draws", epoch))
                losses = _epoch(update, train, labels, config, epoch)
                stepping.check_finite(
                    losses,
                    epoch,
                    (epoch - 1) * len(losses),
                    name,
                    "scale_lr" if config.stage2_method == "lws" else "stage2_lr",
                )
                row = report.epoch(
                    epoch,
                    rates[0],
                    losses,
                    time.perf_counter() - start,
                    model,
                    test,
                    optimizer,
                    config.precision,
                )
                bar.set_postfix_str(report.postfix(row))
            methods.end(model, config)
            reestimate(model.backbone, train, labels, config)
            return report.finish(
                model,
                test,
                config,
                device,
                variant=variant,
                update=update.kind,
                **{k: before[k] for k in ("model", "head")},
            )


def objective(
    model,
    counts: torch.Tensor,
    centres: torch.Tensor | None,
    config: Stage2,
    draws: torch.Generator,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Callable[..., torch.Tensor]:
    """The loss of stage 2 as a function of one batch of each branch: the fused one's images (B, C, H, W) and labels (B,), the labels
    (B,) that are mixed in and the share of the first ones, or twice None; the fusing one's images and the channel mask (D,), or
    twice None. ``draws`` is the generator of what loss and fusion draw; the features of all ``ranks`` are gathered."""
    loss_function, shift = methods.loss_of(config, counts, draws), config.bn_statistics != "none"

    def loss_of(x_b, y_b, y_mixed, share, x_i, mask):
        with torch.no_grad(), stepping.autocast(device, config.precision):
            z = ranks.gather(
                features(model.backbone, x_b, batch_statistics=shift, update=shift), len(y_b)
            )  # (B, D)
            if x_i is not None:
                z_i = features(
                    model.backbone,
                    x_i,
                    batch_statistics=shift,
                    update=config.bn_statistics == "both",
                )
                z_i = ranks.gather(z_i, len(y_b))
                own = soft_share(z, centres[y_b]) if centres is not None else None
                z = blend(
                    z,
                    lend(z_i, config.fusion, draws),
                    mask,
                    config.fusion_ratio,
                    config.fusion,
                    own,
                )
        logits = model.head(z.float())
        loss = loss_function(logits, y_b)
        return loss if y_mixed is None else torch.lerp(loss_function(logits, y_mixed), loss, share)

    return loss_of


def _epoch(update: Update, train, labels, config: Stage2, epoch: int) -> torch.Tensor:
    """One epoch of updates. Returns the losses (steps,) on the CPU, fetched once, at the end."""

    def stream(branch: str, sampler: str):
        order = samplers.epoch(
            sampler,
            labels,
            len(labels),
            rng.torch_generator(config.seed, f"stage2/{branch}", epoch),
        )
        draws = rng.torch_generator(config.seed, f"stage2/{branch}-augment", epoch)
        return train.epoch(order, config.batch_size, draws, config.flip)

    steps = -(-len(labels) // config.batch_size)
    fused = stream("fused", config.fused_branch)
    if config.stage2_mixup_alpha:
        fused = mixing.mixup(
            fused, steps, config.stage2_mixup_alpha, config.seed, "stage2", epoch, train
        )
    else:
        fused = mixing.plain(fused)
    fusing, backbone = repeat((None, None)), update.model.backbone
    # the fusing branch also runs where nothing is fused but the statistics are to see it
    if config.fusion_ratio > 0 or config.bn_statistics == "both":
        permutations = rng.torch_generator(config.seed, "stage2/mask", epoch)
        masks = [
            channel_mask(
                backbone.num_features, config.fusion_ratio, permutations, backbone.num_experts
            )
            for _ in range(steps)
        ]
        masks = torch.stack(masks).to(train.device)  # (steps, D), moved once
        fusing = (
            (x, mask)
            for (x, _), mask in zip(stream("fusing", config.fusing_branch), masks, strict=True)
        )
    update.model.head.train()
    return torch.stack(
        [update(*own, *lent) for own, lent in zip(fused, fusing, strict=False)]
    ).cpu()


@torch.inference_mode()
def _centres(model, train, config: Stage2, num_classes: int) -> torch.Tensor:
    """Mean features by class (C, D) of stage 1's backbone in eval mode, unaugmented."""
    model.eval()
    with (
        stepping.threads_for(train, config.batch_size),
        stepping.autocast(train.device, config.precision),
    ):
        z = torch.cat([model.features(x).float() for x, _ in train.batches(config.batch_size)])
    return class_means(Ranks(*train.shard).gather(z, len(train)), train.labels, num_classes)


def features(
    backbone: nn.Module, images: torch.Tensor, *, batch_statistics: bool, update: bool
) -> torch.Tensor:
    """Pooled features (B, D) of a frozen backbone under a given regime of batch normalisation.

    Arguments: ``images`` (B, C, H, W); ``batch_statistics`` normalise by this batch rather than by the running
    statistics; ``update`` let the running statistics follow this batch.
    """
    backbone.train(batch_statistics)
    if batch_statistics and not update:
        norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        momenta = [m.momentum for m in norms]
        for m in norms:
            m.momentum = 0.0
        z = backbone(images)
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        return z
    return backbone(images)


@torch.inference_mode()
def one_batch(run: Run | str) -> tuple[torch.Tensor, torch.Tensor, tuple[str, str]]:
    """Features of one image of the rarest and one of the most frequent class, to show what fusion does to them.

    Returns: the fused and the fusing feature (D,), stage 1's backbone in eval mode, and the names of the two classes.
    """
    run = Run(run, create=False)
    data, model = dataset(run), load_model(run, "stage1", "cpu")
    train, _ = loaders(run, data, torch.device("cpu"))
    tail, head = int(data.train.counts.argmin()), int(data.train.counts.argmax())
    first = [int((train.labels == c).nonzero()[0]) for c in (tail, head)]
    z = model.features(train.plain(torch.tensor(first)))
    return z[0], z[1], (data.train.classes[tail], data.train.classes[head])
