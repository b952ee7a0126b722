"""What a training loop reports: evaluation, the rows of metrics.jsonl, checkpoints, and the final result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from h2t import metrics
from h2t.data.split import Dataset
from h2t.metrics import MEASURES
from h2t.runs import Step
from h2t.train import device as stepping
from h2t.train.prepare import val_loader
from h2t.train.processes import ranks as distributed

VAL_SEEN = (
    "stage 1 was imported: it may have been trained on these images, so that they are no validation"
)
BEST_IS = "chosen by test accuracy among the evaluated epochs, as the reference does; not a result"


class Report:
    """The bookkeeping of one step, apart from its loop.

    Arguments: ``step``; ``data``; ``scheme`` of the groups; ``epochs`` in all; ``every`` how often to evaluate;
    ``on_epoch`` called with the rows so far.
    """

    def __init__(
        self,
        step: Step,
        data: Dataset,
        scheme: str,
        epochs: int,
        every: int,
        on_epoch: Callable | None,
    ):
        self.step, self.data, self.scheme, self.epochs, self.every = (
            step,
            data,
            scheme,
            epochs,
            every,
        )
        self.on_epoch, self.history, self.counts, self.ranks = (
            on_epoch,
            [],
            data.train.counts,
            distributed.ranks(),
        )
        self.val = None  # its loader, from the first evaluation on
        self.saved, self.cost = (
            float("-inf"),
            0.0,
        )  # when the last checkpoint was written, and how long that took

    def resume(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore the last checkpoint, if there is one. Returns the number of epochs that are done."""
        state = self.ranks.first(self.step.load_checkpoint)
        if state is None:
            return 0
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]
        self.ranks.first(self.step.write_history, self.history)
        return state["epoch"]

    def epoch(
        self, epoch, lr, losses, seconds, module, test, optimizer, precision
    ) -> dict[str, Any]:
        """Close an epoch: evaluate where that is due, append a row, save the checkpoint; on a GPU, where an epoch can be shorter
        than that, only as often as it takes a twentieth of the time."""
        self.ranks.agree(module)
        row = {
            "epoch": epoch,
            "lr": lr,
            "loss": losses.double().mean().item(),
            "seconds": round(seconds, 4),
        }
        if stepping.due(epoch, self.epochs, self.every):
            start = time.perf_counter()
            row |= self.measure(stepping.predict(module, test, precision).numpy())
            row |= {
                f"val_{k}": v
                for k, v in (self.on_val(module, test.device, precision) or {}).items()
            }
            row["eval_seconds"] = round(time.perf_counter() - start, 4)
        self.history.append(row)
        self.ranks.first(self._checkpoint, epoch, module, optimizer)
        if self.on_epoch:
            self.on_epoch(self.history)
        return row

    def _checkpoint(self, epoch: int, module, optimizer) -> None:
        start, on_gpu = time.perf_counter(), next(module.parameters()).is_cuda
        if on_gpu and epoch < self.epochs and start - self.saved < 20 * self.cost:
            return
        self.step.save_checkpoint(
            {"epoch": epoch, "model": module.state_dict(), "optimizer": optimizer.state_dict()},
            self.history,
        )
        self.saved = time.perf_counter()
        self.cost = self.saved - start

    def measure(self, logits: np.ndarray) -> dict[str, float | None]:
        return metrics.summary(logits, self.data.test.labels, self.counts, self.scheme)

    def on_val(self, module, device, precision) -> dict[str, float | None] | None:
        """The measures on the validation part, None where there is none."""
        if self.val is None and self.data.val is not None:
            self.val = val_loader(self.step.run, self.data, device, self.ranks)
        if self.val is None:
            return None
        return metrics.summary(
            stepping.predict(module, self.val, precision).numpy(),
            self.data.val.labels,
            self.counts,
            self.scheme,
        )

    def postfix(self, row: dict[str, Any]) -> str:
        last = next((r for r in reversed(self.history) if "all" in r), None)
        return f"loss {row['loss']:.3f}" + (f", test top-1 {last['all']:.1f} %" if last else "")

    def finish(self, module, test, config, device, **extra) -> dict[str, Any]:
        """Write weights, test outputs and the result of the last epoch, with the best evaluated one beside it."""
        logits = stepping.predict(module, test, config.precision)
        evaluated = [r for r in self.history if "all" in r]
        best = max(
            evaluated, key=lambda r: r["all"], default=None
        )  # None where nothing was trained
        val = self.on_val(module, test.device, config.precision)
        result = {
            "params": config.to_dict(),
            "epochs": self.epochs,
            "last": self.measure(logits.numpy()),
            **({} if val is None else {"val": val}),
            **(
                {"best": {k: best[k] for k in ("epoch", *MEASURES)}, "best_is": BEST_IS}
                if best
                else {}
            ),
            "per_class": [
                None if np.isnan(a) else float(a)
                for a in metrics.per_class(logits.numpy(), self.data.test.labels)
            ],
            "counts": self.counts.tolist(),
            "groups": self.scheme,
            "seconds": round(sum(r["seconds"] + r.get("eval_seconds", 0) for r in self.history), 3),
            "device": str(device),
            "processes": self.ranks.world,
            "precision": stepping.precision_of(device, config.precision),
            "num_classes": len(self.data.train.classes),
            "in_channels": self.data.train.images.shape[3],
            **extra,
        }
        if (
            val is not None
            and self.step.name != "stage1"
            and self.ranks.first(lambda: bool(self.step.run.step("stage1").result.get("imported")))
        ):
            result["val_is"] = VAL_SEEN
        outputs = {"logits": logits, "labels": torch.from_numpy(np.asarray(self.data.test.labels))}
        return self.ranks.first(self.step.finish, module.state_dict(), outputs, result)
