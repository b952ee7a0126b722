"""Our runs beside the published table: means, spreads over stage 1s, and how far apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.base.tables import number
from h2t.data.longtail import class_counts
from h2t.recipes.methods import METHODS
from h2t.recipes.parameters import SHARED
from h2t.recipes.published import FREE, MODELS, NUMBERS, differences, published
from h2t.runs import Run
from h2t.study.compare import ledger, units
from h2t.study.compare.groups import named, ranked, text
from h2t.study.compare.table import table

# number of classes to name and images of the largest
SETS = {100: ("CIFAR-100-LT", 500), 10: ("CIFAR-10-LT", 5000)}
COLUMNS = ("stage1_weight_decay", "fusion_ratio", "bn_statistics")  # in columns of their own
KEYS = ["set", "imbalance_factor", "weight_decay", "method", "p", "bn", "otherwise", "published"]


def reproduce(root: str | Path):
    """Every protocol of the runs under a folder beside what was published for it: a DataFrame.

    ``otherwise`` names every parameter in which a run differs from the published protocol, and
    class counts that are not the formula's: where a number is missed, look for its cause there.
    ``n`` counts stage 1s. ``deviations`` is the distance to the published number in standard
    deviations of the difference of one published run and the mean of ours, s * sqrt(1 + 1/n), with
    s between our stage 1s, and ``p_published`` what Student's t says of it.
    Published numbers are of the best epoch on the test set, so ``best`` is held against them;
    ``last`` is our result. Runs with a validation part are left out. Saved as reproduced.md.
    """
    root = resolve(root)
    steps = table(root, save=False)
    steps = steps[steps["num_classes"].isin(SETS) & steps["model"].isin(MODELS)]
    steps = steps[(steps["profile"] == "exponential") & ~steps["cached"]]
    if "val_all" in steps:
        steps = steps[steps["val_all"].isna()]
    rows = [_row(root, step) for step in steps.assign(unit=units.of(steps)).to_dict("records")]
    rows = [row for row in rows if row]
    if not rows:
        raise Error(
            f"{root} holds no run of a published protocol, trained on all of its images; see "
            "notebooks/recipes/cifar100_sweep.yaml and cifar100_methods_sweep.yaml"
        )
    groups = pd.DataFrame(rows).groupby(KEYS, dropna=False, sort=False)
    summary = pd.DataFrame([_averaged(keys, part) for keys, part in groups])
    summary = summary.sort_values(
        ["set", "imbalance_factor", "otherwise", "weight_decay", "method", "p", "bn"],
        key=lambda c: ranked(c) if c.name == "method" else c,
        ascending=[False, False, *[True] * 5],
        ignore_index=True,
    )
    write_atomic(root / "reproduced.md", markdown(summary).encode())
    return summary


def _row(root: Path, step: dict[str, Any]) -> dict[str, Any] | None:
    """One step's row, None where it is of no data set or imbalance factor that a number is of."""
    result = Run(root / step["run"], create=False).step(step["step"]).result
    counts, factor = np.array(result["counts"]), round(step["imbalance_factor"])
    name, n_max = SETS[int(step["num_classes"])]
    known = {n.imbalance_factor for n in NUMBERS if n.classes == len(counts)}
    if counts.max() != n_max or factor not in known:
        return None
    said = _otherwise(step, factor)
    if not np.array_equal(counts, class_counts(n_max, factor, len(counts))):
        said.append("class counts")
    row = {c: step[c] for c in ("unit", *ledger.BASIS) if c in step} | {
        "set": name,
        "imbalance_factor": factor,
        "weight_decay": step.get("stage1_weight_decay"),
        "method": step["method"],
        "p": step.get("fusion_ratio"),
        "bn": step.get("bn_statistics"),
        "otherwise": ", ".join(said),
        "published": published(step),
        "last": step["all"],
        "best": step["best_all"],
        "ece": step["ece"],
    }
    accuracy = np.array(result["per_class"], float)  # None of an untested class becomes NaN
    for scheme in metrics.SCHEMES if len(counts) == 100 else ("field",):
        means = metrics.group_means(accuracy, counts, scheme)
        row |= {f"{g} ({scheme})": v for g, v in means.items()}
    return row


