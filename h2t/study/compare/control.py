"""Fusion on and off by BN statistics of the balanced stream and of both: what does which.

The published H2T run fuses and normalises the test set with statistics of both streams, the
published DR run does neither, so that their difference mixes two effects. With all four cells they
come apart.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from h2t import metrics, plots
from h2t.base import tables
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.metrics import label
from h2t.recipes.parameters import declared
from h2t.runs import Run
from h2t.study.compare import units
from h2t.study.compare.groups import METHOD, SETTING, written
from h2t.study.compare.significance import holm
from h2t.study.compare.table import table

MEASURES = ("all", "many", "medium", "few")
SHOWN = (*MEASURES, "ece")
# fusion, statistics
CELLS = ((False, "balanced"), (False, "both"), (True, "balanced"), (True, "both"))
_APART = {"fusion", "fusion_ratio", "bn_statistics"}  # what the cells differ in, and nothing else
_TRAIN = "train runs with `-p control true`, which have all four cells"


class Control(NamedTuple):
    """``rows`` one for each stage 2: setting, ratio, unit, seed, fusion, statistics, measures in %;
    ``cells`` their means: setting, ratio, fusion, statistics, measure, and those of ``Spread``;
    ``effects``: setting, ratio, effect, measure, units, repeats, difference in points, within (its
    deviation over the seeds of one stage 1), low, high (95 %), p, p_wilcoxon, p_holm."""

    rows: object
    cells: object
    effects: object


def control(root: str | Path, ratio: float | None = None, measures=MEASURES) -> Control:
    """The two by two of every setting (imbalance factor, weight decay, ...) and fusion ratio.

    Effects are taken unit by unit (``h2t.study.compare.units``) and tested over units: ``fusion``
    and ``statistics``, each the mean of its effect at both values of the other, and
    ``interaction``, how much more the statistics do where features are fused. Where a cell is
    missing, the effects that the others allow, named with what they hold at. P-values are corrected
    by Holm within each two by two.

    Arguments: ``root`` a folder of runs, or one run, of which only exact stage 2s count; ``ratio``
    one fusion ratio, else all there are; ``measures`` what is tested.
    Raises: ``h2t.Error`` where there are no two cells to compare.
    """
    return summarise(rows_of(root), ratio, measures)


def rows_of(root: str | Path):
    """The stage 2s under a folder as rows of ``Control``, without a ratio: p = 0 belongs to all."""
    import pandas as pd

    rows = table(root, save=False)
    rows = rows[(rows["stage"] == 2) & ~rows["cached"].astype(bool)]
    if rows.empty:
        raise Error(f"{resolve(root)} holds no finished exact stage 2; {_TRAIN}")
    defaults, known = declared(), [c for c in dict.fromkeys((*SETTING, *METHOD)) if c in rows]
    for c in set(known) & set(defaults):
        # what a step was begun without, by an earlier version, had its default
        rows = rows.assign(**{c: rows[c].astype(object).where(rows[c].notna(), defaults[c])})
    unfused = rows["fusion_ratio"].astype(float) == 0
    rows = rows[
        (rows["stage2_method"] != "tau")
        & rows["bn_statistics"].isin(["balanced", "both"])
        & (unfused | (rows["fusion"] == "swap"))
    ]
    if rows.empty:
        raise Error(
            f"{resolve(root)} holds no stage 2 that trains a classifier with BN statistics "
            f"balanced or both, fused by swap or not at all; {_TRAIN}"
        )
    varying = [c for c in known if c not in _APART and rows[c].map(str).nunique() > 1]
    settings = rows[varying].to_dict("records")
    return pd.DataFrame(
        {
            "setting": [", ".join(written(c, r[c]) for c in varying) for r in settings],
            "fusion_ratio": rows["fusion_ratio"].astype(float),
            "statistics": rows["bn_statistics"].astype(str),
            "unit": units.of(rows),
            "seed": rows["seed"],
            **{m: rows[m].astype(float) for m in SHOWN},
        }
    ).reset_index(drop=True)


def cached_rows(
    run: str | Path,
    ratios=(0.25,),
    seeds=range(5),
    *,
    views: int = 4,
    overrides: dict | None = None,
    progress: bool = True,
):
    """All four cells of one stage 1 by the cached stage 2: minutes where exact ones take hours.

    Arguments: ``run`` with a finished stage 1; ``ratios`` p; ``seeds`` of stage 2; ``views`` in
    each of the two feature banks, which are built where they are not there; ``overrides``
    parameters of the recipe that goes with the run. Returns: rows as those of ``rows_of``.
    """
    import pandas as pd

    from h2t.train.cached.bank import build_bank
    from h2t.train.cached.fit import fit
    from h2t.train.cached.steps import recipe_of

    run, found = Run(run, create=False), []
    for statistics in ("balanced", "both"):
        config = dataclasses.replace(recipe_of(run, overrides), bn_statistics=statistics)
        bank = build_bank(run, config, views, progress=progress)
        fits, labels = fit(bank, (0.0, *ratios), seeds, config), bank.test_labels.numpy()
        for r, p in enumerate(fits.ratios):
            for s, seed in enumerate(fits.seeds):
                logits = fits.logits(r, s).numpy()
                last = metrics.summary(logits, labels, bank.counts, bank.scheme)
                row = {"setting": "cached", "fusion_ratio": p, "statistics": statistics}
                measured = {m: last[m] for m in SHOWN}
                found.append({**row, "unit": run.path.name, "seed": seed, **measured})
    return pd.DataFrame(found).astype({m: float for m in SHOWN})


def summarise(rows, ratio: float | None = None, measures=MEASURES) -> Control:
    """Cells and effects of rows, as ``control`` describes them. Raises as it does."""
    import pandas as pd

    there = sorted(rows["fusion_ratio"].unique())
    ratios = [p for p in there if p > 0 and ratio in (None, p)]
    if not ratios and ratio is not None:
        listed = ", ".join(f"{p:g}" for p in there)
        raise Error(f"there is no stage 2 at fusion ratio {ratio:g}; there are {listed}")
    parts = []
    for p in ratios or [0.0]:
        part = rows[rows["fusion_ratio"].isin([0.0, p])]
        parts.append(part.assign(ratio=p, fusion=part["fusion_ratio"] > 0))
    rows = pd.concat(parts, ignore_index=True).drop(columns="fusion_ratio")
    keys = ["setting", "ratio", "fusion", "statistics"]
    cells = [
        {**dict(zip(keys, names, strict=True)), "measure": m}
        | units.spread(cell[m], cell["unit"])._asdict()
        for names, cell in rows.groupby(keys, sort=False)
        for m in SHOWN
    ]
    found = []
    for (setting, p), part in rows.groupby(["setting", "ratio"], sort=False):
        tests = [row for measure in measures for row in _effects(part, measure)]
        corrected = holm([row["p"] for row in tests])
        found += [
            {"setting": setting, "ratio": p, **row, "p_holm": q}
            for row, q in zip(tests, corrected, strict=True)
        ]
    if not found:
        raise Error(f"there are no two cells to compare; {_TRAIN}")
    return Control(rows, pd.DataFrame(cells), pd.DataFrame(found))


def _effects(part, measure: str) -> list[dict]:
    """The effects on one measure that the cells of one two by two allow."""
    value = part.dropna(subset=[measure]).pivot_table(
        index=["unit", "seed"], columns=["fusion", "statistics"], values=measure
    )
    plain, both, fused, whole = (value[c] if c in value.columns else None for c in CELLS)
    apart = {
        "fusion, BN sees both": (whole, both),
        "fusion, BN sees balanced": (fused, plain),
        "statistics, no fusion": (both, plain),
        "statistics, fusion": (whole, fused),
    }
    effects = {n: a - b for n, (a, b) in apart.items() if a is not None and b is not None}
    if len(effects) == len(apart):
        by_fusion = effects["statistics, fusion"], effects["statistics, no fusion"]
        effects = {
            "fusion": (fused - plain + whole - both) / 2,
            "statistics": sum(by_fusion) / 2,
            "interaction": by_fusion[0] - by_fusion[1],
        }
    rows = []
    for name, d in effects.items():
        d = d.dropna()
        if len(d):
            over = units.spread(d, d.index.get_level_values("unit"))
            row = {"effect": name, "measure": measure, "units": over.n, "repeats": over.repeats}
            row |= {"difference": over.mean, "within": over.within}
            rows.append(row | units.across(d.groupby("unit").mean()))
    return rows


def sentence(effects, alpha: float = 0.05) -> str:
    """What the effects allow to be said, a line for each two by two, and on how many stage 1s.

    Only what survives Holm's correction is said to be there.
    """
    lines = []
    for (setting, ratio), part in effects.groupby(["setting", "ratio"], sort=False):
        said = [f"{e}: {_said(of, alpha)}" for e, of in part.groupby("effect", sort=False)]
        rests = units.counted(part["units"].max(), part["repeats"].max())
        where = f"{setting}, " if setting else ""
        lines.append(f"{where}p = {ratio:g} ({rests}): {'; '.join(said)}.")
    return "\n".join([*lines, units.ALONE] if (effects["units"] == 1).any() else lines)


def _said(effect, alpha: float) -> str:
    sure = effect[effect["p_holm"] < alpha]
    if len(sure):
        return ", ".join(f"{r.measure} {r.difference:+.1f}" for r in sure.itertuples()) + " points"
    if effect["p"].notna().any():
        return "nothing beyond the noise"
    first = effect.iloc[0]
    return f"{first['measure']} {first['difference']:+.1f} points, not tested"


def markdown(found: Control) -> str:
    """Cells and effects as two Markdown tables, how to read them, and what may be said."""
    names = {False: "no", True: "yes"}
    cells, effects = [], []
    for (setting, ratio, fusion, statistics), of in found.cells.groupby(
        ["setting", "ratio", "fusion", "statistics"], sort=False
    ):
        first = [setting or "–", f"{ratio:g}", names[fusion], statistics, str(of["n"].max())]
        cells.append(first + [units.shown(row) or "–" for row in of.to_dict("records")])
    measures = list(dict.fromkeys(found.effects["measure"]))
    for (setting, ratio, effect), of in found.effects.groupby(
        ["setting", "ratio", "effect"], sort=False
    ):
        tested = {row["measure"]: _tested(row) for row in of.to_dict("records")}
        first = [setting or "–", f"{ratio:g}", effect, str(of["units"].max())]
        effects.append(first + [tested.get(m, "–") for m in measures])
    head = ["setting", "p", "fusion", "BN sees", "stage 1s", *map(label, SHOWN)]
    first = tables.markdown(head, cells)
    head = ["setting", "p", "effect", "stage 1s", *map(label, measures)]
    second = tables.markdown(head, effects)
    note = (
        "Means ± standard deviations between stage 1s or, of a single one, between its stage 2s. "
        "Effects in points, with the 95 % interval of a paired t-test over stage 1s; bold where "
        "p < 0.05 after Holm's correction over one two by two."
    )
    return f"{first}\n\n{second}\n\n{note}\n\n{sentence(found.effects)}\n"


def _tested(row) -> str:
    text = tables.number(row["difference"], sign=True)
    if row["low"] == row["low"]:
        text += f" ({row['low']:+.2f} to {row['high']:+.2f})"
    elif row["within"] == row["within"]:
        text += f" ± {tables.number(row['within'])}"
    return f"**{text}**" if row["p_holm"] < 0.05 else text


def save(found: Control, folder: str | Path) -> Path:
    """Write control_cells.csv, control_effects.csv, control.md, the figure. Returns: the folder."""
    folder = resolve(folder)
    for name in ("cells", "effects"):
        content = getattr(found, name).to_csv(index=False).encode()
        write_atomic(folder / f"control_{name}.csv", content)
    write_atomic(folder / "control.md", markdown(found).encode())
    plots.save(draw(found), folder / "control")
    return folder


def draw(found: Control):
    """The figure of a two by two, or of the effects in several. Returns: an array of Axes."""
    if found.effects.groupby(["setting", "ratio"]).ngroups > 1:
        return plots.plot_effects(found.effects)
    return plots.plot_control(found.rows, found.effects)
