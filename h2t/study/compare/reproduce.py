"""Our runs beside the published table: mean and spread over seeds, and how far apart the two are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h2t import metrics
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.data.longtail import class_counts
from h2t.recipes import methods as recipes
from h2t.recipes.parameters import SHARED
from h2t.recipes.published import FREE, MODELS, NUMBERS, differences, published
from h2t.runs import Run

SETS = {
    100: ("CIFAR-100-LT", 500),
    10: ("CIFAR-10-LT", 5000),
}  # number of classes to name and images of the largest
COLUMNS = ("stage1_weight_decay", "fusion_ratio", "bn_statistics")  # in columns of their own
ORDER = ("stage 1", "DR", "DR, BN sees both", "DR + H2T, BN sees balanced", "DR + H2T")
KEYS = ["set", "imbalance_factor", "weight_decay", "method", "p", "bn", "otherwise", "published"]


def reproduce(root: str | Path):
    """Every protocol of the runs under a folder beside what was published for it, saved as reproduced.csv and reproduced.md.

    Rows are data set, imbalance factor, weight decay of stage 1, method, fusion ratio and, as ``otherwise``, every parameter in
    which a run differs from the published protocol, and class counts that are not the formula's: where a number is missed, look
    for its cause there. ``deviations`` is the distance to the published number in standard deviations of the difference of one
    published run and the mean of ours, s * sqrt(1 + 1/n), with s from our seeds: NaN for a single seed. The published numbers are
    of the best epoch on the test set, so ``best`` is what they are held against; ``last`` is our result.

    Arguments: ``root`` a folder of runs with ResNet-32, or the experts of RIDE or ResLT, on 100 classes of at most 500 images, or 10 of
    5,000; those of which a validation part was held out are left out. Returns: a DataFrame.
    Raises: ``h2t.Error`` where no run there is of a published protocol.
    """
    import pandas as pd

    from h2t.study.compare.table import table

    root = resolve(root)
    steps = table(root, save=False)
    steps = steps[
        steps["num_classes"].isin(SETS)
        & steps["model"].isin(MODELS)
        & (steps["profile"] == "exponential")
        & ~steps["cached"].astype(bool)
    ]
    if "val_all" in steps:
        steps = steps[steps["val_all"].isna()]
    rows = [_row(root, step) for step in steps.to_dict("records")]
    rows = [row for row in rows if row]
    if not rows:
        raise Error(
            f"{root} holds no run of a published protocol: CIFAR-100-LT, resnet32, 200 epochs, imbalance factor 50, 100 or 200, trained on all of its images; see notebooks/recipes/cifar100_sweep.yaml and cifar100_methods_sweep.yaml"
        )
    found = pd.DataFrame(rows)
    measures = [c for c in found if c not in KEYS]
    found[measures] = found[measures].astype(float)
    grouped = found.groupby(KEYS, dropna=False, sort=False)[measures]
    summary = grouped.agg(["mean", "std"])
    summary.columns = [m if kind == "mean" else f"{m} std" for m, kind in summary.columns]
    summary.insert(0, "n", grouped.size())
    summary = summary.reset_index()
    summary["difference"] = summary["best"] - summary["published"]
    spread = summary["best std"] * np.sqrt(1 + 1 / summary["n"])
    summary["deviations"] = (summary["difference"] / spread).where(spread > 0)
    rank = {m: k for k, m in enumerate([*ORDER, *sorted(set(summary["method"]) - set(ORDER))])}
    by = ["set", "imbalance_factor", "otherwise", "weight_decay", "method", "p", "bn"]
    summary = summary.sort_values(
        by,
        key=lambda c: c.map(rank) if c.name == "method" else c,
        ascending=[False, False, *[True] * 5],
        ignore_index=True,
    )
    write_atomic(root / "reproduced.csv", summary.to_csv(index=False).encode())
    write_atomic(root / "reproduced.md", markdown(summary).encode())
    return summary


def _row(root: Path, step: dict[str, Any]) -> dict[str, Any] | None:
    """One step's row, None where it is of no data set here, or of an imbalance factor that no number is of."""
    result = Run(root / step["run"], create=False).step(step["step"]).result
    counts, factor = np.array(result["counts"]), round(step["imbalance_factor"])
    name, n_max = SETS[int(step["num_classes"])]
    known = {n.imbalance_factor for n in NUMBERS if n.classes == len(counts)}
    if counts.max() != n_max or factor not in known:
        return None
    otherwise = _otherwise(step, factor)
    if not np.array_equal(counts, class_counts(n_max, factor, len(counts))):
        otherwise.append("class counts")
    second = step["stage"] == 2
    accuracy = np.array([np.nan if a is None else a for a in result["per_class"]])
    row = {
        "set": name,
        "imbalance_factor": factor,
        "weight_decay": step.get("stage1_weight_decay"),
        "method": step["method"],
        "p": step.get("fusion_ratio") if second else None,
        "bn": step.get("bn_statistics") if second else None,
        "otherwise": ", ".join(otherwise),
        "published": published(step),
        "last": result["last"]["all"],
        "best": (result.get("best") or {}).get("all"),
        "ece": result["last"]["ece"],
    }
    for scheme in metrics.SCHEMES if len(counts) == 100 else ("field",):
        row |= {
            f"{g} ({scheme})": v for g, v in metrics.group_means(accuracy, counts, scheme).items()
        }
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
    for name, method in recipes.METHODS.items():
        at = factor if factor in method.factors else method.factors[-1]
        differ = differences(step, name, at, free=(*FREE, *COLUMNS))
        found.append([_said(*what, step["stage"]) for what in differ])
    return said + min(found, key=len)


