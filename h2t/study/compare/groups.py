"""Rows of the table of runs in groups that may be averaged, and what is to be said of that."""

import dataclasses

import pandas as pd

from h2t.base.errors import Error
from h2t.metrics import MEASURES, label
from h2t.recipes import names
from h2t.recipes.parameters import SHARED, Data, Stage1, Stage2
from h2t.study.compare import units
from h2t.study.compare.table import exact_stage2s

SEEDS = ("split_seed", "val_seed", "stage1_seed", "seed")  # what is averaged over
_WITHOUT_EFFECT = {"root", "eval_every", "precision", "split_seed", "val_seed", "seed"}


def _names(*steps) -> list[str]:
    fields = [f.name for step in steps for f in dataclasses.fields(step)]
    return [n for n in dict.fromkeys(fields) if n not in _WITHOUT_EFFECT]


SETTING = _names(Data)
METHOD = _names(Stage1, Stage2)
METHOD += [f"stage1_{k}" for k in SHARED if k not in _WITHOUT_EFFECT]
# what makes an average, or a comparison, one of unlike things
UNLIKE = {
    "split": "training splits",
    "pixels_sha256": "sets of images",
    "revision": "code revisions",
    "width": "widths",
    "parameters": "sizes of the model",
    "num_classes": "numbers of classes",
    "precision_used": "precisions",
    "device_name": "devices",
    "torch": "versions of torch",
}
_WRITTEN = {"fusion_ratio": "p =", "imbalance_factor": "IF"}  # in the name of a group
CONTROL = ("DR, BN sees both", "DR")  # what fusion is held against, the better first


def grouped(table):
    """Rows of ``h2t.table`` with three more columns: ``group``, what is compared; ``setting``,
    within which it is; ``unit``, what counts as one observation (``h2t.study.compare.units``).

    A group is a method, a setting a data set, each with every parameter that varies within it,
    seeds apart, so that nothing unlike is averaged but what ``mixed`` names. Returns: rows sorted
    by setting and group, one for equal weights.
    """
    settings = [c for c in SETTING if c in table and table[c].nunique(dropna=False) > 1]
    used = {m: _varying(rows) for m, rows in table.groupby("method")}
    keys = sorted({c for own in used.values() for c in own}, key=METHOD.index)
    seeds = [c for c in SEEDS if c in table]
    order = [*settings, "_rank", *keys, *seeds, "run", "step"]
    table = table.assign(_rank=ranked(table["method"])).sort_values(order, kind="stable")
    rows = table[["method", *keys, *settings]].to_dict("records")
    table = table.drop(columns="_rank").assign(
        group=[named(row, ["method", *used[row["method"]]]) for row in rows],
        setting=[named(row, settings) for row in rows],
        unit=units.of(table),
    )
    same = ["setting", "group", "weights_sha256", "split"]
    return table.drop_duplicates(same, ignore_index=True)


def ranked(methods) -> pd.Series:
    """The place of each method among all of a column, in the order of names."""
    rank = {m: k for k, m in enumerate(sorted(set(methods), key=names.order))}
    return methods.map(rank)


def _varying(rows) -> list[str]:
    """The parameters that tell rows of one method apart."""
    varying = [c for c in METHOD if c in rows and rows[c].nunique() > 1]
    if (rows["stage"] == 1).all():  # whose own parameters are those of its stage 1
        varying = [c for c in varying if c.removeprefix("stage1_") not in SHARED or c in SHARED]
    return varying


def named(row, columns) -> str:
    """What a row has in these columns: ``DR + H2T, p = 0.3, stage1_lr 0.1``."""
    return ", ".join(_written(c, row[c]) for c in columns)


def _written(name: str, value) -> str:
    if name == "method":
        return value
    return f"{_WRITTEN.get(name, name)} {text(value) or 'not set'}"


def text(value) -> str:
    """A value as names and tables show it; empty where there is none."""
    if value is None or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def baseline(groups, wanted: str = "") -> str:
    """The group others are held against: the one wanted, else the control, DR, or the first."""
    groups = list(groups)
    return next((g for g in (wanted, *CONTROL) if g in groups), groups[0])


