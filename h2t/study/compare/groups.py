"""Rows of the table of runs, put into groups that may be averaged, and what is to be said about the averages."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.metrics import MEASURES
from h2t.recipes import names
from h2t.recipes.parameters import Data, Stage1, Stage2
from h2t.study.compare.table import SHARED

SEEDS = ("split_seed", "val_seed", "stage1_seed", "seed")  # what is averaged over
_WITHOUT_EFFECT = {"root", "eval_every", "precision", "split_seed", "val_seed", "seed"}
SETTING = tuple(f.name for f in dataclasses.fields(Data) if f.name not in _WITHOUT_EFFECT)
METHOD = tuple(
    dict.fromkeys(
        [
            f.name
            for c in (Stage1, Stage2)
            for f in dataclasses.fields(c)
            if f.name not in _WITHOUT_EFFECT
        ]
        + [f"stage1_{k}" for k in SHARED if k not in _WITHOUT_EFFECT]
    )
)
# what makes an average, or a comparison, one of unlike things
UNLIKE = {
    "split": "training splits",
    "pixels_sha256": "sets of images",
    "revision": "code revisions",
    "model": "models",
    "width": "widths",
    "parameters": "sizes of the model",
    "num_classes": "numbers of classes",
    "precision_used": "precisions",
    "device_name": "devices",
    "torch": "versions of torch",
}
_WRITTEN = {"fusion_ratio": "p", "imbalance_factor": "IF"}


def choose(table, query: str = "", methods=()):
    """The rows of a table that a query and a list of methods select.

    Arguments: ``query`` in the language of ``pandas.DataFrame.query``, over the table's columns; empty takes all.
    Raises: ``h2t.Error`` for a query that cannot be read, a method that is not there, or where nothing is left.
    """
    rows = table
    if query:
        try:
            rows = table.query(query)
        except Exception as e:  # pandas raises whatever its parser, Python or a column raises
            raise Error(
                f"choose is {query!r}, which cannot be read: {' '.join(str(e).split())}; its names are the columns of table.csv"
            ) from None
        if not hasattr(rows, "columns") or not len(rows):
            raise Error(
                f"choose = {query!r} leaves none of the {len(table)} steps; its names are the columns of table.csv"
            )
    there = list(rows["method"].unique())
    for method in methods:
        if method not in there:
            raise Error(
                f"methods names {method!r}, which is not among the chosen runs; they have {', '.join(map(repr, there))}"
            )
    return rows[rows["method"].isin(list(methods))] if len(methods) else rows


def grouped(table, by=()):
    """Rows with two more columns: ``group``, what is compared, and ``setting``, within which it is.

    Without ``by`` a group is a method with every parameter that varies within it, seeds apart, and a setting is the
    data set with every parameter that varies in it, so that nothing unlike is averaged but what ``mixed`` names.
    Arguments: ``table`` of ``h2t.table``; ``by`` columns that make up a group instead (the setting is then empty).
    Returns: a copy sorted by setting and group, with one row for what was trained twice to the same weights.
    Raises: ``h2t.Error`` for a column that is not there.
    """
    import pandas as pd

    for name in by:
        if name not in table:
            raise Error(f"by names {name!r}, which is no column of the table; see table.csv")
    table = table.assign(
        _rank=table["method"].map(
            {m: k for k, m in enumerate(sorted(table["method"].unique(), key=names.order))}
        )
    )
    settings = (
        [] if by else [c for c in SETTING if c in table and table[c].nunique(dropna=False) > 1]
    )
    used = {} if by else {m: _varying(rows) for m, rows in table.groupby("method")}
    keys = list(by) or sorted({c for names in used.values() for c in names}, key=METHOD.index)
    table = table.sort_values(
        [*settings, "_rank", "method", *keys, *(c for c in SEEDS if c in table), "run", "step"],
        kind="stable",
    )
    if by:
        group = [
            ", ".join(_text(c, row[c]) for c in by) for row in table[list(by)].to_dict("records")
        ]
    else:
        rows = table[list(dict.fromkeys(["method", *keys]))].to_dict("records")
        group = [
            ", ".join(
                [row["method"], *(_text(c, row[c]) for c in keys if c in used[row["method"]])]
            )
            for row in rows
        ]
    setting = [
        ", ".join(_text(c, row[c]) for c in settings) for row in table[settings].to_dict("records")
    ]
    table = table.assign(
        group=pd.Series(group, table.index, dtype="str"),
        setting=pd.Series(setting, table.index, dtype="str"),
    )
    table = table.drop_duplicates(["setting", "group", "weights_sha256", "split"])
    return table.drop(columns="_rank").reset_index(drop=True)


def narrow(rows, measure: str, keep: str = "", most: int = 12):
    """The groups that one figure can tell apart: ``keep`` and those with the highest mean (lowest for ECE).

    To pick the best first makes them look better than they are; who does so has to say it. Returns: the rows of at most
    ``most`` groups, all of them where there are no more.
    """
    means = rows.groupby("group")[measure].mean().sort_values(ascending=measure == "ece")
    first = [keep] if keep in means.index else []
    chosen = (first + [g for g in means.index if g != keep])[:most]
    return rows[rows["group"].isin(chosen)].reset_index(drop=True)


def _varying(rows) -> list[str]:
    """The parameters that tell rows of one method apart."""
    names = [c for c in METHOD if c in rows and rows[c].nunique() > 1]
    return [
        c
        for c in names
        if not (c.startswith("stage1_") and c[7:] in SHARED and (rows["stage"] == 1).all())
    ]


def _text(name: str, value) -> str:
    if name == "method" or value is None or value != value:
        return str(value) if name == "method" else f"{name} not set"
    value = f"{value:g}" if isinstance(value, float | np.floating) else str(value)
    return f"p = {value}" if name == "fusion_ratio" else f"{_WRITTEN.get(name, name)} {value}"


def mixed(rows) -> list[str]:
    """What unlike runs each group averages, a sentence each: splits, code revisions, widths, devices, parameters.

    Arguments: ``rows`` of ``grouped``. Returns: nothing where every group is alike but for its seeds.
    """
    found = {}
    for (setting, group), part in rows.groupby(["setting", "group"], sort=False):
        for column in dict.fromkeys((*UNLIKE, *SETTING, *METHOD)):
            if column not in part:
                continue
            values = (
                part[column]
                .astype(object)
                .where(part[column].notna(), "unknown")
                .map(_brief)
                .value_counts()
            )
            if len(values) > 1:
                listed = ", ".join(f"{v} ({n})" for v, n in list(values.items())[:4]) + (
                    ", …" if len(values) > 4 else ""
                )
                what = (
                    f"{len(values)} {UNLIKE[column]}"
                    if column in UNLIKE
                    else f"{len(values)} values of {column}"
                )
                found.setdefault((what, listed), []).append(
                    group + (f" ({setting})" if setting else "")
                )
    return [
        f"{_list(names)}: averaged over {what}: {listed}."
        for (what, listed), names in found.items()
    ]


def _brief(value) -> str:
    """A hash or a revision by its first letters."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    head, plus, rest = text.partition("+")
    return head[:8] + plus + rest if len(head) in (40, 64) else text