def _said(name: str, value: Any, stage: int, of: int) -> str:
    if name == "imported":
        return "stage 1 imported"
    text = f"{value:g}" if isinstance(value, float) else value
    where = " in stage 1" if stage < of and name in SHARED else ""
    return f"{name} {text}{where}"


def markdown(summary) -> str:
    """The summary as a Markdown table, mean ± standard deviation over seeds, and what is off by more than two of them."""

    def cell(row, name: str) -> str:
        mean, std = row.get(name, np.nan), row.get(f"{name} std", np.nan)
        return "–" if np.isnan(mean) else f"{mean:.2f}" + ("" if np.isnan(std) else f" ± {std:.2f}")

    def text(value) -> str:
        return (
            "–"
            if value is None or value != value or value == ""
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )

    groups = [f"{g} ({scheme})" for scheme in metrics.SCHEMES for g in ("many", "medium", "few")]
    head = [
        "set",
        "IF",
        "weight decay",
        "method",
        "p",
        "BN sees",
        "n",
        "last epoch",
        "best epoch (on test)",
        *groups,
        "ece",
        "published",
        "difference",
        "in deviations",
        "otherwise",
    ]
    lines, off = [], []
    for row in summary.to_dict("records"):
        known = row["published"] == row["published"] and row["published"] is not None
        lines.append(
            [
                row["set"],
                text(row["imbalance_factor"]),
                text(row["weight_decay"]),
                row["method"],
                text(row["p"]),
                text(row["bn"]),
                str(row["n"]),
                cell(row, "last"),
                cell(row, "best"),
                *(cell(row, g) for g in groups),
                cell(row, "ece"),
                f"{row['published']:.2f}" if known else "–",
                f"{row['difference']:+.2f}"
                if known and row["difference"] == row["difference"]
                else "–",
                "–" if np.isnan(row["deviations"]) else f"{row['deviations']:+.1f}",
                text(row["otherwise"]),
            ]
        )
        if abs(row["deviations"]) > 2:
            off.append(
                f"{row['method']} at IF {row['imbalance_factor']}, weight decay {text(row['weight_decay'])}"
                + (f", {row['otherwise']}" if row["otherwise"] else "")
                + f" ({row['deviations']:+.1f})"
            )
    table = [head, ["---"] * 6 + ["---:"] * (len(head) - 7) + ["---"], *lines]
    said = (
        f"\nMore than two standard deviations off: {'; '.join(off)}. notebooks/recipes/suspects_sweep.yaml tries what may be behind it.\n"
        if off
        else ""
    )
    return "\n".join("| " + " | ".join(row) + " |" for row in table) + "\n" + said
