"""Every finished step under a folder of runs as a table: parameters, measures, cost, hashes."""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.base.readers import read_json, reading
from h2t.metrics import MEASURES
from h2t.recipes import names
from h2t.recipes.parameters import SHARED, Data, Stage1, Stage2
from h2t.runs import Run

_RESULT = ["epochs", "model", "head", "num_classes", "parameters", "width", "device"]
_RESULT += ["adopted_from", "weights_sha256", "stage1_weights"]
_ENVIRONMENT = ("revision", "h2t", "python", "cpu", "cores", "threads", "time")


def table(root: str | Path, *, save: bool = True, copies: bool = False):
    """One row per finished step of every run under a folder, at any depth.

    Columns: run (path under ``root``), step, stage, method (``h2t.recipes.names``); parameters, and
    those of stage 1 that both stages have as ``stage1_<name>``; measures of the last epoch in %, on
    a validation part ``val_<name>``, and val_seen, whether an imported stage 1 may have been
    trained on it; best_all and best_epoch (chosen on the test set); parameters (how many), width
    (features); seconds, environment and hashes; cached; adopted_from of a copy.

    Arguments: ``save`` writes table.parquet and table.csv into ``root``; ``copies`` keeps copied
    steps, no second observations, marked in a column ``copy``. Returns: a DataFrame, whose
    ``attrs["skipped"]`` names what is unfinished or damaged. Raises: ``h2t.Error`` where the folder
    is not there or holds no finished step.
    """
    root = resolve(root)
    if not root.is_dir():
        raise Error(f"there is no folder of runs {root}")
    rows, skipped = [], []
    for folder, steps in sorted(find(root)):
        rows += _run(root, folder, steps, skipped)
    if not rows:
        why = f": {skipped[0]}" if skipped else "; train a run with `h2t run RECIPE`"
        raise Error(f"{root} holds no finished step of a run{why}")
    whole = _marked(rows)
    unique = whole[~whole["copy"]].drop(columns="copy").reset_index(drop=True)
    if save:
        _write(unique, root)
    found = whole if copies else unique
    found.attrs["skipped"] = skipped
    return found


def exact_stage2s(rows):
    """Those rows that are stage 2s, trained on images and not on a bank of features."""
    return rows[(rows["stage"] == 2) & ~rows["cached"]]


def _marked(rows: list[dict[str, Any]]):
    """The rows with a column ``copy``: weights, parameters and split are those of another."""
    keys = [json.dumps(row.pop("_params"), sort_keys=True) for row in rows]
    whole = _typed(pd.DataFrame(rows)).assign(_key=keys)
    # of equal steps the one that was trained comes first, so that it is the copies that are marked
    trained_first = whole.assign(_copied=whole["adopted_from"].notna())
    trained_first = trained_first.sort_values(["_copied", "run", "step"], kind="stable")
    same = ["stage", "weights_sha256", "stage1_weights", "split", "_key"]
    return whole.assign(copy=trained_first.duplicated(same)).drop(columns="_key")


def _write(rows, folder: Path) -> None:
    import pyarrow
    from pyarrow import csv, parquet  # ten times as fast as pandas' own csv

    arrow = pyarrow.Table.from_pandas(rows, preserve_index=False)
    write_atomic(folder / "table.parquet", lambda f: parquet.write_table(arrow, f))
    write_atomic(folder / "table.csv", lambda f: csv.write_csv(arrow, f))


