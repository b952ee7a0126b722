"""Stage 1: learn the representation on instance-wise batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from h2t import models
from h2t.base import rng
from h2t.base.files import resolve
from h2t.base.progress import bar as progress_bar
from h2t.data import samplers
from h2t.losses import EXPERT_LOSSES, bound, needs
from h2t.losses.class_balanced import class_weights
from h2t.recipes.parameters import Stage1
from h2t.runs import Run
from h2t.train import device as stepping
from h2t.train import mixing
from h2t.train.loop import Report
from h2t.train.prepare import dataset, loaders
from h2t.train.processes import ranks as distributed
from h2t.train.processes.ranks import ALONE, Ranks
from h2t.train.schedule import stage1_lr
from h2t.train.update import Update


def train_stage1(
    run: Run | str,
    config: Stage1,
    *,
    device: str = "auto",
    again: bool = False,
    progress: bool = True,
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> dict[str, Any]:
    """Train backbone and classifier on the run's long-tailed set, or return the result where that is done.

    Where the recipe names a ``checkpoint``, that is imported and evaluated instead.

    Source: Li et al. 2024, stage 1 ("CE + mixup"). Every epoch is checkpointed; a run that was interrupted goes on
    from there and ends with the same weights, bit for bit on the CPU, as one that was not.

    Arguments: ``run`` prepared by ``prepare``; ``config``; ``device`` auto, cpu or cuda; ``again`` discards an earlier
    stage 1; ``on_epoch`` is called with all rows of metrics.jsonl after each epoch.
    Returns: the content of result.json: ``last`` and ``best`` epoch (best by test accuracy, for comparison only),
    ``per_class`` accuracy in %, ``seconds`` and more.
    Raises: ``h2t.Error`` for a run without data, in use, begun with other parameters, or where the loss diverges.
    """
    run, device, ranks = Run(run, create=False), stepping.pick_device(device), distributed.ranks()
    step = run.step("stage1")
    if config.checkpoint and (again or not ranks.first(lambda: step.done)):
        from h2t.exchange.reference import import_checkpoint

        ranks.first(
            lambda: import_checkpoint(
                config.checkpoint, run, again=again, device=str(device), precision=config.precision
            )
        )
        again = False
    if not again and ranks.first(
        lambda: step.done and "last" not in step.result
    ):  # imported before there were data
        from h2t.exchange.reference import evaluate

        ranks.first(lambda: evaluate(run, device=str(device), precision=config.precision))
    with ranks.alone(run.lock()):
        if (
            done := ranks.first(step.begin, config.to_dict(), again, Stage1().to_dict())
        ) is not None:
            return done
        data = dataset(run, progress=progress)
        train, test = loaders(run, data, device, config, ranks)
        labels, counts = (
            torch.from_numpy(data.train.labels),
            torch.from_numpy(data.train.counts).to(device),
        )
        model = models.build(
            config.model,
            len(data.train.classes),
            head=config.head,
            in_channels=data.train.images.shape[3],
            generator=rng.torch_generator(config.seed, "stage1/init"),
        )
        if config.pretrained and not ranks.first((step.path / "checkpoint.pt").exists):
            file = resolve(config.pretrained)  # or a name of torchvision's
            models.load_pretrained(
                model.backbone,
                config.model,
                str(file) if file.is_file() else config.pretrained,
                config.trainable,
            )
        models.freeze(model.backbone, config.trainable)
        model = ranks.prepare(stepping.to_device(model, device), config.sync_bn, device)
        optimizer = stepping.sgd(
            [p for p in model.parameters() if p.requires_grad],
            0.1,
            config.momentum,
            config.stage1_weight_decay,
            config.nesterov,
        )
        report = Report(
            step, data, run.params["groups"], config.stage1_epochs, config.eval_every, on_epoch
        )
        first = report.resume(model, optimizer) + 1
        draws = torch.Generator()  # of the loss
        capturable = ranks.world == 1 and "generator" not in needs(config.loss)
        update = Update(
            objective(model, counts, config, draws, device, ranks),
            model,
            optimizer,
            device,
            capturable=capturable,
            ranks=ranks,
        )
        bar = progress_bar(
            range(first, config.stage1_epochs + 1),
            "stage 1",
            config.stage1_epochs,
            initial=first - 1,
            unit="epoch",
            progress=progress,
        )
        with stepping.threads_for(train, config.batch_size):
            for epoch in bar:
                start = time.perf_counter()
                lr = stage1_lr(epoch, config)
                stepping.set_lr(optimizer, lr)
                draws.manual_seed(rng.derive(config.seed, "stage1/loss", epoch))
                losses = _epoch(update, train, labels, counts, config, epoch)
                stepping.check_finite(
                    losses, epoch, (epoch - 1) * len(losses), "stage 1", "stage1_lr"
                )
                row = report.epoch(
                    epoch,
                    lr,
                    losses,
                    time.perf_counter() - start,
                    model,
                    test,
                    optimizer,
                    config.precision,
                )
                bar.set_postfix_str(report.postfix(row))
            return report.finish(
                model,
                test,
                config,
                device,
                model=config.model,
                head=config.head,
                update=update.kind,
            )


def objective(
    model,
    counts: torch.Tensor,
    config: Stage1,
    draws: torch.Generator,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Callable[..., torch.Tensor]:
    """The loss of stage 1 as a function of one batch: images (B, C, H, W) or a process's share of them, labels (B,), the labels (B,)
    that are mixed in and the share of the first ones, or twice None, and the classes' weights (C,), or None. ``draws`` is the
    generator of what the loss draws; the logits of all ``ranks`` are gathered."""
    loss_function = bound(config.loss, vars(config), draws)
    answer = (
        (lambda x: model.head.each(model.backbone(x))) if config.loss in EXPERT_LOSSES else model
    )

    def loss_of(x, y, other, share, weight):
        with stepping.autocast(device, config.precision):
            logits = answer(x)  # (B, classes), or (experts, B, classes) for a loss of experts
        logits = ranks.gather(logits.float(), len(y))
        loss = loss_function(logits, y, counts, weight)
        return (
            loss
            if other is None
            else torch.lerp(loss_function(logits, other, counts, weight), loss, share)
        )

    return loss_of


def _epoch(update: Update, train, labels, counts, config: Stage1, epoch: int) -> torch.Tensor:
    """One epoch of updates. Returns the losses (steps,) on the CPU, fetched once, at the end."""
    order = samplers.epoch(
        "instance", labels, len(labels), rng.torch_generator(config.seed, "stage1/order", epoch)
    )
    steps = -(-len(labels) // config.batch_size)
    deferred = epoch > config.drw_from * config.stage1_epochs
    weight = class_weights(counts).float() if deferred else None
    update.model.train()
    batches = train.epoch(
        order,
        config.batch_size,
        rng.torch_generator(config.seed, "stage1/augment", epoch),
        config.flip,
    )
    losses = [
        update(*batch, weight)
        for batch in mixing.stream(batches, steps, train, labels, config, epoch)
    ]
    return torch.stack(losses).cpu()


def load_model(
    run: Run | str, step: str = "stage1", device: str = "auto", ranks: Ranks = ALONE
) -> models.Classifier:
    """The trained model of a step, in eval mode; of several ``ranks`` the first reads it. Raises ``h2t.Error`` where the step has none."""
    run = Run(run, create=False)
    result, weights, frozen = ranks.first(
        lambda: (
            run.step(step).result,
            run.step(step).weights(),
            run.step("stage1").params.get("trainable", "all"),
        )
    )
    model = models.build(
        result["model"],
        result["num_classes"],
        head=result["head"],
        in_channels=result["in_channels"],
    )
    model.load_state_dict(weights)
    models.freeze(model.backbone, frozen)
    return stepping.to_device(model, stepping.pick_device(device)).eval()


@torch.inference_mode()
def features_of(
    run: Run | str, step: str, part: str = "test", device: str = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features of a step's backbone in eval mode, unaugmented.

    Arguments: ``part`` train or test. Returns: features (N, D) float32 and labels (N,). Raises: ``h2t.Error`` where the
    step or the data are missing.
    """
    run = Run(run, create=False)
    model = load_model(run, step, device)
    images = loaders(run, dataset(run, progress=False), stepping.pick_device(device))[
        part == "test"
    ]
    with stepping.threads_for(images, 128):
        z = torch.cat([model.features(x) for x, _ in images.batches(128)])
    return z.cpu().numpy(), images.labels.cpu().numpy()