def _list(names: list[str], most: int = 3) -> str:
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def summary(rows, measures=MEASURES, level: float = 0.95):
    """Mean, standard deviation and confidence interval of each group, by Student's t over its runs.

    The interval is that of the mean over seeds, on these test images. Source: Student 1908.
    Arguments: ``rows`` of ``grouped``; ``measures`` columns; ``level`` of the interval. Returns: a DataFrame with
    columns setting, group, measure, n, mean, std, low, high; with one run the last three are NaN, without any the mean too.
    """
    import pandas as pd
    from scipy import stats

    found = []
    for (setting, group), part in rows.groupby(["setting", "group"], sort=False):
        for measure in measures:
            x = part[measure].dropna().to_numpy(float)
            n, std = len(x), x.std(ddof=1) if len(x) > 1 else np.nan
            half = stats.t.ppf((1 + level) / 2, n - 1) * std / np.sqrt(n) if n > 1 else np.nan
            mean = x.mean() if n else np.nan
            found.append(
                {
                    "setting": setting,
                    "group": group,
                    "measure": measure,
                    "n": n,
                    "mean": mean,
                    "std": std,
                    "low": mean - half,
                    "high": mean + half,
                }
            )
    return pd.DataFrame(found)


def histories(rows, root: str | Path):
    """The learning curves of rows of ``grouped``: the lines of their metrics.jsonl, one row an epoch.

    Arguments: ``root`` that the table was read from. Returns: a DataFrame with columns setting, group, run, step, stage,
    epoch, loss, lr, seconds and, in evaluated epochs, the measures in %. An imported step has no curve.
    """
    import pandas as pd

    root, found = str(resolve(root)), []
    for row in rows[["setting", "group", "run", "step", "stage"]].to_dict("records"):
        path = os.path.join(root, row["run"], row["step"], "metrics.jsonl")
        try:
            with open(path, encoding="utf-8") as f:
                found += [{**row, **json.loads(line)} for line in f]
        except FileNotFoundError:
            continue
        except ValueError:
            raise Error(
                f"{path} is damaged; run the step again with `--again`, or choose other runs"
            ) from None
    columns = [
        "setting",
        "group",
        "run",
        "step",
        "stage",
        "epoch",
        "loss",
        "lr",
        "seconds",
        "all",
        "ece",
    ]
    table = pd.DataFrame(found, columns=None if found else columns)
    return table


