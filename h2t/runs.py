"""Run directories: the only thing that passes from one step to the next.

    runs/<name>/  params.yaml  split.json + indices.npy  environment.json
                  stage1/  stage2-<variant>/   params.yaml metrics.jsonl checkpoint.pt weights.safetensors
                                               outputs.safetensors result.json
                  notebooks/                   the executed copies

Every file is written under a temporary name, flushed and renamed. result.json is written last and means "done".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from h2t import __version__
from h2t.base.errors import Error
from h2t.base.files import clean, write_atomic


def resolve(path: str | Path) -> Path:
    """Make a path absolute; a relative one starts at the project, also in a kernel started inside ``notebooks/``."""
    base = Path.cwd()
    if base.name == "notebooks" and (base.parent / "h2t").is_dir():
        base = base.parent
    return (base / Path(path).expanduser()).resolve()


def check_variant(name: str) -> None:
    """Refuse a name of a stage-2 variant that could not be a folder's. Raises ``h2t.Error``."""
    if not name or name[0] in ".-" or not all(c.isalnum() or c in "-_." for c in name):
        raise Error(
            f"variant is {name!r}; it names a folder: use letters, digits, '-', '_' and '.'"
        )


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_yaml(path: Path, value: Any) -> None:
    write_atomic(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode())


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a flat mapping of parameters. Raises ``h2t.Error`` with the file's name where it is not one."""
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Error(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise Error(f"{path} is not a readable YAML file: {' '.join(str(e).split())}") from None
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise Error(f"{path} must hold parameters as `name: value` lines")
    return value


class Run:
    """A run directory, created on first use.

    Arguments: ``path`` the directory; a relative one starts at the project root. Raises: ``h2t.Error`` where the path
    is a file or cannot be made.
    """

    def __init__(self, path: str | Path | Run, create: bool = True):
        self.path = path.path if isinstance(path, Run) else resolve(path)
        if self.path.exists() and not self.path.is_dir():
            raise Error(f"run {self.path} is a file; name a directory")
        if not create and not self.path.is_dir():
            raise Error(
                f"there is no run directory {self.path}; make it with `h2t run RECIPE -p run {path}`"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise Error(f"cannot make the run directory {self.path}: {e.strerror}") from None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @contextlib.contextmanager
    def lock(self, name: str = "") -> Iterator[None]:
        """Hold the run for writing. Raises ``h2t.Error`` at once where another process holds it."""
        import filelock

        lock = filelock.FileLock(self.path / f".lock{name and '-' + name}")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise Error(
                f"run {self.path} is in use by another process; wait for it or choose another run"
            ) from None
        except OSError as e:
            raise Error(f"cannot lock run {self.path}: {e.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def params(self) -> dict[str, Any]:
        path = self.path / "params.yaml"
        return read_yaml(path) if path.exists() else {}

    def steps(self) -> list[Step]:
        """Finished steps, stage 1 first, then the stage-2 variants by name."""
        found = [Step(self, p.parent.name) for p in sorted(self.path.glob("stage*/result.json"))]
        return [s for s in found if s.done]

    def step(self, name: str) -> Step:
        return Step(self, name)

    def results(self) -> dict[str, dict[str, Any]]:
        return {s.name: s.result for s in self.steps()}


class Step:
    """One step of a run: its files, its checkpoint and whether it is done."""

    def __init__(self, run: Run, name: str):
        self.run, self.name, self.path = run, name, run.path / name

    @property
    def done(self) -> bool:
        return (self.path / "result.json").exists()

    @property
    def result(self) -> dict[str, Any]:
        path = self.path / "result.json"
        try:
            return renamed(json.loads(path.read_text()))
        except FileNotFoundError:
            raise Error(
                f"{self.name} of run {self.run.path} is not finished: it has no result.json; run it first"
            ) from None
        except ValueError:
            raise Error(f"{path} is damaged; delete {self.path} and run the step again") from None

    @property
    def params(self) -> dict[str, Any]:
        path = self.path / "params.yaml"
        return read_yaml(path) if path.exists() else {}

    def begin(
        self, params: dict[str, Any], again: bool = False, defaults: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """Open the step for work, or return its result where it is already done. Call under ``run.lock()``.

        A step that was refused or interrupted before its first checkpoint may be begun with other parameters.

        Arguments: ``defaults`` of the parameters: one that the step was begun without, by an earlier version, had that.
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
                    f"{self.name} of run {self.run.path} was begun with {k} = {before.get(k)!r}, not {params[k]!r}; "
                    f"choose another run, or start this step over with again=True (`--again`)"
                )
        if self.done:
            return self.result
        self.path.mkdir(parents=True, exist_ok=True)
        clean(self.path)
        if not before:
            write_yaml(self.path / "params.yaml", params)
        return None

    def clear(self) -> None:
        """Remove the step's files; the mark that it is done goes first."""
        (self.path / "result.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

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
        """The last checkpoint, opened weights-only, or None. Raises ``h2t.Error`` where the file is damaged."""
        import torch

        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            raise Error(f"{path} is damaged; delete it to start {self.name} over") from None

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one per epoch so far, also of a step that is still running."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        return [renamed(json.loads(line)) for line in path.read_text().splitlines()]

    def finish(self, weights: dict, outputs: dict, result: dict[str, Any]) -> dict[str, Any]:
        """Write weights and test outputs, and result.json last, and drop the checkpoint."""
        from safetensors.torch import save

        weights = {k: v.detach().cpu().contiguous() for k, v in weights.items()}
        blob = save(weights)
        write_atomic(self.path / "weights.safetensors", blob)
        write_atomic(
            self.path / "outputs.safetensors", save({k: v.contiguous() for k, v in outputs.items()})
        )
        result = {
            "step": self.name,
            **result,
            "weights_sha256": hashlib.sha256(blob).hexdigest(),
            "environment": environment(result.get("device")),
        }
        write_json(self.path / "result.json", result)
        (self.path / "checkpoint.pt").unlink(missing_ok=True)
        return result

    def weights(self) -> dict:
        """The trained tensors, by name. Raises ``h2t.Error`` where the file is missing or damaged."""
        from safetensors.torch import load_file

        path = self.path / "weights.safetensors"
        if not path.exists():
            raise Error(f"{self.name} of run {self.run.path} has no weights yet; run it first")
        try:
            return load_file(path)
        except Exception:
            raise Error(f"{path} is damaged; start {self.name} over with `--again`") from None

    def outputs(self):
        """The test set's ``logits`` (N, C) float32 and ``labels`` (N,) int64 as NumPy arrays."""
        from safetensors.numpy import load_file

        path = self.path / "outputs.safetensors"
        if not path.exists():
            raise Error(
                f"{self.name} of run {self.run.path} has no test outputs; evaluate it with `h2t evaluate {self.run.path}`"
            )
        both = load_file(path)
        return both["logits"], both["labels"]


def renamed(record: dict[str, Any]) -> dict[str, Any]:
    """A recorded result under today's names: before 0.2 the measure ``all`` was called top1."""
    old = {"top1": "all"}
    return {
        old.get(k, k): renamed(v) if k in ("last", "best", "val") and isinstance(v, dict) else v
        for k, v in record.items()
    }


def table(root: str | Path, **how):
    """Every finished step of every run under a folder as one DataFrame, saved as Parquet and CSV; see ``h2t.study.compare.table.table``."""
    from h2t.study.compare.table import table

    return table(root, **how)


def environment(device: str | None = None) -> dict[str, Any]:
    """Versions, device and code revision, as recorded with every result."""
    record: dict[str, Any] = {
        "h2t": __version__,
        "revision": revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {
            p: _version(p) for p in ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")
        },
        "cpu": _cpu_name(),
        "cores": cores(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        record["threads"] = torch.get_num_threads()
        record["device"] = (
            torch.cuda.get_device_name() if device and device.startswith("cuda") else "cpu"
        )
    return record


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def revision() -> str | None:
    """The git revision of the code, with "+changes" where the package differs from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, timeout=10
        ).stdout
        return head + ("+changes" if dirty.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
