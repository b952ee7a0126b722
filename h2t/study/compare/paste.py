"""The comparison ready to paste: Markdown for a README, LaTeX (booktabs) for a paper."""

import numpy as np
import pandas as pd

from h2t.base import tables
from h2t.base.errors import Error
from h2t.metrics import label
from h2t.study.compare.groups import averages, listed
from h2t.study.compare.units import ALPHA


def supported(summary, tests) -> set[tuple[str, str, str]]:
    """The cells that may be bold: the best of their column, where the corrected test against every
    other row of it is there and significant.

    Arguments: ``summary`` of ``groups.summary``; ``tests`` of ``significance.pairwise`` for all
    pairs. Returns: (setting, group, measure).
    """
    bold = set()
    there = summary.dropna(subset=["mean"])
    for (setting, measure), part in there.groupby(["setting", "measure"], sort=False):
        sign = -1 if measure == "ece" else 1
        means = sign * part.set_index("group")["mean"]
        best = means.idxmax()
        own = tests[(tests["setting"] == setting) & (tests["measure"] == measure)]
        own = own[own["p_holm"] < ALPHA]
        better = sign * own["difference"] > 0
        beaten = set(own[(own["group"] == best) & better]["against"])
        beaten |= set(own[(own["against"] == best) & ~better]["group"])
        if len(means) > 1 and beaten >= set(means.index) - {best}:
            bold.add((setting, best, measure))
    return bold


def paste(summary, tests, kind: str = "markdown", notes: list[str] = ()) -> str:
    """Groups as rows, measures as columns, with a sentence that says how to read them.

    Bold is what ``supported`` allows. An empty group of classes is a dash.
    Arguments: ``summary``, ``tests`` as in ``supported``; ``kind`` markdown or latex; ``notes``
    sentences to append, those of ``groups.mixed``. Raises: ``h2t.Error`` for another kind.
    """
    if kind not in ("markdown", "latex"):
        raise Error(f"kind is {kind!r}; choose markdown or latex")
    bold, table = supported(summary, tests), averages(summary).drop(columns="networks")
    strong = pd.DataFrame(False, table.index, table.columns)
    for setting, group, measure in bold:
        strong.loc[(setting, group), label(measure)] = True
    caption = " ".join([_caption(tests, bold), *notes])
    if kind == "markdown":
        table = listed(table.mask(strong, "**" + table + "**"))
        return f"{tables.markdown(table.columns, table.to_numpy())}\n\n{caption}\n"
    style = listed(table).style.hide(axis="index").format(escape="latex")
    style = style.format_index(escape="latex", axis="columns")
    looks = np.where(strong, "textbf: --rwrap", "")
    style = style.apply(lambda _: looks, axis=None, subset=list(table.columns))
    columns = "".join("l" if name in ("setting", "group") else "r" for name in style.columns)
    return f"{style.to_latex(hrules=True, column_format=columns)}% {caption}\n"


def _caption(tests, bold: set) -> str:
    what = "On the test set, in %: mean ± standard deviation over stage 1s or, of a single one, "
    what += "over the stage 2s on it."
    made = tests["p"].notna().sum()
    if not made:
        return f"{what} Nothing is bold: no two groups could be tested over several stage 1s."
    said = "Bold: best of its column" if bold else "Nothing is bold: no value is best of its column"
    how = f"paired t-tests over stage 1s, corrected by Holm for {made} tests"
    return f"{what} {said} with corrected p < 0.05 against every other row; {how}."
