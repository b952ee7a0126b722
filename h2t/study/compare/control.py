"""Fusion on and off by BN statistics of the balanced stream and of both: what does which.

The published H2T run fuses and normalises the test set with statistics of both streams, the
published DR run does neither, so that their difference mixes two effects. With all four cells they
come apart.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from h2t import metrics, plots
from h2t.base.errors import Error
from h2t.base.files import resolve, write_atomic
from h2t.base.tables import number
from h2t.metrics import label
from h2t.runs import Run
from h2t.study.compare import ledger, units
from h2t.study.compare.groups import METHOD, SETTING, named, spreads
from h2t.study.compare.significance import corrected
from h2t.study.compare.table import exact_stage2s, table
from h2t.study.compare.units import ALPHA

MEASURES = ("all", "many", "medium", "few")
SHOWN = (*MEASURES, "ece")
CELLS = tuple(itertools.product((False, True), ("balanced", "both")))  # fusion, statistics
# weights of these cells in an effect; where one is missing, in what the others tell
EFFECTS = {
    "fusion": (-0.5, -0.5, 0.5, 0.5),
    "statistics": (-0.5, 0.5, -0.5, 0.5),
    "interaction": (1, -1, -1, 1),
}
PARTS = {
    "fusion, BN sees both": (0, -1, 0, 1),
    "fusion, BN sees balanced": (-1, 0, 1, 0),
    "statistics, no fusion": (-1, 1, 0, 0),
    "statistics, fusion": (0, 0, -1, 1),
}
_CELL = ["setting", "ratio", "fusion", "statistics"]
_APART = {"fusion", "fusion_ratio", "bn_statistics"}  # what the cells differ in, and nothing else
_TRAIN = "train runs with `-p control true`, which have all four cells"


class Control(NamedTuple):
    """``rows`` one for each stage 2: setting, ratio, unit, seed, fusion, statistics, measures in %;
    ``cells`` their means, with the columns of ``units.Spread``; ``effects`` as
    ``significance.pairwise`` has differences.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame
    effects: pd.DataFrame


def control(root: str | Path, ratio: float | None = None) -> Control:
    """The two by two of every setting (imbalance factor, weight decay, ...) and fusion ratio.

    Effects are taken and tested unit by unit (``h2t.study.compare.units``): ``fusion`` and
    ``statistics``, each the mean over both values of the other, and ``interaction``, how much more
    the statistics do where features are fused; where a cell is missing, what the others allow.
    P-values are corrected by Holm within each two by two.

    Arguments: ``root`` a folder of runs, of which only exact stage 2s count; ``ratio`` one fusion
    ratio, else all there are. Raises: ``h2t.Error`` where there are no two cells.
    """
    return summarise(rows_of(root), ratio)


def rows_of(root: str | Path):
    """The stage 2s under a folder as rows of ``Control``, without a ratio: p = 0 belongs to all."""
    rows = exact_stage2s(table(root, save=False))
    if len(rows):
        fits = (rows["fusion_ratio"] == 0) | (rows["fusion"] == "swap")
        rows = rows[fits & (rows["stage2_method"] != "tau") & (rows["bn_statistics"] != "none")]
    if rows.empty:
        what = "no finished exact stage 2 with BN statistics, fused by swap or not at all"
        raise Error(f"{resolve(root)} holds {what}; {_TRAIN}")
    known = [c for c in (*SETTING, *METHOD) if c in rows and c not in _APART]
    varying = [c for c in known if rows[c].map(str).nunique() > 1]
    settings = [named(row, varying) for row in rows.to_dict("records")]
    rows = rows.assign(setting=settings, statistics=rows["bn_statistics"], unit=units.of(rows))
    own = [c for c in ledger.BASIS if c in rows and c != "seed"]
    return rows[["setting", "fusion_ratio", "statistics", "unit", "seed", *SHOWN, *own]]


def cached_rows(run, ratio=0.25, seeds=range(5), *, views=4, overrides=None, progress=True):
    """All four cells of one stage 1 by the cached stage 2: minutes where exact ones take hours.

    Arguments: ``views`` in each of its two feature banks; ``overrides`` of the run's recipe.
    Returns: rows as those of ``rows_of``.
    """
    from h2t.train.cached.bank import build_bank
    from h2t.train.cached.fit import fit
    from h2t.train.cached.steps import recipe_of
    from h2t.train.device import pick_device, precision_of

    run, found, device = Run(run, create=False), [], pick_device()
    first = table(run.path, save=False).iloc[0]
    own = {"setting": "cached", "unit": run.path.name, **ledger.made_by(str(device))}
    own |= {c: first[c] for c in ("stage1_seed", "split", "stage1_weights", "source") if c in first}
    for statistics in ("balanced", "both"):
        config = dataclasses.replace(recipe_of(run, overrides), bn_statistics=statistics)
        bank = build_bank(run, config, views, progress=progress)
        fits, labels = fit(bank, (0.0, ratio), seeds, config), bank.test_labels.numpy()
        own |= {"statistics": statistics, "precision_used": precision_of(device, config.precision)}
        for r, p in enumerate(fits.ratios):
            for s, seed in enumerate(fits.seeds):
                logits = fits.logits(r, s).numpy()
                last = metrics.summary(logits, labels, bank.counts, bank.scheme)
                cell = {"fusion_ratio": p, "seed": seed, **{m: last[m] for m in SHOWN}}
                found.append({**own, **cell})
    return pd.DataFrame(found).astype({m: float for m in SHOWN})


