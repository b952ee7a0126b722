"""Run directories: the only thing that passes from one step to the next.

    runs/<name>/  h2t.json, the mark that h2t made it
                  params.yaml  split.json + indices.npy  inputs.json  environment.json
                  stage1/  stage2-<variant>/   params.yaml metrics.jsonl checkpoint.pt
                                               weights.safetensors outputs.safetensors result.json
                  notebooks/                   the executed copies

Every file is written under a temporary name, flushed and renamed. result.json is written last and
means "done".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import (
    MARK,
    claim,
    clean,
    owned,
    remove,
    resolve,
    write_atomic,
    write_json,
    write_yaml,
)
from h2t.base.machine import environment
from h2t.base.readers import (
    read_json,
    read_lines,
    read_pickled,
    read_tensors,
    read_yaml,
    reading,
)

# What a step may write into its folder; result.json, which says that it is done, goes first.
FILES = (
    "result.json",
    "checkpoint.pt",
    "metrics.jsonl",
    "weights.safetensors",
    "outputs.safetensors",
    "params.yaml",
)


def check_variant(name: str) -> None:
    """Refuse a name of a stage-2 variant that could not be a folder's. Raises ``h2t.Error``."""
    usable = name and name[0] not in ".-" and all(c.isalnum() or c in "-_." for c in name)
    if not usable or len(name) > 100:
        raise Error(
            f"variant is {name[:80]!r}; it names a folder: use up to 100 letters, digits, "
            "'-', '_' and '.'"
        )


