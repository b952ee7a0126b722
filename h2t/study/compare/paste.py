"""The comparison ready to paste: Markdown for a README, LaTeX (booktabs) for a paper."""

from __future__ import annotations

import re

from h2t.base import tables
from h2t.base.errors import Error
from h2t.metrics import label
from h2t.study.compare import units

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {"<": "$<$", ">": "$>$", "|": r"\textbar{}", "±": r"$\pm$", "–": "--"}
_TEX |= {c: f"\\{c}" for c in "&%$#_{}"}


def supported(summary, tests, alpha: float = 0.05) -> set[tuple[str, str, str]]:
    """The cells that may be bold: the best of their column, where the corrected test against every
    other row of it is there and below ``alpha``.

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
        own = own[own["p_holm"] < alpha]
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
    bold, tex = supported(summary, tests), kind == "latex"
    escape, strong = (_tex, r"\textbf{%s}") if tex else (_markdown, "**%s**")
    measures = list(dict.fromkeys(summary["measure"]))
    several, rows, before = summary["setting"].nunique() > 1, [], None
    for (setting, group), cells in summary.groupby(["setting", "group"], sort=False):
        if several and setting != before:
            wide = rf"\multicolumn{{{len(measures) + 2}}}{{l}}{{\textit{{{_tex(setting)}}}}}"
            title = [f"*{_markdown(setting)}*", *[""] * (len(measures) + 1)]
            rows.append([wide] if tex else title)
        before, row = setting, [escape(group), str(cells["n"].max())]
        for cell in cells.to_dict("records"):
            mean, *error = (escape(t) for t in (units.shown(cell) or "–").split(" ", 1))
            mean = strong % mean if (setting, group, cell["measure"]) in bold else mean
            row.append(" ".join([mean, *error]))
        rows.append(row)
    head = ["", "n", *(escape(label(m)) for m in measures)]
    caption = escape(" ".join([_caption(summary, tests, bold), *notes]))
    return (
        _booktabs(head, rows, caption) if tex else f"{tables.markdown(head, rows)}\n\n{caption}\n"
    )


def _booktabs(head: list[str], rows: list[list[str]], caption: str) -> str:
    first, *others = [" & ".join(row) + r" \\" for row in (head, *rows)]
    return "\n".join(
        [
            rf"\begin{{table}}\centering\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\toprule",
            first + r"\midrule",
            *others,
            r"\bottomrule\end{tabular}\end{table}" + "\n",
        ]
    )


def _caption(summary, tests, bold: set) -> str:
    ece = " and ECE" if "ece" in set(summary["measure"]) else ""
    what = f"Test accuracy{ece} in %, n stage 1s."
    if summary["std"].notna().any():
        what = f"Test accuracy{ece} in %, mean ± standard deviation over n stage 1s."
    if (summary["std"].isna() & summary["within"].notna()).any():
        what += " Where n is 1, ± is over the stage 2s on that stage 1."
    made = tests.dropna(subset=["p"])
    if not len(made):
        return f"{what} Nothing is bold: no two groups could be tested over several stage 1s."
    said = "Bold: best of its column" if bold else "Nothing is bold: no value is best of its column"
    how = f"paired t-tests over stage 1s, corrected by Holm for {len(made)} tests"
    return f"{what} {said} with corrected p < 0.05 against every other row; {how}."


def _tex(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}<>|±–]", lambda m: _TEX[m.group()], text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\*_<>`\[\]])", r"\\\1", text)  # a table escapes its bars itself
