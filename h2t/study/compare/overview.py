"""What a run, or a folder of them, comes to in a few lines: averages, and what tests say."""

from __future__ import annotations

from pathlib import Path

from h2t.base import tables
from h2t.metrics import label
from h2t.study.compare import units
from h2t.study.compare.groups import baseline, grouped, mixed, summary
from h2t.study.compare.significance import pairwise, verdict
from h2t.study.compare.table import table

SHOWN = ("many", "medium", "few", "all", "ece")


def overview(root: str | Path, measures=SHOWN) -> str:
    """A line for each group with its means ± standard deviations, and what the tests allow to say.

    Deviations are between stage 1s or, of a single one, between the stage 2s on it. Every group is
    held against the control or, where that is not there, against DR.
    Arguments: ``root`` a run, or a folder of runs, of which every finished step counts;
    ``measures`` the columns. Returns: plain text. Raises: ``h2t.Error`` where nothing there is
    finished.
    """
    rows = grouped(table(root, save=False))
    header = ["test accuracy, %", "stage 1s", "networks", *map(label, measures)]
    lines = []
    for (setting, group), part in summary(rows, measures).groupby(["setting", "group"], sort=False):
        cells = [units.shown(row) or "empty" for row in part.to_dict("records")]
        name = f"{group} ({setting})" if setting else group
        lines.append([name, str(part["n"].max()), str(part["repeats"].max()), *cells])
    against = baseline(dict.fromkeys(rows["group"]))
    said = verdict(pairwise(rows, root, ("all",), against), "all", against)
    return "\n".join([tables.plain(header, lines), *mixed(rows), said])
