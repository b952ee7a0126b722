"""What both stages do around their updates: epochs, evaluation, checkpoints, the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.progress import bar as progress_bar
from h2t.metrics import MEASURES
from h2t.recipes.parameters import Shared
from h2t.runs import Step
from h2t.train.device import pick_device, precision_of, set_lr
from h2t.train.evaluate import VAL_SEEN, measures, predict
from h2t.train.processes.ranks import ranks
from h2t.train.rundata import RunData

BEST_IS = "chosen by test accuracy among the evaluated epochs, as the reference does; not a result"


@dataclass
class Asked:
    """How a step is trained: on which ``device``, ``again`` in place of an earlier one, with a bar
    of its ``progress``; ``on_epoch`` gets all rows of metrics.jsonl after each epoch."""

    device: str = "auto"
    again: bool = False
    progress: bool = True
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None

    def __post_init__(self):  # a device that is not there is refused before any work
        self.device = pick_device(self.device)


class Report:
    """The bookkeeping of one step, apart from its loop: goes on from the last checkpoint, where
    there is one, into ``model`` and ``optimizer``. ``epochs`` are those in all."""

    def __init__(self, step: Step, data: RunData, model, optimizer, config: Shared, epochs, asked):
        self.step, self.data, self.model, self.optimizer = step, data, model, optimizer
        self.config, self.epochs, self.asked, self.device = config, epochs, asked, asked.device
        self.ranks, self.counts = ranks(), data.counts
        parts = ("test", "val") if data.val is not None else ("test",)
        self.loaders = {part: data.loader(part, self.device, None, self.ranks) for part in parts}
        # when the last checkpoint was written, and how long that took
        self.saved, self.cost = float("-inf"), 0.0
        self.history: list[dict[str, Any]] = []
        self.done = self._resume()

    def _resume(self) -> int:
        """Restore the last checkpoint, if there is one. Returns: how many epochs are done."""
        state = self.ranks.first(self.step.load_checkpoint)
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]
        self.ranks.first(self.step.write_history, self.history)
        return state["epoch"]

    def epoch(self, epoch: int, lr: float, losses: torch.Tensor, seconds: float) -> dict[str, Any]:
        """Close an epoch: evaluate where that is due, append a row, save the checkpoint."""
        self.ranks.agree(self.model)
        loss = losses.double().mean().item()
        row = {"epoch": epoch, "lr": lr, "loss": loss, "seconds": round(seconds, 4)}
        if epoch % self.config.eval_every == 0 or epoch == self.epochs:
            start = time.perf_counter()
            row |= self._measured("test")
            if "val" in self.loaders:
                row |= {f"val_{k}": v for k, v in self._measured("val").items()}
            row["eval_seconds"] = round(time.perf_counter() - start, 4)
        self.history.append(row)
        self.ranks.first(self._checkpoint, epoch)
        if self.asked.on_epoch:
            self.asked.on_epoch(self.history)
        return row

    def _checkpoint(self, epoch: int) -> None:
        # on a GPU an epoch can be shorter than saving it: then only as often as it takes a
        # twentieth of the time
        start = time.perf_counter()
        soon = start - self.saved < 20 * self.cost
        if self.device.type == "cuda" and epoch < self.epochs and soon:
            return
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.step.save_checkpoint({"epoch": epoch, **state}, self.history)
        self.saved = time.perf_counter()
        self.cost = self.saved - start

    def _predict(self, part: str) -> torch.Tensor:
        return predict(self.model, self.loaders[part], self.config.precision)

    def _measured(self, part: str) -> dict[str, float | None]:
        labels, logits = getattr(self.data, part).labels, self._predict(part).numpy()
        return metrics.summary(logits, labels, self.counts, self.data.scheme)

    def postfix(self, row: dict[str, Any]) -> str:
        last = next((r for r in reversed(self.history) if "all" in r), None)
        return f"loss {row['loss']:.3f}" + (f", test top-1 {last['all']:.1f} %" if last else "")

    def finish(self, **extra) -> dict[str, Any]:
        """Write weights, test outputs and result.json, with ``extra`` in it, which is returned."""
        logits, labels = self._predict("test"), np.asarray(self.data.test.labels)
        result = {
            "params": self.config.to_dict(),
            "epochs": self.epochs,
            **measures(logits, labels, self.counts, self.data.scheme),
            **self._beside(),
            "seconds": round(sum(r["seconds"] + r.get("eval_seconds", 0) for r in self.history), 3),
            "device": str(self.device),
            "processes": self.ranks.world,
            "precision": precision_of(self.device, self.config.precision),
            "num_classes": len(self.data.classes),
            "in_channels": self.data.channels,
            **extra,
        }
        outputs = {"logits": logits, "labels": torch.from_numpy(labels)}
        return self.ranks.first(self.step.finish, self.model.state_dict(), outputs, result)

    def _beside(self) -> dict[str, Any]:
        """The validation part's measures and the best evaluated epoch, where there are any."""
        beside: dict[str, Any] = {}
        if "val" in self.loaders:
            beside["val"] = self._measured("val")
            first = self.step.run.step("stage1")
            if self.step.name != "stage1" and self.ranks.first(lambda: "imported" in first.result):
                beside["val_is"] = VAL_SEEN
        evaluated = [r for r in self.history if "all" in r]  # none where nothing was trained
        if evaluated:
            best = max(evaluated, key=lambda r: r["all"])
            beside |= {"best": {k: best[k] for k in ("epoch", *MEASURES)}, "best_is": BEST_IS}
        return beside


def run_epochs(report: Report, train_epoch, rates, *, name: str, blame: str) -> None:
    """Train the epochs that are not done yet.

    Arguments: ``train_epoch`` from an epoch's number, counted from 1, to the losses (steps,) of its
    updates; ``rates`` to the learning rate of each parameter group; ``name`` of the step for
    people; ``blame`` the parameter to lower where training diverges, which raises ``h2t.Error``.
    """
    left, how = range(report.done + 1, report.epochs + 1), {"initial": report.done, "unit": "epoch"}
    bar = progress_bar(left, name, report.epochs, progress=report.asked.progress, **how)
    for epoch in bar:
        start = time.perf_counter()
        now = rates(epoch)
        set_lr(report.optimizer, *now)
        losses = train_epoch(epoch)
        check_finite(losses, report.model, epoch, name, blame)
        row = report.epoch(epoch, now[0], losses, time.perf_counter() - start)
        bar.set_postfix_str(report.postfix(row))


def check_finite(losses: torch.Tensor, model, epoch: int, name: str, parameter: str) -> None:
    """Raise ``h2t.Error`` at the first loss of an epoch (steps,) that is not finite, or where the
    last step left weights or statistics that are not."""
    tensors = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    if len(bad := (~losses.isfinite()).nonzero()):
        k = int(bad[0])
        what = f"the loss is {losses[k].item()} at step {(epoch - 1) * len(losses) + k + 1}"
        what += f" (epoch {epoch}, batch {k + 1})"
    elif not torch.stack([v.isfinite().all() for v in tensors.values()]).all():  # one look an epoch
        name_of = next(k for k, v in tensors.items() if not v.isfinite().all())
        what = f"{name_of} is not finite after epoch {epoch}"
    else:
        return
    raise Error(
        f"{name} diverged: {what}. The checkpoint of epoch {epoch - 1} is kept; "
        f"start again with a lower {parameter}"
    )