def narrow(rows, measure: str, keep: str = "", most: int = 12):
    """The rows of ``most`` groups, as many as a figure can tell apart: ``keep`` and the best.

    To pick the best first flatters them; who does so has to say it.
    """
    if measure not in MEASURES:
        raise Error(f"measure is {measure!r}; choose one of {', '.join(MEASURES)}")
    means = rows.groupby("group")[measure].mean().sort_values(ascending=measure == "ece")
    chosen = sorted(means.index, key=lambda g: g != keep)[:most]  # stable: the best stay first
    return rows[rows["group"].isin(chosen)].reset_index(drop=True)


def mixed(rows) -> list[str]:
    """What unlike runs the groups of ``grouped`` average, a sentence each: splits, devices, ..."""
    found = {}
    for (setting, group), part in rows.groupby(["setting", "group"], sort=False):
        for column in (*UNLIKE, *SETTING, *METHOD):
            if column not in part or part[column].nunique(dropna=False) < 2:
                continue
            values = part[column].astype(object).where(part[column].notna(), "unknown").map(brief)
            listed = [f"{v} ({n})" for v, n in values.value_counts().items()]
            what = f"{len(listed)} {UNLIKE.get(column, f'values of {column}')}"
            said = f"averaged over {what}: {_list(listed, ', ', 4)}."
            found.setdefault(said, []).append(f"{group} ({setting})" if setting else group)
    return [f"{_list(of, '; ')}: {said}" for said, of in found.items()]


def brief(value) -> str:
    """A hash or a revision by its first letters."""
    whole = text(value)
    head, plus, rest = whole.partition("+")
    return head[:8] + plus + rest if len(head) in (40, 64) else whole


def _list(texts: list[str], between: str, most: int = 3) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more


def summary(rows, measures=MEASURES):
    """``spreads`` of each group in ``rows`` of ``grouped``."""
    return spreads(rows, ["setting", "group"], measures)


def averages(summary) -> pd.DataFrame:
    """Mean ± deviation of each setting and group as texts, a column a measure, and of how many
    stage 1s and networks that is.
    """
    lines = []
    for (setting, group), of in summary.groupby(["setting", "group"], sort=False):
        line = {"setting": setting, "group": group}
        line |= {"stage 1s": str(of["n"].max()), "networks": str(of["repeats"].max())}
        line |= {label(row["measure"]): units.shown(row) or "–" for row in of.to_dict("records")}
        lines.append(line)
    return pd.DataFrame(lines).set_index(["setting", "group"])


def listed(averages) -> pd.DataFrame:
    """The same with its index as columns, without the setting where there is one alone."""
    table = averages.reset_index()
    return table if table["setting"].nunique() > 1 else table.drop(columns="setting")


def spreads(rows, keys: list[str], measures):
    """Mean, standard deviations and interval over units, of each part that ``keys`` tell apart.

    Returns: a DataFrame with the columns ``keys``, measure and those of ``units.Spread``.
    """
    found = [
        {**dict(zip(keys, names, strict=True)), "measure": measure}
        | units.spread(part[measure], part["unit"])._asdict()
        for names, part in rows.groupby(keys, sort=False)
        for measure in measures
    ]
    return pd.DataFrame(found)


def ratio_table(rows):
    """Rows of ``grouped`` on ratio curves: swap with BN statistics of both streams, and p = 0.

    A curve needs two ratios. Of several kinds of methods (RIDE and DR, say) each has its own, and
    ``setting`` names it.
    """
    chosen = exact_stage2s(rows)
    if chosen.empty:
        return chosen
    swapped = (chosen["fusion_ratio"] == 0) | (chosen["fusion"] == "swap")
    chosen = chosen[swapped & (chosen["bn_statistics"] == "both")]
    kinds = chosen["method"].map(lambda m: names.place(m)[0])
    if kinds.nunique() > 1:
        before = chosen["setting"].where(chosen["setting"] == "", chosen["setting"] + ", ")
        chosen = chosen.assign(setting=before + kinds)
    same = ["setting", "weights_sha256", "split"]
    chosen = chosen.assign(ratio=chosen["fusion_ratio"]).drop_duplicates(same)
    return chosen[chosen.groupby("setting")["ratio"].transform("nunique") > 1]