def summarise(rows, ratio: float | None = None) -> Control:
    """Cells and effects of rows, as ``control`` says."""
    there = sorted(rows["fusion_ratio"].unique())
    ratios = [p for p in there if p > 0 and ratio in (None, p)]
    if not ratios and ratio is not None:
        listed = ", ".join(f"{p:g}" for p in there)
        raise Error(f"there is no stage 2 at fusion ratio {ratio:g}; there are {listed}")
    rows = rows.assign(fusion=rows["fusion_ratio"] > 0)
    parts = [rows[rows["fusion_ratio"].isin([0.0, p])].assign(ratio=p) for p in ratios or [0.0]]
    rows = pd.concat(parts).drop(columns="fusion_ratio")
    rows, found = rows.sort_values(_CELL, kind="stable", ignore_index=True), []
    for (setting, p), part in rows.groupby(["setting", "ratio"], sort=False):
        tests = [test for measure in MEASURES for test in _effects(part, measure)]
        found += [{"setting": setting, "ratio": p, **test} for test in corrected(tests)]
    if not found:
        raise Error(f"there are no two cells to compare; {_TRAIN}")
    return Control(rows, spreads(rows, _CELL, SHOWN), pd.DataFrame(found))


def _effects(part, measure: str) -> list[dict]:
    """The effects on one measure that the cells of one two by two allow."""
    value = part.dropna(subset=[measure]).pivot_table(
        index=["unit", "seed"], columns=["fusion", "statistics"], values=measure
    )
    rows = []
    for name, weights in (EFFECTS if len(value.columns) == len(CELLS) else PARTS).items():
        used = {c: w for c, w in zip(CELLS, weights, strict=True) if w}
        if not set(used) <= set(value.columns):
            continue
        d = sum(w * value[c] for c, w in used.items()).dropna()
        if len(d):
            over = units.spread(d, d.index.get_level_values("unit"))
            row = {"effect": name, "measure": measure, "units": over.n, "repeats": over.repeats}
            row |= {"difference": over.mean, "within": over.within}
            rows.append(row | units.across(d.groupby("unit").mean()))
    return rows


def sentence(effects) -> str:
    """What of the effects survives Holm's correction, a line for each two by two."""
    lines = []
    for (setting, ratio), part in effects.groupby(["setting", "ratio"], sort=False):
        said = [f"{e}: {_said(of)}" for e, of in part.groupby("effect", sort=False)]
        rests = units.counted(part["units"].max(), part["repeats"].max())
        where = f"{setting}, " if setting else ""
        lines.append(f"{where}p = {ratio:g} ({rests}): {'; '.join(said)}.")
    return "\n".join([*lines, units.ALONE] if (effects["units"] == 1).any() else lines)


def _said(effect) -> str:
    sure = effect[effect["p_holm"] < ALPHA]
    if sure.empty and effect["p"].notna().any():
        return "nothing beyond the noise"
    shown = effect.head(1) if sure.empty else sure
    moved = zip(shown["measure"], shown["difference"], strict=True)
    said = ", ".join(f"{m} {number(d, 1, sign=True)}" for m, d in moved) + " points"
    return f"{said}, not tested" if sure.empty else said


def sheets(found: Control):
    """Cells and effects as two tables of ``ledger``."""
    names, cells, effects = {False: "no (DR)", True: "yes (H2T)"}, [], []
    for keys, of in found.cells.groupby(_CELL, sort=False):
        setting, ratio, fusion, statistics = keys
        row = {"setting": setting, "p": f"{ratio:g}", "fusion": names[fusion]}
        row |= {"BN sees": statistics, "stage 1s": str(of["n"].max())}
        for cell in of.to_dict("records"):
            row |= ledger.cells(label(cell["measure"]), cell)
        cells.append(row | ledger.basis(_part(found.rows, *keys)))
    for keys, of in found.effects.groupby(["setting", "ratio", "effect"], sort=False):
        row = {"setting": keys[0], "p": f"{keys[1]:g}", "effect": keys[2]}
        row["stage 1s"] = str(of["units"].max())
        for test in of.to_dict("records"):
            name = label(test["measure"])
            row |= {name: "", f"{name} ±": number(test["within"])} | ledger.tested(name, test)
        effects.append(row | ledger.basis(_part(found.rows, *keys[:2])))
    return pd.DataFrame(cells), pd.DataFrame(effects)


def _part(rows, *keys):
    for name, key in zip(_CELL, keys, strict=False):
        rows = rows[rows[name] == key]
    return rows


def markdown(found: Control) -> str:
    """Both ``sheets``, how to read them, and what may be said."""
    first, second = map(ledger.markdown, sheets(found))
    note = (
        "Means ± standard deviations between stage 1s or, of a single one, between its stage 2s. "
        "Effects in points, with the 95 % interval of a paired t-test over stage 1s; bold where "
        "p < 0.05 after Holm's correction over one two by two."
    )
    return f"{first}\n\n{second}\n\n{note}\n\n{sentence(found.effects)}\n"


def save(found: Control, folder: str | Path) -> Path:
    """Write control.md and figures. Returns: the folder."""
    folder = resolve(folder)
    write_atomic(folder / "control.md", markdown(found).encode())
    draw(found, folder / "control")
    return folder


def draw(found: Control, path: Path) -> None:
    """Save a figure of each two by two; ``path`` without ending, numbered from the second on."""
    for k, (keys, rows) in enumerate(found.rows.groupby(["setting", "ratio"], sort=False)):
        axes = plots.plot_control(rows, _part(found.effects, *keys))
        plots.save(axes, path.with_name(f"{path.name}_{k}") if k else path)