def _otherwise(step: dict[str, Any], factor: int) -> list[str]:
    """What a step and its stage 1 have otherwise than the published protocol nearest to them."""
    said = [f"split_seed {step['split_seed']}"] if step.get("split_seed") else []
    cifar = step["normalise"] == "auto" and str(step["source"]).startswith("cifar")
    if step["normalise"] != "cifar" and not cifar:
        said.append(f"normalise {step['normalise']}")
    if step.get("precision") in ("fp32", "bf16"):  # no part of the protocol, but worth a row
        said.append(f"precision {step['precision']}")
    found = []
    for name, method in METHODS.items():
        at = factor if factor in method.factors else method.factors[-1]
        differ = differences(step, name, at, free=(*FREE, *COLUMNS))
        found.append([_said(*what, step["stage"]) for what in differ])
    return said + min(found, key=len)


def _said(name: str, value: Any, stage: int, of: int) -> str:
    if name == "imported":
        return "stage 1 imported"
    where = " in stage 1" if stage < of and name in SHARED else ""
    return f"{name} {text(value)}{where}"


def _averaged(keys: tuple, part) -> dict[str, Any]:
    """The row of all steps that followed one protocol."""
    row = dict(zip(KEYS, keys, strict=True))
    measures = [c for c in part if c not in (*KEYS, "unit", *ledger.BASIS)]
    of = {m: units.spread(part[m].astype(float), part["unit"]) for m in measures}
    row |= {"n": of["last"].n, "repeats": of["last"].repeats}
    for m, spread in of.items():
        row |= {m: spread.mean, f"{m} std": spread.std, f"{m} within": spread.within}
    best = of["best"]
    row["difference"] = best.mean - (np.nan if row["published"] is None else row["published"])
    spread = best.std * np.sqrt(1 + 1 / best.n) if best.n else np.nan
    row["deviations"] = row["difference"] / spread if spread else np.nan
    row["p_published"] = 2 * stats.t.sf(abs(row["deviations"]), best.n - 1)
    return row | ledger.basis(part)


def sheet(summary):
    """The summary as a table of ``ledger``."""
    groups = [f"{g} ({scheme})" for scheme in metrics.SCHEMES for g in metrics.GROUPS]
    measures = {"last": "last epoch", "best": "best epoch (on test)"}
    measures |= {g: g for g in groups if g in summary} | {"ece": metrics.label("ece")}
    lines = []
    for row in summary.to_dict("records"):
        line = {"set": row["set"], "IF": str(row["imbalance_factor"])}
        line |= {"weight decay": text(row["weight_decay"]), "method": row["method"]}
        line |= {"p": text(row["p"]), "BN sees": text(row["bn"]), "stage 1s": str(row["n"])}
        for m, name in measures.items():
            of = {"mean": row[m], "std": row[f"{m} std"], "within": row[f"{m} within"]}
            line |= ledger.cells(name, of)
        line["published"] = number(row["published"])
        line["difference"] = number(row["difference"], sign=True)
        line["in deviations"] = number(row["deviations"], 1, sign=True)
        line["otherwise"] = row["otherwise"]
        lines.append(line | {c: row[c] for c in ledger.BASIS if c in row})
    return pd.DataFrame(lines)


def markdown(summary) -> str:
    """The summary as Markdown, and what is further off than chance explains."""
    said, off = ledger.markdown(sheet(summary)) + "\n", []
    for row in summary[summary["p_published"] < units.ALPHA].to_dict("records"):
        where = named(row, ["method", "imbalance_factor", "weight_decay"])
        where += f", {row['otherwise']}" if row["otherwise"] else ""
        off.append(f"{where} ({row['difference']:+.2f}, p = {row['p_published']:.2g})")
    if off:
        tried = "notebooks/recipes/suspects_sweep.yaml tries what may be behind it"
        said += f"\nFurther off than chance explains: {'; '.join(off)}. {tried}.\n"
    if (summary["n"] == 1).any():
        said += f"\n± is between stage 1s, or stage 2s of one. {units.ALONE}\n"
    return said
