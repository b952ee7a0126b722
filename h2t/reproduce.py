"""Our runs beside the published table: mean and spread over seeds, and how far apart the two are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2t import metrics
from h2t.errors import Error
from h2t.files import write_atomic
from h2t.published_numbers import MODELS, published
from h2t.runs import Run, resolve


def reproduce(root: str | Path):
    """Every protocol of the runs under a folder beside what was published for it, saved as reproduced.csv and reproduced.md.

    Rows are imbalance factor, weight decay of stage 1, method and fusion ratio. ``deviations`` is the distance to the published
    number in standard deviations of the difference of one published run and the mean of ours, s * sqrt(1 + 1/n), with s from our
    seeds: NaN for a single seed. The published numbers are of the best epoch on the test set, so ``best`` is what they are held
    against; ``last`` is our result.

    Arguments: ``root`` a folder of runs on 100 classes with ResNet-32, or the experts of RIDE or ResLT. Returns: a DataFrame.
    Raises: ``h2t.Error`` where no run there is of a published protocol.
    """
    import pandas as pd

    from h2t.table import table

    root = resolve(root)
    steps = table(root, save=False)
    steps = steps[(steps["num_classes"] == 100) & steps["model"].isin(MODELS) & (steps["profile"] == "exponential") & ~steps["cached"].astype(bool)]
    rows = []
    for step in steps.to_dict("records"):
        factor = round(step["imbalance_factor"])
        result = Run(root / step["run"], create=False).step(step["step"]).result
        accuracy = np.array([np.nan if a is None else a for a in result["per_class"]])
        row = {"imbalance_factor": factor, "weight_decay": step["stage1_weight_decay"], "method": step["method"], "p": step.get("fusion_ratio") if step["stage"] == 2 else None,
               "bn": step.get("bn_statistics") if step["stage"] == 2 else None, "published": published(step), "last": result["last"]["top1"],
               "best": (result.get("best") or {}).get("top1"), "ECE": result["last"]["ece"]}  # fmt: skip
        for scheme in metrics.SCHEMES:
            row |= {f"{g} ({scheme})": v for g, v in metrics.group_means(accuracy, np.array(result["counts"]), scheme).items()}
        rows.append(row)
    if not rows or all(r["published"] is None for r in rows):
        raise Error(f"{root} holds no run of a published protocol: CIFAR-100-LT, resnet32, 200 epochs, imbalance factor 50, 100 or 200; see notebooks/recipes/cifar100_sweep.yaml and cifar100_methods_sweep.yaml")
    found = pd.DataFrame(rows)
    keys = ["imbalance_factor", "weight_decay", "method", "p", "bn", "published"]
    measures = [c for c in found if c not in keys]
    found[measures] = found[measures].astype(float)
    grouped = found.groupby(keys, dropna=False, sort=False)[measures]
    summary = grouped.agg(["mean", "std"])
    summary.columns = [m if kind == "mean" else f"{m} std" for m, kind in summary.columns]
    summary.insert(0, "n", grouped.size())
    summary = summary.reset_index()
    summary["difference"] = summary["best"] - summary["published"]
    spread = summary["best std"] * np.sqrt(1 + 1 / summary["n"])
    summary["deviations"] = (summary["difference"] / spread).where(spread > 0)
    names = ["stage 1", "DR", "DR, BN sees both", "DR + H2T"]
    order = {m: k for k, m in enumerate([*names, *sorted(set(summary["method"]) - set(names))])}
    summary = summary.sort_values(["imbalance_factor", "weight_decay", "method", "p", "bn"], key=lambda c: c.map(order) if c.name == "method" else c, ascending=[False, True, True, True, True], ignore_index=True)
    write_atomic(root / "reproduced.csv", summary.to_csv(index=False).encode())
    write_atomic(root / "reproduced.md", markdown(summary).encode())
    return summary


def markdown(summary) -> str:
    """The summary as a Markdown table, mean ± standard deviation over seeds."""

    def cell(row, name: str) -> str:
        mean, std = row[name], row[f"{name} std"]
        return "–" if np.isnan(mean) else f"{mean:.2f}" + ("" if np.isnan(std) else f" ± {std:.2f}")

    groups = [f"{g} ({scheme})" for scheme in metrics.SCHEMES for g in ("many", "medium", "few")]
    head = ["IF", "weight decay", "method", "p", "BN sees", "n", "last epoch", "best epoch (on test)", *groups, "ECE", "published", "difference", "in deviations"]
    lines = []
    for row in summary.to_dict("records"):
        known = row["published"] == row["published"]  # not NaN
        lines.append([
            f"{row['imbalance_factor']}", f"{row['weight_decay']:g}", row["method"], "–" if row["p"] != row["p"] else f"{row['p']:g}", "–" if row["bn"] != row["bn"] else row["bn"], str(row["n"]),
            cell(row, "last"), cell(row, "best"), *(cell(row, g) for g in groups), cell(row, "ECE"), f"{row['published']:.2f}" if known else "–",
            f"{row['difference']:+.2f}" if known else "–", "–" if np.isnan(row["deviations"]) else f"{row['deviations']:+.1f}",
        ])  # fmt: skip
    table = [head, ["---"] * 5 + ["---:"] * (len(head) - 5), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in table) + "\n"