def find(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Run directories, which hold a split or a step, at any depth, and the steps in them.

    Links to folders are followed once, and nothing is looked for inside a run.
    """
    seen = set()
    for path, folders, files in os.walk(root, followlinks=True):
        steps = sorted(f for f in folders if f == "stage1" or f.startswith("stage2-"))
        # the params.yaml tells a step from a folder of event files, which has its name
        begun = any(os.path.exists(f"{path}/{step}/params.yaml") for step in steps)
        if "split.json" in files or begun:
            yield path, steps
            folders.clear()
        places = {f: os.path.realpath(f"{path}/{f}") for f in folders if not f.startswith(".")}
        folders[:] = [f for f, place in places.items() if place not in seen]
        seen |= set(places.values())


def _run(root: Path, folder: str, steps: list[str], skipped: list[str]) -> list[dict[str, Any]]:
    """The rows of one run's finished steps; what is not finished or damaged goes to ``skipped``."""
    name, first, rows = Path(folder).relative_to(root).as_posix(), {}, []
    if not steps:
        skipped.append(f"{name}: no step has been begun")
    try:
        run = Run(folder, create=False)
        split = run.path / "split.json"
        made = read_json(split) if split.exists() else {}
        common = _cells(Data, {k: v for k, v in run.params.items() if k not in ("mean", "std")})
        factor = made.get("imbalance_factor", common.get("imbalance_factor"))
        common |= {"split": made.get("hash"), "imbalance_factor": factor}
    except Error as e:
        skipped.append(f"{name}: {e}")
        return []
    for step in map(run.step, steps):
        try:
            result = step.result
            if "last" not in result:
                raise Error(f"{step.name} has no measures yet; `h2t evaluate` it")
            with reading(step.path / "result.json", step.over):
                rows.append({"run": name, **common, **_row(step.name, result, first)})
            first = rows[-1] if step.name == "stage1" else first
        except Error as e:
            skipped.append(f"{name}: {e}")
    return rows


def _row(step: str, result: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """One step's row. Arguments: ``first`` the row of its stage 1, empty if it is not there."""
    stage = 1 if step == "stage1" else 2
    params = _cells(Stage1 if stage == 1 else Stage2, result.get("params"))
    base = params if stage == 1 else first.get("_params", {})
    environment, best = result.get("environment", {}), result.get("best") or {}
    cached, seconds = bool(result.get("cached")), result.get("seconds")
    row = {"step": step, "stage": stage, "method": names.method_of(stage, params, cached, base)}
    row |= {**{k: first.get(k) for k in base}, **params}
    row |= {f"stage1_{k}": (row if stage == 1 else first).get(k) for k in SHARED}
    row |= {m: result["last"].get(m) for m in MEASURES}
    if "val" in result:
        row |= {f"val_{m}": result["val"].get(m) for m in MEASURES}
        row["val_seen"] = "val_is" in result
    row |= {k: result.get(k) for k in _RESULT} | {k: environment.get(k) for k in _ENVIRONMENT}
    before = 0.0 if stage == 1 else first.get("seconds")
    row |= {
        "device_name": environment.get("device"),
        "precision_used": result.get("precision"),
        "best_all": best.get("all"),
        "best_epoch": best.get("epoch"),
        "seconds": seconds,
        "stage1_seconds": seconds if stage == 1 else before,
        "total_seconds": None if None in (seconds, before) else seconds + before,
        "torch": environment.get("packages", {}).get("torch"),
        "cached": cached,
        "_params": params,
    }
    if stage == 1:
        row["stage1_weights"] = row["weights_sha256"]
    return row


@functools.cache
def _defaults(kind) -> dict[str, Any]:
    return kind().to_dict()


def _cells(kind, recorded: dict[str, Any] | None) -> dict[str, Any]:
    """Parameters as cells have them, lists and the like as JSON; of an imported stage 1 there are
    none. What an earlier version did not record it did as the default says.
    """
    params = {**_defaults(kind), **recorded} if recorded else {}
    plain = str | bool | int | float | None
    return {k: v if isinstance(v, plain) else json.dumps(v, default=str) for k, v in params.items()}


def _typed(frame):
    """Columns of one type each, as Parquet wants them: numbers where all are, else texts."""
    for name in frame.columns[frame.dtypes == "object"]:
        values = frame[name]
        kinds = set(map(type, values.dropna()))
        if kinds <= {int, float}:
            frame[name] = values.astype(float)
        elif kinds == {bool}:
            frame[name] = values.astype("boolean")
        else:
            frame[name] = values.map(str, "ignore").astype("str")
    return frame
