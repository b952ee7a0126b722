"""Fusion on and off by BN statistics of the balanced stream and of both: what does which, with paired tests.

The published H2T run fuses and normalises the test set with statistics of both streams, the published DR run does neither, so
that their difference mixes two effects. With all four cells they come apart.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.runs import Run

MEASURES = ("all", "many", "medium", "few")
SHOWN = (*MEASURES, "ece")
CELLS = (
    (False, "balanced"),
    (False, "both"),
    (True, "balanced"),
    (True, "both"),
)  # fusion, statistics
_APART = {
    "fusion",
    "fusion_ratio",
    "bn_statistics",
    "head_ratios",
}  # what the cells differ in, and nothing else


class Control(NamedTuple):
    """``rows`` one for each cell and seed (setting, ratio, unit, fusion, statistics, measures in %); ``cells`` their means:
    setting, ratio, fusion, statistics, measure, n, mean, std; ``effects``: setting, ratio, effect, measure, pairs, stage1s,
    difference in points, low, high (95 %), p, p_wilcoxon, p_holm."""

    rows: object
    cells: object
    effects: object


def control(root: str | Path, ratio: float | None = None, measures=MEASURES) -> Control:
    """The two by two of every setting (imbalance factor, weight decay, ...) and fusion ratio of the runs under a folder.

    Effects are taken pair by pair and tested across pairs: ``fusion`` and ``statistics``, each the mean of its effect at both
    values of the other, and ``interaction``, how much more the statistics do where features are fused. Where a cell is missing,
    the effects that the others allow, named with what they hold at. A pair is a stage 1; where there is only one, a seed of
    stage 2. P-values are corrected by Holm within each two by two.

    Arguments: ``root`` a folder of runs, or one run, of which only exact stage 2s count; ``ratio`` one
    fusion ratio, else all there are; ``measures`` what is tested. Raises: ``h2t.Error`` where there are no two cells to compare.
    """
    return summarise(rows_of(root), ratio, measures)


def rows_of(root: str | Path):
    """The stage 2s of the runs under a folder as rows of ``Control``, without a ratio: p = 0 belongs to every one."""
    import pandas as pd

    from h2t.recipes.parameters import declared
    from h2t.study.compare.groups import METHOD, SETTING, _text
    from h2t.study.compare.significance import _stage1
    from h2t.study.compare.table import table

    rows = table(root, save=False)
    rows = rows[(rows["stage"] == 2) & ~rows["cached"].astype(bool)]
    if rows.empty:
        raise Error(
            f"{resolve(root)} holds no finished exact stage 2; train one with `h2t run RECIPE -p control true`"
        )
    defaults = declared()
    known = [c for c in dict.fromkeys((*SETTING, *METHOD)) if c in rows]
    # what a step was begun without, by an earlier version, had its default
    rows = rows.assign(
        **{
            c: rows[c].astype(object).where(rows[c].notna(), defaults.get(c))
            for c in known
            if c in defaults
        }
    )
    fused = rows["fusion_ratio"].astype(float) > 0
    rows = rows[
        (rows["stage2_method"] != "tau")
        & rows["bn_statistics"].isin(["balanced", "both"])
        & (~fused | (rows["fusion"] == "swap"))
    ]
    if rows.empty:
        raise Error(
            f"{resolve(root)} holds no stage 2 that trains a classifier with BN statistics balanced or both, fused by swap or not at all"
        )
    varying = [c for c in known if c not in _APART and rows[c].map(str).nunique() > 1]
    setting = [", ".join(_text(c, r[c]) for c in varying) for r in rows[varying].to_dict("records")]
    found = pd.DataFrame(
        {
            "setting": setting,
            "fusion_ratio": rows["fusion_ratio"].astype(float),
            "statistics": rows["bn_statistics"].astype(str),
        },
        index=rows.index,
    )
    stage1 = rows["split"].map(str) + " " + _stage1(rows)
    found = found.assign(
        stage1=stage1, seed=rows["seed"], **{m: rows[m].astype(float) for m in SHOWN}
    )
    # several stage 2s on one stage 1 must not pass for several stage 1s
    several = found.groupby("setting")["stage1"].transform("nunique") > 1
    found["unit"] = found["stage1"].where(several, found["stage1"] + " " + found["seed"].map(str))
    keys = ["setting", "fusion_ratio", "statistics", "unit", "stage1"]
    return found.groupby(keys, sort=False, as_index=False)[list(SHOWN)].mean()


def cached_rows(
    run: str | Path,
    ratios=(0.25,),
    seeds=range(5),
    *,
    views: int = 4,
    overrides: dict | None = None,
    progress: bool = True,
):
    """All four cells of one stage 1 by the cached stage 2, as ``rows_of`` gives them: minutes where exact ones take hours.

    Arguments: ``run`` with a finished stage 1; ``ratios`` p; ``seeds`` of stage 2; ``views`` in each of the two feature banks,
    which are built where they are not there; ``overrides`` parameters of the recipe that goes with the run.
    """
    import pandas as pd

    from h2t import metrics
    from h2t.train.cached.bank import build_bank
    from h2t.train.cached.fit import fit
    from h2t.train.cached.steps import recipe_of

    run, found = Run(run, create=False), []
    for statistics in ("balanced", "both"):
        config = dataclasses.replace(recipe_of(run, overrides), bn_statistics=statistics)
        bank = build_bank(run, config, views, progress=progress)
        fits = fit(bank, (0.0, *ratios), seeds, config)
        for r, p in enumerate(fits.ratios):
            for s, seed in enumerate(fits.seeds):
                last = metrics.summary(
                    fits.logits(r, s).numpy(), bank.test_labels.numpy(), bank.counts, bank.scheme
                )
                measured = {m: last[m] for m in SHOWN}
                found.append(
                    {
                        "setting": "cached",
                        "fusion_ratio": p,
                        "statistics": statistics,
                        "unit": str(seed),
                        "stage1": "",
                        **measured,
                    }
                )
    return pd.DataFrame(found).astype({m: float for m in SHOWN})


def summarise(rows, ratio: float | None = None, measures=MEASURES) -> Control:
    """Cells and effects of rows, as ``control`` describes them. Raises: ``h2t.Error`` as it does."""
    import pandas as pd

    from h2t.study.compare.significance import holm

    ratios = [p for p in sorted(rows["fusion_ratio"].unique()) if p > 0 and ratio in (None, p)]
    if not ratios and ratio is not None:
        raise Error(
            f"there is no stage 2 at fusion ratio {ratio:g}; there are {', '.join(f'{p:g}' for p in sorted(rows['fusion_ratio'].unique()))}"
        )
    by_ratio = []
    for p in ratios or [0.0]:
        part = rows[rows["fusion_ratio"].isin([0.0, p])]
        by_ratio.append(
            part.assign(ratio=p, fusion=part["fusion_ratio"] > 0).drop(columns="fusion_ratio")
        )
    rows = pd.concat(by_ratio, ignore_index=True)
    keys = ["setting", "ratio", "fusion", "statistics"]
    cells = rows.melt([*keys, "unit"], list(SHOWN), "measure").groupby(
        [*keys, "measure"], sort=False
    )["value"]
    cells = cells.agg(n="count", mean="mean", std="std").reset_index()
    found = []
    for (setting, p), part in rows.groupby(["setting", "ratio"], sort=False):
        tests = [
            {"setting": setting, "ratio": p, **row}
            for measure in measures
            for row in _effects(part, measure)
        ]
        corrected = holm([row["p"] for row in tests])
        found += [{**row, "p_holm": q} for row, q in zip(tests, corrected, strict=True)]
    if not found:
        raise Error(
            "there are no two cells to compare; train runs with `-p control true`, which have all four"
        )
    return Control(rows, cells, pd.DataFrame(found))


def _effects(part, measure: str) -> list[dict]:
    """The effects on one measure that the cells of one two by two allow."""
    from h2t.study.compare.significance import across_seeds

    value = part.dropna(subset=[measure]).pivot_table(
        index="unit", columns=["fusion", "statistics"], values=measure
    )
    cell = {c: value[c] for c in CELLS if c in value.columns}
    plain, both, fused, all_ = (cell.get(c) for c in CELLS)
    if len(cell) == 4:
        differences = {
            "fusion": (fused - plain + all_ - both) / 2,
            "statistics": (both - plain + all_ - fused) / 2,
            "interaction": (all_ - fused) - (both - plain),
        }
    else:
        simple = {
            "fusion, BN sees both": (all_, both),
            "fusion, BN sees balanced": (fused, plain),
            "statistics, no fusion": (both, plain),
            "statistics, fusion": (all_, fused),
        }
        differences = {
            name: a - b for name, (a, b) in simple.items() if a is not None and b is not None
        }
    rows = []
    for name, d in differences.items():
        d = d.dropna()
        if len(d):
            tests = (
                across_seeds(d.to_numpy())
                if len(d) > 1
                else dict.fromkeys(("low", "high", "p", "p_wilcoxon"), np.nan)
            )
            stage1s = part[part["unit"].isin(d.index)]["stage1"].nunique()
            rows.append(
                {
                    "effect": name,
                    "measure": measure,
                    "pairs": len(d),
                    "stage1s": stage1s,
                    "difference": d.mean(),
                    **tests,
                }
            )
    return rows


def sentence(effects, alpha: float = 0.05) -> str:
    """What the effects allow to be said, a line for each two by two; only what survives Holm's correction is said to be there."""
    lines = []
    for (setting, ratio), part in effects.groupby(["setting", "ratio"], sort=False):
        said = []
        for effect, of in part.groupby("effect", sort=False):
            sure = [f"{r.measure} {r.difference:+.1f}" for r in of.itertuples() if r.p_holm < alpha]
            said.append(
                f"{effect}: "
                + (
                    f"{', '.join(sure)} points"
                    if sure
                    else "nothing beyond the noise"
                    if of["p"].notna().any()
                    else f"all {_of(of, 'all'):+.1f} points, one pair only"
                )
            )
        n, stage1s = int(part["pairs"].max()), int(part["stage1s"].max())
        rests = (
            "one pair, no test"
            if n == 1
            else f"{n} pairs" + (" of stage-2 seeds on one stage 1" if stage1s == 1 else "")
        )
        lines.append(
            f"{f'{setting}, ' if setting else ''}p = {ratio:g} ({rests}): {'; '.join(said)}."
        )
    return "\n".join(lines)


