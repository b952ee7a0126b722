"""Choose among settings by a validation part, without a look at the test set, and write the choice down as a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic, write_yaml
from h2t.base.readers import read_yaml
from h2t.recipes.parameters import Data, Stage1, Stage2
from h2t.runs import Run
from h2t.study.compare.groups import grouped, summary
from h2t.study.compare.significance import pairwise

MEASURE = "val_balanced"  # the mean over classes: the part is as long-tailed as the training set


def select(root: str | Path):
    """Rank the settings of the runs under a folder by their mean over seeds on the validation part, and write the best one.

    The validation part is small, and its tail classes have an image or two each: several seeds, each with a part of its own, and
    tests in pairs against the best say how much the ranking is worth. The best value itself flatters, as the highest of many.
    Writes selection.csv, selection.md and selected.yaml, the recipe of the best on all training images.

    Arguments: ``root`` a folder of runs with ``val_fraction`` above 0; all stage 2s of one data set are ranked.
    Returns: a DataFrame, best first: group, n, mean and std of the validation's mean over classes in %, behind (mean paired
    difference to the best, in points) and its p_holm. Raises: ``h2t.Error`` where there is no validation part, one that an imported stage 1
    may have been trained on, or several data sets.
    """
    import pandas as pd

    from h2t.study.compare.table import table

    root = resolve(root)
    rows = table(root, save=False)
    rows = rows[(rows["stage"] == 2) & ~rows["cached"].astype(bool)]
    if MEASURE not in rows or rows[MEASURE].isna().any() or rows.empty:
        raise Error(
            f"{root} holds stage 2s without a validation part; train with `-p val_fraction 0.2`, so that the test set is left out of the choice"
        )
    if rows["val_seen"].astype("boolean").fillna(False).any():
        raise Error(
            f"stage 1 of runs in {root} was imported: it may have been trained on the validation part, so that nothing can be chosen by it; train stage 1 with val_fraction"
        )
    rows = grouped(rows)
    if rows["setting"].nunique() > 1:
        raise Error(
            f"{root} holds several data sets ({'; '.join(rows['setting'].unique()[:3])}); select in each by itself"
        )
    found = summary(rows, (MEASURE,)).sort_values(
        "mean", ascending=False, kind="stable", ignore_index=True
    )
    best = found["group"][0]
    if len(found) > 1:
        tests = pairwise(rows, root, (MEASURE,), against=best).set_index("group")
        found = found.assign(
            behind=found["group"].map(tests["difference"]),
            p_holm=found["group"].map(tests["p_holm"]),
        )
    else:
        found = found.assign(behind=np.nan, p_holm=np.nan)
    found = pd.DataFrame(found[["group", "n", "mean", "std", "behind", "p_holm"]])
    write_atomic(root / "selection.csv", found.to_csv(index=False).encode())
    write_atomic(root / "selection.md", markdown(found).encode())
    write_yaml(
        root / "selected.yaml",
        recipe_of(root, rows[rows["group"] == best].iloc[0], str(root / "selected")),
    )
    return found


def recipe_of(root: Path, row, run: str) -> dict:
    """The recipe of a step of a run, with all training images and the first seeds: what ``h2t run`` or a sweep over seeds takes."""
    made = Run(root / row["run"], create=False)
    data = Data.of(read_yaml(made.path / "params.yaml")).to_dict()
    both = {
        **Stage1.of(made.step("stage1").params).to_dict(),
        **Stage2.of(made.step(row["step"]).params).to_dict(),
    }
    return {
        "run": run,
        **data,
        **both,
        "val_fraction": 0.0,
        "val_seed": 0,
        "seed": 0,
        "compare_seeds": 0,
    }


def markdown(found, most: int = 20) -> str:
    """The ranking as a Markdown table, its first ``most`` rows, and what it is worth."""
    lines = [
        ["setting", "n", "validation, mean over classes", "behind the best", "p (Holm)"],
        ["---", *["---:"] * 4],
    ]
    for r in found.head(most).itertuples():
        spread = "" if np.isnan(r.std) else f" ± {r.std:.2f}"
        lines.append(
            [
                r.group,
                str(r.n),
                f"{r.mean:.2f}{spread}",
                "–" if np.isnan(r.behind) else f"{r.behind:+.2f}",
                "–" if np.isnan(r.p_holm) else f"{r.p_holm:.2g}",
            ]
        )
    level = int((found["p_holm"] >= 0.05).sum())
    said = f"{found['group'][0]} is highest of {len(found)}"
    said += (
        f"; {level} others are not shown to be worse."
        if level
        else "; all others are shown to be worse."
        if found["p_holm"].notna().any()
        else ", of single runs: no test."
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{said}\n"