def ratio_table(rows):
    """Rows of ``grouped`` that lie on a ratio curve, swap with BN statistics of both streams, p = 0 included: the table
    that ``plots.plot_ratio_curves`` takes, with columns setting, ratio, seed and the measures.

    A curve needs at least two ratios; a setting with fewer has none. Of several kinds of methods (RIDE and DR, say) each has its
    own, and ``setting`` names it.
    """
    from h2t.plots import place

    chosen = rows[(rows["stage"] == 2) & ~rows["cached"].astype(bool)]
    if "fusion_ratio" not in chosen or chosen.empty:
        return rows.iloc[:0].assign(ratio=0.0)
    at_zero = chosen["fusion_ratio"] == 0
    chosen = chosen[(chosen["bn_statistics"] == "both") & (at_zero | (chosen["fusion"] == "swap"))]
    kinds = chosen["method"].map(lambda m: place(m)[0])
    if kinds.nunique() > 1:
        chosen = chosen.assign(
            setting=chosen["setting"].where(chosen["setting"] == "", chosen["setting"] + ", ")
            + kinds
        )
    chosen = chosen.assign(ratio=chosen["fusion_ratio"]).drop_duplicates(
        ["setting", "weights_sha256", "split"]
    )
    return chosen[chosen.groupby("setting")["ratio"].transform("nunique") > 1]


def overview(root: str | Path) -> str:
    """Mean ± standard deviation over seeds of what lies under a folder, a line for each group, as plain text, and below it what of
    that is averaged though it is unlike.

    Raises: ``h2t.Error`` where nothing there is finished.
    """
    from h2t.study.compare.table import table

    rows = grouped(table(root, save=False))
    lines = [["test accuracy, %", "runs", "many", "medium", "few", "all", "ece"]]
    for (setting, group), part in summary(rows, ("many", "medium", "few", "all", "ece")).groupby(
        ["setting", "group"], sort=False
    ):
        cells = [
            "empty" if np.isnan(m) else f"{m:.2f}" + ("" if np.isnan(s) else f" ± {s:.2f}")
            for m, s in zip(part["mean"], part["std"], strict=True)
        ]
        lines.append(
            [group + (f" ({setting})" if setting else ""), str(int(part["n"].max())), *cells]
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    shown = [
        "  ".join(
            c.ljust(w) if k == 0 else c.rjust(w)
            for k, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([*shown, *mixed(rows)])
