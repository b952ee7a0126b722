"""Choose among settings by a validation part, not by the test set, and write a recipe."""

from pathlib import Path

import pandas as pd

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic, write_yaml
from h2t.base.tables import number
from h2t.recipes.parameters import Data, Stage1, Stage2
from h2t.runs import Run
from h2t.study.compare import ledger
from h2t.study.compare.groups import grouped, summary
from h2t.study.compare.significance import pairwise
from h2t.study.compare.table import exact_stage2s, table
from h2t.study.compare.units import ALPHA

MEASURE = "val_balanced"  # the mean over classes: the part is as long-tailed as the training set
MOST = 20  # rows shown


def select(root: str | Path):
    """Rank the settings of the runs under a folder by their mean on the validation part.

    Its tail classes have an image or two each: several seeds, each with a part of its own, and
    paired tests against the best say how much the ranking is worth. The best flatters, as the
    highest of many. Writes selection.md and selected.yaml, the best's recipe.

    Arguments: ``root`` a folder of runs of one data set with ``val_fraction`` above 0. Returns: a
    DataFrame, best first: group, n (stage 1s), repeats, mean, std and within in %, behind (mean
    paired difference to the best, in points) and its p_holm.
    """
    root = resolve(root)
    rows = grouped(_candidates(root, table(root, save=False)))
    if rows["setting"].nunique() > 1:
        named = "; ".join(rows["setting"].unique()[:3])
        raise Error(f"{root} holds several data sets ({named}); select in each by itself")
    found = summary(rows, (MEASURE,)).drop(columns=["setting", "measure", "low", "high"])
    found = found.sort_values("mean", ascending=False, kind="stable", ignore_index=True)
    best = found["group"][0]
    tests = pairwise(rows, root, (MEASURE,), against=best).set_index("group")
    found = found.assign(
        behind=found["group"].map(tests["difference"]).astype(float),
        p_holm=found["group"].map(tests["p_holm"]).astype(float),
    )
    write_atomic(root / "selection.md", markdown(found).encode())
    write_yaml(root / "selected.yaml", _recipe(root, rows[rows["group"] == best].iloc[0]))
    return found


def _candidates(root: Path, rows):
    """The stage 2s that may be ranked."""
    rows = exact_stage2s(rows)
    if MEASURE not in rows or rows[MEASURE].isna().any() or rows.empty:
        part = "stage 2s without a validation part"
        raise Error(f"{root} holds {part}; train with `-p val_fraction 0.2`")
    if rows["val_seen"].astype(bool).any():
        seen = "it may have been trained on the validation part"
        raise Error(f"stage 1 of runs in {root} was imported: {seen}; train it with val_fraction")
    return rows


def _recipe(root: Path, row) -> dict:
    """The recipe of a step of a run, with all training images and the first seeds."""
    made = Run(root / row["run"], create=False)
    return {
        "run": str(root / "selected"),
        **Data.of(made.params).to_dict(),
        **Stage1.of(made.step("stage1").params).to_dict(),
        **Stage2.of(made.step(row["step"]).params).to_dict(),
        **{"val_fraction": 0.0, "val_seed": 0, "seed": 0, "compare_seeds": 0},
    }


def markdown(found) -> str:
    """The first rows of the ranking as a Markdown table, and what it is worth."""
    lines = []
    for row in found.head(MOST).to_dict("records"):
        line = {"setting": row["group"], "stage 1s": str(row["n"])}
        line |= ledger.cells("validation, mean over classes", row)
        line["behind the best"] = number(row["behind"], sign=True)
        line["p (Holm)"] = "" if pd.isna(row["p_holm"]) else f"{row['p_holm']:.2g}"
        lines.append(line)
    level = int((~(found["p_holm"] < ALPHA)).sum()) - 1
    said = f"{found['group'][0]} is highest of {len(found)}; {level} others are not shown to be"
    return f"{ledger.markdown(pd.DataFrame(lines))}\n\n{said} worse.\n"