def _of(effects, measure: str) -> float:
    return float(effects.loc[effects["measure"] == measure, "difference"].iloc[0])


def markdown(found: Control) -> str:
    """Cells and effects as two Markdown tables: mean ± standard deviation, and difference with its 95 % interval."""
    groups = list(found.cells.groupby(["setting", "ratio"], sort=False))
    lines = [
        ["setting", "p", "fusion", "BN sees", "n", *SHOWN],
        ["---"] * 4 + ["---:"] * (1 + len(SHOWN)),
    ]
    for (setting, ratio), part in groups:
        for fusion, statistics in CELLS:
            of = part[(part["fusion"] == fusion) & (part["statistics"] == statistics)].set_index(
                "measure"
            )
            if len(of):
                values = [_spread(of.loc[m, "mean"], of.loc[m, "std"]) for m in SHOWN]
                lines.append(
                    [
                        setting or "–",
                        f"{ratio:g}",
                        "yes" if fusion else "no",
                        statistics,
                        str(int(of["n"].max())),
                        *values,
                    ]
                )
    measures = list(dict.fromkeys(found.effects["measure"]))
    tests = [
        ["setting", "p", "effect", "pairs", *measures],
        ["---"] * 3 + ["---:"] * (1 + len(measures)),
    ]
    for (setting, ratio, effect), part in found.effects.groupby(
        ["setting", "ratio", "effect"], sort=False
    ):
        of = part.set_index("measure")
        tests.append(
            [
                setting or "–",
                f"{ratio:g}",
                effect,
                str(int(of["pairs"].max())),
                *(_tested(of.loc[m]) if m in of.index else "–" for m in measures),
            ]
        )
    text = ["\n".join("| " + " | ".join(row) + " |" for row in table) for table in (lines, tests)]
    note = "Effects in points, with the 95 % interval of a paired t-test; bold where p < 0.05 after Holm's correction over one two by two."
    return f"{text[0]}\n\n{text[1]}\n\n{note}\n\n{sentence(found.effects)}\n"


def _spread(mean: float, std: float) -> str:
    return "–" if np.isnan(mean) else f"{mean:.2f}" + ("" if np.isnan(std) else f" ± {std:.2f}")


def _tested(row) -> str:
    if np.isnan(row["low"]):
        return f"{row['difference']:+.2f}"
    text = f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
    return f"**{text}**" if row["p_holm"] < 0.05 else text


def save(found: Control, folder: str | Path) -> Path:
    """Write control_cells.csv, control_effects.csv, control.md and the figure control.png. Returns: the folder."""
    from h2t import plots

    folder = resolve(folder)
    for name in ("cells", "effects"):
        write_atomic(
            folder / f"control_{name}.csv", getattr(found, name).to_csv(index=False).encode()
        )
    write_atomic(folder / "control.md", markdown(found).encode())
    plots.save(draw(found), folder / "control")
    return folder


def draw(found: Control):
    """The figure of a two by two, or of the effects in several. Returns: an array of Axes."""
    from h2t import plots

    if found.effects.groupby(["setting", "ratio"]).ngroups > 1:
        return plots.plot_effects(found.effects)
    return plots.plot_control(found.rows, found.effects)
