"""Run directories: the only thing that passes from one step to the next.

    runs/<name>/  h2t.json, the mark that h2t made it
                  params.yaml  split.json + indices.npy  inputs.json  environment.json
                  stage1/  stage2-<variant>/   params.yaml metrics.jsonl checkpoint.pt
                                               weights.safetensors outputs.safetensors result.json
                  notebooks/                   the executed copies

Files are written under a temporary name and renamed; result.json comes last and means "done".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from h2t.base import files, readers
from h2t.base.errors import Error, quoted
from h2t.base.machine import environment

# What a step may write into its folder; result.json, which says that it is done, goes first.
FILES = ("result.json", "checkpoint.pt", "metrics.jsonl", "weights.safetensors")
FILES += ("outputs.safetensors", "params.yaml")
# What result.json holds, as far as it holds it, and what it must hold.
RESULT: dict[str, Any] = {
    **dict.fromkeys(("model", "head", "weights_sha256", "groups"), str),
    **dict.fromkeys(("num_classes", "in_channels", "epochs"), int),
    **dict.fromkeys(("params", "imported", "environment"), dict),
    **dict.fromkeys(("last", "val", "best"), {str: float}),
    **{"seconds": float, "per_class": [float], "counts": [int]},
}
NEEDED = ("model", "head", "num_classes", "in_channels", "weights_sha256")
# and what params.yaml does
DATA = {"source": str, "groups": str, "mean": [float], "std": [float]}
MORE = {"encoder": str, "image_fit": str, "white_level": int, "val_fraction": float}
ROW = {"epoch": int, "seconds": float, "eval_seconds": float}
INPUTS = {"classes": [str], "shape": [int], "notes": [str], "parts": {str: {str: str}}}
OVER = "start the run over with `--again`"


def check_variant(name: str) -> None:
    """Refuse a name of a stage-2 variant that could not be a folder's. Raises ``h2t.Error``."""
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        use = "it names a folder: use up to 100 letters, digits, '-', '_' and '.'"
        raise Error(f"variant is {name[:80]!r}; {use}")


class Run:
    """A run directory, made and marked on first use.

    Arguments: ``path``, a relative one from the project root; ``create`` it where it is not there;
    ``kind`` the mark that it carries, none for a folder in which runs lie.
    Raises: ``h2t.Error`` where it cannot be made, or holds anything that h2t did not make.
    """

    def __init__(self, path: str | Path | Run, create: bool = True, kind: str = "run"):
        if not str(path).strip() or "://" in str(path):
            raise Error(f"run is {str(path)!r}; name a directory, such as runs/first")
        self.path = path.path if isinstance(path, Run) else files.resolve(path)
        if create:
            files.claim(self.path, kind)
        elif not self.path.is_dir():
            how = f"`h2t run RECIPE -p run {self.path}`"
            raise Error(f"there is no run directory {self.path}; make it with {how}")
        elif kind and not files.owned(self.path, kind):
            raise Error(f"{self.path} is no run that h2t made from version 0.2 on; name one")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @contextlib.contextmanager
    def lock(self, name: str = "") -> Iterator[None]:
        """Hold the run for writing. Raises ``h2t.Error`` where another process holds it."""
        with files.held(self.path / f".lock{name and '-' + name}", f"run {self.path}"):
            if not name:  # what killed writers left
                for folder in (self.path, *filter(Path.is_dir, self.path.iterdir())):
                    files.clean(folder)
            yield

    @property
    def params(self) -> dict[str, Any]:
        """What the run's data were made with, ``mean`` and ``std`` included; {} before that."""
        path = self.path / "params.yaml"
        prepared = (self.path / "split.json").exists()
        params = _yaml(path, OVER, prepared)
        with readers.reading(path, OVER):
            readers.agrees(params, {**DATA, **MORE}, DATA if prepared else ())
            if 0 in params.get("std", ()):
                raise ValueError("its std is 0")
        return params

    @property
    def inputs(self) -> dict[str, Any]:
        """What it takes to use its models: ``classes``, their names, ``shape`` (H, W, C), ..."""
        path = self.path / "inputs.json"
        inputs = readers.read_json(path, OVER, INPUTS, INPUTS)
        with readers.reading(path, OVER):
            if len(inputs["shape"]) != 3 or not all(0 < n < 1 << 16 for n in inputs["shape"]):
                raise ValueError("its shape is no (height, width, channels)")
        return inputs

    def steps(self) -> list[Step]:
        """Finished steps, stage 1 first, then the stage-2 variants by name.

        Raises: ``h2t.Error`` where there is none.
        """
        found = [self.step(p.parent.name) for p in sorted(self.path.glob("stage*/result.json"))]
        if not found:
            how = f"train one with `h2t run RECIPE -p run {self.path}`"
            raise Error(f"run {self.path} has no finished step; {how}")
        return found

    def step(self, name: str) -> Step:
        return Step(self, name)

    def results(self) -> dict[str, dict[str, Any]]:
        return {s.name: s.result for s in self.steps()}

    def restart(self) -> None:
        """Remove what h2t wrote of the run's data and steps, and nothing else, to make it anew."""
        with self.lock():
            for step in (*self.path.glob("stage1"), *self.path.glob("stage2-*")):
                self.step(step.name).clear()
            (self.path / "split.json").unlink(missing_ok=True)