class Run:
    """A run directory, made and marked on first use.

    Arguments: ``path`` the directory; a relative one starts at the project root; ``create`` it
    where it does not exist; ``kind`` the mark that it carries, none for a folder in which runs lie.
    Raises: ``h2t.Error`` where the path is a file or cannot be made, or where it holds anything and
    h2t did not make it: nothing in it is changed then.
    """

    def __init__(self, path: str | Path | Run, create: bool = True, kind: str = "run"):
        if not isinstance(path, Run) and (not str(path).strip() or "://" in str(path)):
            raise Error(f"run is {str(path)!r}; name a directory, such as runs/first")
        self.path = path.path if isinstance(path, Run) else resolve(path)
        if self.path.exists() and not self.path.is_dir():
            raise Error(f"run {self.path} is a file; name a directory")
        if create and kind:
            claim(self.path, kind, _before_marks)
        elif create:
            self.path.mkdir(parents=True, exist_ok=True)
        elif not self.path.is_dir():
            make = f"make it with `h2t run RECIPE -p run {path}`"
            raise Error(f"there is no run directory {self.path}; {make}")
        elif kind and not owned(self.path, kind, _before_marks):
            raise Error(f"{self.path} is no run that h2t made; name the directory of one")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @contextlib.contextmanager
    def lock(self, name: str = "") -> Iterator[None]:
        """Hold the run for writing. Raises ``h2t.Error`` where another process holds it."""
        import filelock

        lock = filelock.FileLock(self.path / f".lock{name and '-' + name}")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            what = "is in use by another process; wait for it or choose another run"
            raise Error(f"run {self.path} {what}") from None
        except OSError as e:
            raise Error(f"cannot lock run {self.path}: {e.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def params(self) -> dict[str, Any]:
        """What the run's data were made with, ``mean`` and ``std`` included; {} before that."""
        path = self.path / "params.yaml"
        params = read_yaml(path, "start the run over with `--again`") if path.exists() else {}
        with reading(path, "start the run over with `--again`"):
            if (self.path / "split.json").exists():
                _fits(params, {"source": str, "groups": str, "mean": list, "std": list}, True)
        return params

    @property
    def inputs(self) -> dict[str, Any]:
        """What it takes to use the run's models: ``classes``, their names, and ``shape`` (H, W, C).

        Raises: ``h2t.Error`` where the run was made before it was recorded.
        """
        path, way = self.path / "inputs.json", "prepare the run again, where its images lie"
        inputs = read_json(path, way)
        with reading(path, way):
            _fits(inputs, {"classes": list, "shape": list}, True)
            if not all(isinstance(n, int) and 0 < n < 1 << 16 for n in inputs["shape"]):
                raise ValueError("its shape is no shape")
        return inputs

    def steps(self) -> list[Step]:
        """Finished steps, stage 1 first, then the stage-2 variants by name."""
        found = [Step(self, p.parent.name) for p in sorted(self.path.glob("stage*/result.json"))]
        return [s for s in found if s.done]

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
        self.over = f"start {name} over with `--again`"

    @property
    def done(self) -> bool:
        return (self.path / "result.json").exists()

    @property
    def result(self) -> dict[str, Any]:
        """What result.json says. Raises ``h2t.Error`` where the step is not finished."""
        path = self.path / "result.json"
        if not path.exists():
            what = "is not finished: it has no result.json; run it first"
            raise Error(f"{self.name} of run {self.run.path} {what}")
        result = renamed(read_json(path, self.over))
        with reading(path, self.over):
            _fits(result, RESULT)
        return result

    @property
    def params(self) -> dict[str, Any]:
        path = self.path / "params.yaml"
        return read_yaml(path, self.over) if path.exists() else {}

    def begin(
        self, params: dict[str, Any], again: bool = False, defaults: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """Open the step for work, or return its result where it is already done.

        Call under ``run.lock()``. A step that was refused or interrupted before its first
        checkpoint may be begun with other parameters.

        Arguments: ``params`` what it is made from, weights and files by their hash; ``defaults``
        of the parameters: one that the step was begun without, by an earlier version, had that.
        Raises: ``h2t.Error`` where it was begun with other parameters, naming them.
        """
        if again:
            self.clear()
        before = self.params if self.done or (self.path / "checkpoint.pt").exists() else {}
        if before:
            before = {**(defaults or {}), **before}
            differ = [k for k in params if k in before and before[k] != params[k]]
            differ += [k for k in params if k not in before]
            if self.done and self.result.get("imported"):
                differ = [k for k in differ if k in ("model", "head", "split")]
            if differ:
                k = differ[0]
                raise Error(
                    f"{self.name} of run {self.run.path} was begun with {k} = {before.get(k)!r}, "
                    f"not {params[k]!r}; choose another run, or start this step over with "
                    f"again=True (`--again`)"
                )
        if self.path.is_dir():
            clean(self.path)
        if self.done:
            (self.path / "checkpoint.pt").unlink(missing_ok=True)  # killed before finish could
            return self.result
        self.path.mkdir(parents=True, exist_ok=True)
        if not before:
            write_yaml(self.path / "params.yaml", params)
        return None

    def clear(self) -> None:
        """Remove the step's files; the mark that it is done goes first."""
        remove(self.path, FILES)

    def save_checkpoint(self, state: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Save a resumable state, then the rows of metrics.jsonl that belong to it."""
        import torch

        write_atomic(
            self.path / "checkpoint.pt", lambda f: torch.save({**state, "history": history}, f)
        )
        self.write_history(history)

    def write_history(self, history: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in history)
        write_atomic(self.path / "metrics.jsonl", lines.encode())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, opened weights-only, or None. Raises ``h2t.Error`` if damaged."""
        path = self.path / "checkpoint.pt"
        return read_pickled(path, self.over) if path.exists() else None

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one per epoch so far, also of a step still running."""
        path = self.path / "metrics.jsonl"
        return [renamed(row) for row in read_lines(path, self.over)] if path.exists() else []

    def finish(self, weights: dict, outputs: dict, result: dict[str, Any]) -> dict[str, Any]:
        """Write weights and test outputs, and result.json last, and drop the checkpoint."""
        from safetensors.torch import save

        weights = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
        blob = save(weights)
        write_atomic(self.path / "weights.safetensors", blob)
        write_atomic(
            self.path / "outputs.safetensors", save({k: v.contiguous() for k, v in outputs.items()})
        )
        made_from = self.params.get("stage1_weights")
        result = {
            "step": self.name,
            **result,
            **_size(weights),
            "weights_sha256": hashlib.sha256(blob).hexdigest(),
            **({"stage1_weights": made_from} if made_from else {}),
            "environment": environment(result.get("device")),
        }
        write_json(self.path / "result.json", result)
        (self.path / "checkpoint.pt").unlink(missing_ok=True)
        return result

    def weights(self) -> dict:
        """The trained tensors, by name, held against the hash in result.json.

        Raises: ``h2t.Error`` where the file is missing, damaged, another one, or holds NaN.
        """
        path = self.path / "weights.safetensors"
        if not path.exists():
            raise Error(f"{self.name} of run {self.run.path} has no weights yet; run it first")
        recorded = self.result.get("weights_sha256") if self.done else None
        return read_tensors(path, self.over, sha256=recorded)

    def outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The test set's ``logits`` (N, C) float32 and ``labels`` (N,) int64 as NumPy arrays."""
        path = self.path / "outputs.safetensors"
        way = f"evaluate it with `h2t evaluate {self.run.path}`"
        if not path.exists():
            raise Error(f"{self.name} of run {self.run.path} has no test outputs; {way}")
        both = read_tensors(path, self.over, numpy=True)
        with reading(path, self.over):
            if not both:  # of a checkpoint that was imported and not evaluated
                raise Error(f"{self.name} of run {self.run.path} has no test outputs; {way}")
            logits, labels = both["logits"], both["labels"]
            if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype.kind != "i":
                raise ValueError(f"its shapes are {logits.shape} and {labels.shape}")
            if len(labels) and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
                raise ValueError(f"a label of it is not among the {logits.shape[1]} classes")
        return logits, labels


# What every result.json says, as far as it says it: a name and what kind of value it has.
RESULT: dict[str, Any] = {
    "model": str,
    "head": str,
    "num_classes": int,
    "in_channels": int,
    "weights_sha256": str,
    "params": dict,
    "last": dict,
    "val": dict,
    "best": dict,
    "per_class": list,
    "counts": list,
    "groups": str,
    "imported": dict,
    "environment": dict,
    "seconds": (int, float),
    "epochs": int,
}


def _fits(record: dict[str, Any], kinds: dict[str, Any], needed: bool = False) -> None:
    """Raise ``ValueError`` where a value is of another kind, or ``needed`` and missing."""
    for name, kind in kinds.items():
        if name not in record and not needed:
            continue
        value = record[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"its {name} is {str(value)[:40]!r}")
        numbers = value if name in ("per_class", "counts", "mean", "std", "shape") else ()
        numbers = value.values() if name in ("last", "val", "best") else numbers
        if not all(n is None or isinstance(n, int | float) for n in numbers):
            raise ValueError(f"its {name} holds what is no number")
        if kind is int and not 0 <= value < 1 << 31:
            raise ValueError(f"its {name} is {str(value)[:40]}")


def _size(weights: dict) -> dict[str, int]:
    """The number of trained values, buffers not counted, and of features of the classifier."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    size = {"parameters": sum(t.numel() for k, t in weights.items() if not k.endswith(buffers))}
    head = weights.get("head.weight")
    return size if head is None else {**size, "width": head.shape[-1]}


def renamed(record: dict[str, Any]) -> dict[str, Any]:
    """A recorded result under today's names: before 0.2 the measure ``all`` was called top1."""
    old = {"top1": "all"}
    return {
        old.get(k, k): renamed(v) if k in ("last", "best", "val") and isinstance(v, dict) else v
        for k, v in record.items()
    }


def _before_marks(folder: Path) -> bool:
    """Whether a folder is a run of a version that wrote no marks: one of what it wrote says so."""
    said = {
        "split.json": {"hash", "split_seed", "counts"},
        "stage1/result.json": {"weights_sha256", "environment"},
        "job.json": {"kind", "parameters"},
    }
    for name, keys in said.items():
        with contextlib.suppress(Error):
            if keys <= read_json(folder / name).keys():
                return not (folder / MARK).exists()
    return False
