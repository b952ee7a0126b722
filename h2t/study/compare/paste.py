"""The comparison as a table ready to paste: Markdown for a README, LaTeX (booktabs) for a paper."""

from __future__ import annotations

import re

import pandas as pd

from h2t.base.errors import Error

LOWER_IS_BETTER = ("ece",)
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def supported(summary, tests, alpha: float = 0.05) -> set[tuple[str, str, str]]:
    """The cells that may be bold: the best of their column, where the corrected test against **every** other row of it
    is below ``alpha``. Where one of these tests is missing or does not support it, nothing in the column is bold.

    Arguments: ``summary`` of ``compare.summary``; ``tests`` of ``significance.compare`` for all pairs. Returns: (setting,
    group, measure).
    """
    bold = set()
    for (setting, measure), part in summary.dropna(subset=["mean"]).groupby(
        ["setting", "measure"], sort=False
    ):
        means = part.set_index("group")["mean"]
        if len(means) < 2:
            continue
        best = means.idxmin() if measure in LOWER_IS_BETTER else means.idxmax()
        own = tests[
            (tests["setting"] == setting)
            & (tests["measure"] == measure)
            & (tests["p_holm"] < alpha)
        ]
        sign = -1 if measure in LOWER_IS_BETTER else 1
        beaten = set(own[(own["group"] == best) & (sign * own["difference"] > 0)]["against"])
        beaten |= set(own[(own["against"] == best) & (sign * own["difference"] < 0)]["group"])
        if beaten >= set(means.index) - {best}:
            bold.add((setting, best, measure))
    return bold


def paste(
    summary, tests, kind: str = "markdown", notes: list[str] = (), alpha: float = 0.05
) -> str:
    """Groups as rows, measures as columns, mean ± standard deviation, with a sentence that says how to read it.

    Bold is what ``supported`` allows. An empty group of classes is a dash; one run has no ± and says so by n = 1.
    Arguments: ``summary``; ``tests`` as in ``supported``; ``kind`` markdown or latex; ``notes`` sentences to append, those
    of ``compare.mixed``. Raises: ``h2t.Error`` for another kind.
    """
    if kind not in ("markdown", "latex"):
        raise Error(f"kind is {kind!r}; choose markdown or latex")
    bold, tex = supported(summary, tests, alpha), kind == "latex"
    measures, escape = list(dict.fromkeys(summary["measure"])), _tex if tex else _markdown
    settings = list(dict.fromkeys(summary["setting"]))
    rows = []
    for setting in settings:
        part = summary[summary["setting"] == setting]
        if len(settings) > 1:
            title = (
                [f"\\multicolumn{{{len(measures) + 2}}}{{l}}{{\\textit{{{_tex(setting)}}}}}"]
                if tex
                else [f"*{_markdown(setting)}*"] + [""] * (len(measures) + 1)
            )
            rows.append(title)
        for group, cells in part.groupby("group", sort=False):
            of = cells.set_index("measure")
            line = [escape(group), str(int(of["n"].max()))]
            rows.append(
                line + [_cell(of.loc[m], (setting, group, m) in bold, tex) for m in measures]
            )
    head = ["", "n", *map(escape, measures)]
    caption = " ".join([_caption(summary, tests, bold, alpha), *notes])
    if not tex:
        lines = [
            "| " + " | ".join(r) + " |" for r in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
        ]
        return "\n".join(lines) + f"\n\n{_markdown(caption)}\n"
    body = [" & ".join(r) + r" \\" for r in [head, *rows]]
    table = [
        r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"\toprule",
        body[0],
        r"\midrule",
        *body[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return (
        "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_tex(caption)}}}",
                *table,
                r"\end{table}",
            ]
        )
        + "\n"
    )


def _cell(row, bold: bool, tex: bool) -> str:
    if pd.isna(row["mean"]):
        return "--" if tex else "–"
    text = f"{row['mean']:.2f}"
    text = (rf"\textbf{{{text}}}" if tex else f"**{text}**") if bold else text
    if pd.isna(row["std"]):
        return text
    return text + (rf" $\pm$ {row['std']:.2f}" if tex else f" ± {row['std']:.2f}")


def _caption(summary, tests, bold: set, alpha: float) -> str:
    one = (summary["n"] <= 1).all()
    what = (
        "Test accuracy and ECE in %" if "ece" in set(summary["measure"]) else "Test accuracy in %"
    )
    what += ", one run each." if one else ", mean ± standard deviation over n runs."
    made = tests.dropna(subset=["p"])
    if not len(made):
        return what + " Nothing is bold: no two groups could be tested."
    how = " and ".join(f"{name} ({n})" for name, n in made["test"].value_counts().items())
    said = "Bold: best of its column" if bold else "Nothing is bold: no value is best of its column"
    return f"{what} {said} with corrected p < {alpha:g} against every other row; {how}, p-values corrected by Holm for {len(made)} tests."


def _tex(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}<>|]", lambda m: _TEX[m.group()], text).replace("±", r"$\pm$")


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*_<>`\[\]])", r"\\\1", text)
