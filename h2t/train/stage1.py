"""Stage 1: learn the representation on instance-wise batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from h2t import models
from h2t.base import rng
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.data import samplers
from h2t.losses import EXPERT_LOSSES, bound, needs
from h2t.losses.class_balanced import class_weights
from h2t.recipes.parameters import Stage1
from h2t.runs import Run, Step
from h2t.train import mixing
from h2t.train.device import autocast, sgd, threads_for, to_device
from h2t.train.loop import Asked, Report, run_epochs
from h2t.train.processes.ranks import ALONE, Ranks, ranks
from h2t.train.rundata import RunData, dataset, run_of
from h2t.train.schedule import stage1_lr
from h2t.train.update import Update


def train(run: RunData | Run | str, config: Stage1, **how: Any) -> dict[str, Any]:
    """Train backbone and classifier on a run's long-tailed set, unless that is done.

    Source: Li et al. 2024, stage 1 ("CE + mixup"). A run that was interrupted goes on from its last
    checkpoint and ends with the same weights, bit for bit on the CPU, as one that was not.

    Arguments: ``how`` as of ``h2t.train.loop.Asked``. Returns: the content of result.json.
    Raises: ``h2t.Error`` for a run without data, in use, begun with other parameters, or where the
    loss diverges.
    """
    step, asked, together = run_of(run).step("stage1"), Asked(**how), ranks()
    with together.alone(step.run.lock()):
        done = together.first(step.begin, config.to_dict(), asked.again, Stage1().to_dict())
        if done is not None:
            return done
        if config.checkpoint:
            raise Error("a checkpoint is imported, not trained; use h2t.train_stage1")
        return _train(step, dataset(run, progress=asked.progress), config, asked)


def _train(step: Step, data: RunData, config: Stage1, asked: Asked) -> dict[str, Any]:
    together, device = ranks(), asked.device
    train_set = data.loader("train", device, config, together)
    labels = torch.from_numpy(data.train.labels)  # (N,), on the CPU, where orders are drawn
    counts = torch.from_numpy(data.train.counts).to(device)
    network = to_device(_network(config, data, step, together), device)
    model = together.prepare(network, device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = sgd(trained, 0.1, config.momentum, config.stage1_weight_decay, config.nesterov)
    report = Report(step, data, model, optimizer, config, config.stage1_epochs, asked)
    loss_of, captured = objective(model, counts, config, device, together), together.world == 1
    update = Update(loss_of, model, optimizer, device, capturable=captured, ranks=together)

    def epoch(number: int) -> torch.Tensor:
        return _epoch(update, train_set, labels, counts, config, number)

    def rates(number: int) -> list[float]:
        return [stage1_lr(number, config)]

    with threads_for(train_set, config.batch_size):
        run_epochs(report, epoch, rates, name="stage 1", blame="stage1_lr")
        return report.finish(model=config.model, head=config.head, update=update.kind)


def _network(config: Stage1, data: RunData, step: Step, together: Ranks) -> models.Classifier:
    """The network at its beginning: by the run's seed or pretrained."""
    draws = rng.torch_generator(config.seed, "stage1/init")
    how = {"head": config.head, "in_channels": data.channels, "generator": draws}
    model = models.build(config.model, len(data.classes), **how)
    if config.pretrained and not together.first((step.path / "checkpoint.pt").exists):
        file = resolve(config.pretrained)  # or a name of torchvision's
        weights = str(file) if file.is_file() else config.pretrained
        models.load_pretrained(model.backbone, config.model, weights, config.trainable)
    models.freeze(model.backbone, config.trainable)
    return model


def objective(
    model, counts: torch.Tensor, config: Stage1, device: torch.device, together: Ranks = ALONE
) -> Callable[..., torch.Tensor]:
    """The loss of stage 1 as a function of images (B, C, H, W), or a process's share of them;
    labels (B,); the labels (B,) that are mixed in and the share of the first ones, or twice None;
    the classes' weights (C,), or None; and what the loss draws, (B, classes) each time."""

    def of_each_expert(images):
        return model.head.each(model.backbone(images))

    answer = of_each_expert if config.loss in EXPERT_LOSSES else model

    def loss_of(x, y, other, share, weight, *drawn):
        loss_function = bound(config.loss, vars(config), iter(drawn))
        with autocast(device, config.precision):
            logits = answer(x)  # (B, classes), or (experts, B, classes) for a loss of experts
        logits = together.gather(logits.float(), len(y))
        loss = loss_function(logits, y, counts, weight)
        if other is None:
            return loss
        return torch.lerp(loss_function(logits, other, counts, weight), loss, share)

    return loss_of


def _epoch(update: Update, train_set, labels, counts, config: Stage1, epoch: int) -> torch.Tensor:
    """One epoch of updates. Returns: the losses (steps,), fetched once, at the end."""

    def generator(stream: str) -> torch.Generator:
        return rng.torch_generator(config.seed, f"stage1/{stream}", epoch)

    update.model.train()
    order = samplers.epoch("instance", labels, len(labels), generator("order"))  # (N,)
    steps = -(-len(labels) // config.batch_size)
    deferred = epoch > config.drw_from * config.stage1_epochs
    weight = class_weights(counts).float() if deferred else None  # (C,)
    batches = train_set.epoch(order, config.batch_size, generator("augment"), config.flip)
    mixed = mixing.stream(batches, steps, train_set, labels, config, epoch)
    draws, drawing, losses = generator("loss"), "generator" in needs(config.loss), []
    for x, y, other, share in mixed:
        times = drawing * (1 if other is None else 2)  # a loss is computed once or twice a batch
        shape = (len(y), len(counts))
        drawn = [rng.normal(shape, draws).to(x.device, non_blocking=True) for _ in range(times)]
        losses.append(update(x, y, other, share, weight, *drawn))
    return torch.stack(losses).cpu()