class Step:
    """One step of a run: its files, its checkpoint and whether it is done."""

    def __init__(self, run: Run, name: str):
        self.run, self.name, self.path = run, name, run.path / name
        self.over = f"start {name} over with again=True (`--again`)"

    @property
    def done(self) -> bool:
        return (self.path / "result.json").exists()

    @property
    def result(self) -> dict[str, Any]:
        """What result.json says. Raises ``h2t.Error`` where the step is not finished."""
        return readers.read_json(self._finished("result.json"), self.over, RESULT, NEEDED)

    def _finished(self, file: str) -> Path:
        if not self.done:
            how = f"train it with `h2t run RECIPE -p run {self.run.path}`"
            raise Error(f"{self.name} of run {self.run.path} is not finished; {how}")
        return self.path / file

    @property
    def params(self) -> dict[str, Any]:
        return _yaml(self.path / "params.yaml", self.over)

    def begin(
        self, params: dict[str, Any], again: bool = False, defaults: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """Open the step for work, under ``run.lock()``, or return the result that it has.

        Arguments: ``params`` what it is made from; ``pretrained``, a file of weights, is recorded
        by its hash too; ``defaults`` of those that an earlier version did not record. Raises:
        ``h2t.Error`` where it has a checkpoint of other parameters.
        """
        if again:
            self.clear()
        # a file may be gone when the step is begun again
        if (file := files.resolve(str(params.get("pretrained") or "-"))).is_file():
            params = {**params, "pretrained_sha256": readers.sha256(file)}
        there = self.done or (self.path / "checkpoint.pt").exists()
        before = {**(defaults or {}), **self.params} if there else {}
        imported = self.done and self.result.get("imported")
        for k in ("model", "head") if imported else params:
            if before and before.get(k) != params.get(k):
                was, now = quoted(before.get(k)), quoted(params.get(k))
                what = f"{self.name} of run {self.run.path} was begun with {k} = {was}, not {now}"
                raise Error(f"{what}; choose another run, or {self.over}")
        if self.path.is_dir():
            files.clean(self.path)
        if self.done:
            (self.path / "checkpoint.pt").unlink(missing_ok=True)  # killed before finish could
            return self.result
        self.path.mkdir(parents=True, exist_ok=True)
        if not before:
            files.write_yaml(self.path / "params.yaml", params)
        return None

    def clear(self) -> None:
        """Remove the step's files; the mark that it is done goes first."""
        files.remove(self.path, FILES)

    def save_checkpoint(self, state: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Save a resumable state, then the rows of metrics.jsonl that belong to it."""
        import torch

        state = {**state, "history": history}
        files.write_atomic(self.path / "checkpoint.pt", lambda f: torch.save(state, f))
        self.write_history(history)

    def write_history(self, history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in history)
        files.write_atomic(self.path / "metrics.jsonl", lines.encode())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, opened weights-only, or None. Raises ``h2t.Error`` if damaged."""
        path = self.path / "checkpoint.pt"
        return readers.read_pickled(path, self.over) if path.exists() else None

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one per epoch so far, also of a step still running."""
        path = self.path / "metrics.jsonl"
        rows = readers.read_lines(path, self.over) if path.exists() else []
        with readers.reading(path, self.over):
            for row in rows:
                readers.agrees(row, ROW, ["epoch"])
        return rows

    def finish(self, weights: dict, outputs: dict, result: dict[str, Any]) -> dict[str, Any]:
        """Write weights and test outputs, and result.json last, and drop the checkpoint."""
        from safetensors.torch import save

        blob = save({k: v.detach().cpu().contiguous() for k, v in weights.items()})
        files.write_atomic(self.path / "weights.safetensors", blob)
        outputs = {k: v.contiguous() for k, v in outputs.items()}
        files.write_atomic(self.path / "outputs.safetensors", save(outputs))
        result = {"step": self.name, **result, **_size(weights)}
        result["weights_sha256"] = hashlib.sha256(blob).hexdigest()
        result |= {k: v for k, v in self.params.items() if k == "stage1_weights"}
        result["environment"] = environment(result.get("device"))
        files.write_json(self.path / "result.json", result)
        (self.path / "checkpoint.pt").unlink(missing_ok=True)
        return result

    def weights(self) -> dict:
        """The trained tensors, by name, held against the hash in result.json."""
        recorded, path = self.result["weights_sha256"], self.path / "weights.safetensors"
        return readers.read_tensors(path, self.over, sha256=recorded)

    def outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The test set's ``logits`` (N, C) float32 and ``labels`` (N,) int64 as NumPy arrays."""
        path = self._finished("outputs.safetensors")
        both = readers.read_tensors(path, self.over, numpy=True)
        if not both:  # of a checkpoint that was imported and not evaluated
            what = f"{self.name} of run {self.run.path} has no test outputs"
            raise Error(f"{what}; evaluate it with `h2t evaluate {self.run.path}`")
        with readers.reading(path, self.over):
            logits, labels = both["logits"], both["labels"]
            fit = logits.ndim == 2 and labels.shape == logits.shape[:1] and labels.dtype.kind == "i"
            if not fit or not ((labels >= 0) & (labels < logits.shape[1])).all():
                raise ValueError("its labels are not those of its logits")
        return logits, labels


def _yaml(path: Path, way_out: str, needed: bool = False) -> dict[str, Any]:
    return readers.read_yaml(path, way_out) if needed or path.exists() else {}


def _size(weights: dict) -> dict[str, int]:
    """The number of trained values, buffers not counted, and of features of the classifier."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    size = sum(t.numel() for k, t in weights.items() if not k.endswith(buffers))
    width = weights["head.weight"].shape[-1] if "head.weight" in weights else 0
    return {"parameters": size, "width": width}
