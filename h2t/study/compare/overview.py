"""What a run, or a folder of them, comes to in a few lines: averages, and what tests say."""

import itertools
import os
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from h2t.base import tables
from h2t.metrics import GROUPS, label
from h2t.recipes.names import STEPS
from h2t.runs import Run
from h2t.study.compare import units
from h2t.study.compare.groups import CONTROL, averages, baseline, grouped, listed, mixed, summary
from h2t.study.compare.significance import pairwise, verdict
from h2t.study.compare.table import table

SHOWN = ("many", "medium", "few", "all", "ece")
FUSED = STEPS["stage2-h2t"]


def overview(root: str | Path) -> str:
    """A line for each group of a folder of runs, and what the tests against ``groups.baseline``
    allow to say, as plain text.
    """
    rows = grouped(table(root, save=False))
    against = baseline(dict.fromkeys(rows["group"]))
    said = verdict(pairwise(rows, root, ("all",), against), "all", against)
    return "\n".join([_plain(averages(summary(rows, SHOWN))), *mixed(rows), said])


def of_run(run: str | Path):
    """Rows of ``grouped``: the main steps of a run, with every seed of theirs that it holds."""
    rows = grouped(table(run, save=False))
    main = {row.group: STEPS[row.step] for row in rows.itertuples() if row.step in STEPS}
    return rows[rows["group"].isin(main)].assign(group=rows["group"].map(main))


def changes(rows, measures=(*GROUPS, "all")):
    """What the BN statistics and what fusion change, seed by seed: points, mean ± deviation.

    Arguments: ``rows`` of ``of_run``. Returns: a DataFrame of texts, a row a change: DR → its
    control → H2T.
    """
    chain = [g for g in (*reversed(CONTROL), FUSED) if g in set(rows["group"])]
    by, found = rows.set_index(["group", "unit", "seed"])[list(measures)].astype(float), {}
    for a, b in itertools.pairwise(chain):
        moved = by.loc[b] - by.loc[a]
        unit = moved.index.get_level_values("unit")
        over = {m: units.spread(moved[m], unit)._asdict() for m in measures}
        found[f"{a} → {b}"] = {label(m): units.shown(s, sign=True) for m, s in over.items()}
    return pd.DataFrame.from_dict(found, orient="index")


def of_fusion(rows) -> str:
    """What may be said of fusion against its control, on all classes and on the tail, by rows of
    ``of_run``; nothing where either is missing.
    """
    against = next((g for g in CONTROL if g in set(rows["group"])), "")
    pair = rows[rows["group"].isin([FUSED, against])]
    if pair["group"].nunique() < 2:
        return ""
    tail = [g for g in reversed(GROUPS) if pair[g].notna().all()][:1]
    moved = changes(rows, ("all", *tail)).iloc[-1]
    said = ", ".join(f"{measure} {points}" for measure, points in moved.items())
    counted = units.counted(pair["unit"].nunique(), len(pair) // 2)
    paired = ", paired by seed" if len(pair) > 2 else ""
    return f"{FUSED} less {against}{paired}: {said} points on {counted}, not tested. {units.ALONE}"


def ending(run: Run) -> str:
    """What a run came to, what may be said of fusion, and what to do next."""
    rows = of_run(run.path)
    held_out = ("val_balanced",) if "val_balanced" in rows else ()
    found = averages(summary(rows, (*SHOWN, *held_out)))
    lines = [_plain(found.drop(columns="stage 1s"))]
    if len(rows) > rows["group"].nunique():
        lines.append("±: standard deviation over seeds of stage 2, on one stage 1")
    lines += textwrap.wrap(of_fusion(rows), 99)
    lines += [
        f"run directory: {run.path}",
        "next, the figures, the slider, and images of your own:",
    ]
    return "\n".join([*lines, commands(run, "report RUN", "explore RUN", "run own -p root FOLDER")])


def commands(run: Run, *these: str) -> str:
    """Commands of h2t as text that can be copied, with a run's directory for ``RUN``."""
    start = "uv run h2t" if "UV" in os.environ else "h2t"
    near = run.path.relative_to(Path.cwd()) if Path.cwd() in run.path.parents else run.path
    place = shlex.quote(str(near))
    return "\n".join(f"  {start} {command.replace('RUN', place)}" for command in these)


def _plain(found) -> str:
    table = listed(found).rename(columns={"group": "test accuracy, %"})
    left = table.columns.get_loc("test accuracy, %") + 1
    return tables.plain(table.columns, table.to_numpy(), left=left)


def agreement(both) -> str:
    """How far exact and cached stage 2 agree on what fusion does: a line a ratio above 0.

    Arguments: ``both`` of ``h2t.train.cached.steps.compare``.
    """
    wide = both.pivot(index="seed", columns=["kind", "ratio"], values="all")
    ratios, lines = sorted(both["ratio"].unique()), []
    if ratios[0] > 0 or len(ratios) < 2:
        return ""
    for ratio in ratios[1:]:
        exact, cached = (wide[kind, ratio] - wide[kind, 0.0] for kind in ("exact", "cached"))
        over = [
            units.spread(d, np.zeros(len(d)))._asdict() for d in (exact, cached, cached - exact)
        ]
        said = [units.shown(spread, sign=True) for spread in over]
        lines.append(
            f"p = {ratio:g} moves all by {said[0]} points exactly computed and {said[1]} cached, "
            f"which is {said[2]} apart ({units.counted(1, len(wide))})."
        )
    return "\n".join([*lines, units.ALONE])
