"""Every finished step under a folder of runs as one table: parameters, measures, cost, environment, hashes.

A sweep leaves many runs that share a stage 1 or a control: the others hold a copy of that step. A copy is one
observation, not several, so it has one row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.metrics import MEASURES
from h2t.recipes import names as naming
from h2t.recipes.parameters import _Training
from h2t.runs import renamed

SHARED = tuple(f.name for f in dataclasses.fields(_Training))  # parameters that both stages have
METHODS = {
    "crt": "DR",
    "lws": "LWS",
    "tau": "tau-norm",
    "mislas": "MiSLAS",
    "gcl": "GCL",
}  # of stage 2, as the field names them
_STAGE1_WEIGHTS = re.compile(r"^stage1_weights: *['\"]?(\w+)", re.M)
# a value that ends on its line, or the two lists that every run has
_LINE = re.compile(r"""[A-Za-z_]\w*: ([^\s|>&*!{'"].*|'[^']*'|"[^"\\]*")|(mean|std):|- [-+.\w]+""")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def table(root: str | Path, *, save: bool = True, copies: bool = False):
    """One row per finished step of every run under a folder, at any depth.

    Columns: run (path under ``root``), step, stage (1 or 2), method (named by what was done, see ``method_of``); the
    run's parameters and the step's; for both stages what stage 1 had for a parameter that both have, as
    ``stage1_<name>``; accuracies and ECE of the last epoch in %, the same on a validation part, where a run has one, as
    ``val_<name>``, and val_seen, whether an imported stage 1 may have been trained on it; best_all and best_epoch (chosen on the test set);
    seconds, stage1_seconds and their sum total_seconds; device, precision_used, parameters (number of them) and width
    (features); revision and environment; split (its hash), pixels_sha256, weights_sha256, stage1_weights; cached, and
    adopted_from of a copied step.

    Arguments: ``root`` a folder of runs, or one run; ``save`` writes table.parquet and table.csv there; ``copies``
    keeps the rows of copied steps too, marked in a column ``copy``.
    Returns: a pandas DataFrame, sorted by run and step; ``attrs["skipped"]`` names what is unfinished or damaged.
    Raises: ``h2t.Error`` where the folder is not there or holds no finished step.
    """
    import pandas as pd

    root = resolve(root)
    if not root.is_dir():
        raise Error(f"there is no folder of runs {root}")
    reader, rows, skipped = _Reader(), [], []
    with _no_collection():
        for folder, children in sorted(find(root)):
            rows += reader.run(str(root), folder, children, skipped)
    if not rows:
        why = f": {skipped[0]}" if skipped else "; train a run with `h2t run RECIPE`"
        raise Error(f"{root} holds no finished step of a run{why}")
    params = pd.Series([row.pop("_params") for row in rows])
    whole = _typed(pd.DataFrame(rows))
    same = ["stage", "weights_sha256", "stage1_weights", "split"]
    whole["_key"] = params.where(whole.duplicated(same, keep=False), None).map(
        lambda p: json.dumps(p, sort_keys=True), na_action="ignore"
    )
    # of equal steps the one that was trained comes first, so that it is the copies that are marked
    order = (
        whole.assign(_own=whole["adopted_from"].notna())
        .sort_values(["_own", "run", "step"], kind="stable")
        .index
    )
    whole["copy"] = whole.loc[order].duplicated([*same, "_key"]).reindex(whole.index)
    whole = whole.drop(columns="_key")
    unique = whole if copies else whole[~whole["copy"]].drop(columns="copy").reset_index(drop=True)
    unique.attrs["skipped"] = skipped
    if save:
        write(whole[~whole["copy"]].drop(columns="copy"), root)
    return unique


def write(rows, folder: Path) -> None:
    """Save a table as ``table.parquet`` and ``table.csv``. Raises ``h2t.Error`` where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import csv, parquet
    except ImportError:
        raise Error(
            "pyarrow is not installed, so the table cannot be saved; `pip install pyarrow`, or table(root, save=False)"
        ) from None
    arrow = pyarrow.Table.from_pandas(rows, preserve_index=False)
    write_atomic(folder / "table.parquet", lambda f: parquet.write_table(arrow, f))
    write_atomic(
        folder / "table.csv", lambda f: csv.write_csv(arrow, f)
    )  # ten times as fast as pandas


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection, which would go through the rows again and again, a fifth of the time; they hold no cycles."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def find(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Run directories under a folder, at any depth, and the names of what is in them: one that holds a split or a step.

    Links to folders are followed, each folder is entered once, and nothing is looked for inside a run.
    """
    todo, seen = [str(root)], set()
    while todo:
        path = todo.pop()
        with os.scandir(path) as entries:
            inside = [(e.name, e.path) for e in entries if e.is_dir() or e.name == "split.json"]
        names = [name for name, _ in inside]
        steps = [name for name in names if name == "stage1" or name.startswith("stage2-")]
        # the params.yaml tells a step from a folder of event files, which has its name
        if "split.json" in names or any(
            os.path.exists(f"{path}/{name}/params.yaml") for name in steps
        ):
            yield path, names
            continue
        for name, child in inside:
            status = os.stat(child)
            if not name.startswith(".") and (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                todo.append(child)


def step_order(method: str) -> tuple:
    """A key that sorts methods as figures do: stage 1 first, H2T after what it is compared with; what has another stage 1, or another
    stage 2, comes after that, each kind by itself."""
    from h2t.plots import STEPS, place

    known = list(STEPS.values())
    return (known.index(method),) if method in known else (len(known), *place(method))


def check_measure(name: str) -> None:
    """Refuse a measure that the table does not have. Raises ``h2t.Error``."""
    if name not in MEASURES:
        raise Error(f"measure is {name!r}; choose one of {', '.join(MEASURES)}")


def method_of(stage: int, params: dict[str, Any], cached: bool = False) -> str:
    """What a step does, by the names that figures use: from its parameters, as a sweep may call its variants anything. The table
    puts the name of its stage 1 to it (``h2t.recipes.names``)."""
    from h2t.plots import STEPS

    if stage == 1:
        return STEPS["stage1"]
    dr, kind = STEPS["stage2-dr"], params.get("stage2_method", "crt")
    own = METHODS.get(kind, kind)
    name = dr
    if params.get("fusion_ratio"):
        fusion = params.get("fusion", "swap")
        name = STEPS["stage2-h2t"] if fusion == "swap" else f"{dr} + {fusion}"
        if params.get("bn_statistics") == "balanced":
            name = STEPS["stage2-h2t-balanced"].replace(STEPS["stage2-h2t"], name)
    elif params.get("bn_statistics") == "both":
        name = STEPS["stage2-dr-both"]
    name = name.replace(dr, own, 1)
    return name + (" (cached)" if cached else "")


class _Reader:
    """Reads runs into rows; what many runs share (parameters of the data, shapes of a model) is parsed once."""

    def __init__(self):
        self.parsed, self.shapes = {}, {}

    def run(
        self, root: str, folder: str, children: list[str], skipped: list[str]
    ) -> list[dict[str, Any]]:
        """The rows of one run's finished steps; what is not finished or damaged is named in ``skipped``."""
        name = folder[len(root) :].replace(os.sep, "/").strip("/") or "."
        steps = sorted(c for c in children if c == "stage1" or c.startswith("stage2-"))
        if not steps:
            skipped.append(f"{name}: no step has been begun")
            return []
        try:
            data = self._parameters(_read(folder + "/params.yaml") or b"")
            split = json.loads(_read(folder + "/split.json") or b"{}")
            common = {
                "run": name,
                **{k: v for k, v in data.items() if k not in ("mean", "std")},
                "split": split.get("hash"),
            }
            common["imbalance_factor"] = split.get("imbalance_factor", data.get("imbalance_factor"))
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as e:
            skipped.append(
                f"{name}: params.yaml or split.json is damaged ({' '.join(str(e).split())[:80]})"
            )
            return []
        first, rows = None, []
        for step in steps:
            try:
                text = _read(f"{folder}/{step}/result.json")
                result = None if text is None else renamed(json.loads(text))
                if result is None:
                    skipped.append(f"{name}: {step} is not finished")
                elif "last" not in result:
                    skipped.append(f"{name}: {step} has no measures yet; `h2t evaluate` it")
                else:
                    row = self._row(folder, step, result, first)
                    first = row if step == "stage1" else first
                    rows.append({**common, **row})
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
                skipped.append(
                    f"{name}: {step} is damaged ({type(e).__name__}: {' '.join(str(e).split())[:80]})"
                )
        return rows

    def _parameters(self, text: bytes) -> dict[str, Any]:
        """A flat YAML mapping. Lines that other files have too are parsed once; whatever is not `name: value` lines, as a whole."""
        found = {}
        for line in text.decode().splitlines():
            if line not in self.parsed:
                if not _LINE.fullmatch(line):
                    return yaml.load(text, _LOADER)
                self.parsed[line] = {} if line.startswith("-") else yaml.load(line, _LOADER)
            found.update(self.parsed[line])
        return found

    def _row(
        self, folder: str, step: str, result: dict[str, Any], first: dict[str, Any] | None
    ) -> dict[str, Any]:
        stage, last, best = 1 if step == "stage1" else 2, result["last"], result.get("best") or {}
        params = {
            k: v if not isinstance(v, list) else json.dumps(v)
            for k, v in result.get("params", {}).items()
        }
        env, cached = result.get("environment", {}), bool(result.get("cached"))
        base = params if stage == 1 else (first or {}).get("_params", {})
        row = {
            "step": step,
            "stage": stage,
            "method": naming.whole(method_of(stage, params, cached), stage, base),
        }
        if stage == 1:
            row |= params
        else:
            row |= {**{k: (first or {}).get(k) for k in (first or {}).get("_params", ())}, **params}
        row |= {f"stage1_{k}": (row if stage == 1 else first or {}).get(k) for k in SHARED}
        row |= {m: last.get(m) for m in MEASURES}
        row |= (
            {f"val_{m}": result["val"].get(m) for m in MEASURES} | {"val_seen": "val_is" in result}
            if "val" in result
            else {}
        )
        row |= {
            "best_all": best.get("all"),
            "best_epoch": best.get("epoch"),
            "epochs": result.get("epochs"),
        }
        seconds = result.get("seconds")
        base = 0.0 if stage == 1 else (first or {}).get("seconds")
        row |= {"seconds": seconds, "stage1_seconds": base if stage == 2 else seconds}
        row["total_seconds"] = None if seconds is None or base is None else seconds + base
        row |= {
            "model": result.get("model"),
            "head": result.get("head"),
            "num_classes": result.get("num_classes"),
        }
        row["parameters"], row["width"] = self._shape(
            f"{folder}/{step}/weights.safetensors", row["model"], row["head"]
        )
        row |= {
            "device": result.get("device"),
            "device_name": env.get("device"),
            "precision_used": result.get("precision"),
        }
        row |= {
            k: env.get(k) for k in ("revision", "h2t", "python", "cpu", "cores", "threads", "time")
        }
        row["torch"] = env.get("packages", {}).get("torch")
        row["weights_sha256"] = result["weights_sha256"]
        found = (
            _STAGE1_WEIGHTS.search((_read(f"{folder}/{step}/params.yaml") or b"").decode())
            if stage == 2
            else None
        )
        row["stage1_weights"] = row["weights_sha256"] if stage == 1 else found and found.group(1)
        row |= {"cached": cached, "adopted_from": result.get("adopted_from"), "_params": params}
        return row

    def _shape(self, path: str, model, head) -> tuple[int | None, int | None]:
        """Number of parameters and of features, from the header of the weights; files of one size share them."""
        try:
            key = (model, head, os.stat(path).st_size)
            if key not in self.shapes:
                with open(path, "rb") as f:
                    header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
                shapes = {k: v["shape"] for k, v in header.items() if k != "__metadata__"}
                trained = [
                    _product(s)
                    for k, s in shapes.items()
                    if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))
                ]
                self.shapes[key] = sum(trained), shapes.get("head.weight", [None])[-1]
            return self.shapes[key]
        except (OSError, ValueError, KeyError, TypeError):
            return None, None


def _product(shape: list[int]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def _typed(frame):
    """Columns of one type each, as Parquet wants them: numbers where all are, else texts."""
    import pandas as pd

    for name in [n for n, kind in frame.dtypes.items() if kind == "object"]:
        values = frame[name].dropna()
        kinds = set(map(type, values))
        if kinds <= {int, float}:
            frame[name] = pd.to_numeric(frame[name])
        elif kinds == {bool}:
            frame[name] = frame[name].astype("boolean")
        else:
            frame[name] = (
                frame[name]
                .map(lambda v: v if isinstance(v, str) else json.dumps(v), na_action="ignore")
                .astype("str")
            )
    return frame
