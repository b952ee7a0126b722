"""Which head is best on frozen features: all of them, tuned alike, with paired tests."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from h2t import metrics
from h2t.base import tables
from h2t.base.errors import Error
from h2t.base.progress import bar
from h2t.heads import HEADS, head
from h2t.heads.features import Classifier, Features
from h2t.heads.tune import priors_of, refit, score, tune
from h2t.study.compare import ledger
from h2t.study.compare.images import bootstrap
from h2t.study.compare.significance import corrected
from h2t.study.compare.units import ALPHA
from h2t.train.cached.bank import Bank, build_bank
from h2t.train.cached.steps import recipe_of

BASELINE = "crt"  # class-balanced re-training: what H2T adds its fusion to
SHOWN = ("score", "all", "many", "medium", "few", "ece")


@dataclass
class Comparison:
    """Rows of bank, head, seed, measures, setting, cost, and ``score``, what was asked for (%).

    ``right`` maps (bank, head) to the share of seeds (T,) that have each test image right,
    ``labels`` a bank to its test labels (T,), ``priors`` a bank to the weight of each class (C,) in
    what heads are tuned and tested for, ``fitted`` (bank, head) to the first seed's classifier.
    """

    rows: list[dict] = field(default_factory=list)
    right: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    priors: dict[str, np.ndarray] = field(default_factory=dict)
    fitted: dict[tuple[str, str], Classifier] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)


def check(names: Sequence[str]) -> None:
    """Refuse heads that are not there, or without the one that all are held against."""
    for name in names:
        head(name)
    if BASELINE not in names or len(set(names)) < 2:
        raise Error(f"heads are held against {BASELINE}; name it and at least one more")


def banks_of(runs: Sequence[str], views: int = 2, *, device: str = "auto") -> dict[str, Bank]:
    """The feature banks of runs, built where they are not there yet, by the runs' names."""
    if not runs:
        raise Error("name at least one run with a finished stage 1")
    names = [Path(run).name for run in runs]
    if len(set(names)) < len(names):
        names = runs
    banks = [build_bank(run, recipe_of(run), views, device=device) for run in runs]
    return dict(zip(names, banks, strict=True))


def compare_heads(
    banks: dict[str, Bank | list[Bank]],
    *,
    names: Sequence[str] = tuple(HEADS),
    seeds: Sequence[int] = range(5),
    objective: str | np.ndarray = "balanced",
    rounds: int = 1,
    progress: bool = True,
) -> Comparison:
    """Tune every head on training images held out, train it on all for each seed, and measure it.

    Every head is tried at as many settings; the test part is looked at once, at the end. A
    validation part of a bank's own is not used: one way to choose for all.

    Arguments: ``banks`` by what tables call them, where several splits of one set may stand in
    place of a bank, each with a seed of its own and tuned by itself; ``seeds`` of the final
    trainings; ``objective`` as of ``h2t.heads.tune.priors_of``; ``rounds`` of five folds in tuning.
    Raises: ``h2t.Error`` as ``check``, or for a head that cannot be tuned.
    """
    check(names)
    found, tuning = Comparison(), {"objective": objective, "rounds": rounds}
    splits = {k: given if isinstance(given, list) else [given] for k, given in banks.items()}
    for called, parts in splits.items():
        found.labels[called] = np.concatenate([bank.test_labels.numpy() for bank in parts])
        found.priors[called] = priors_of(objective, torch.from_numpy(parts[0].counts)).numpy()
    work = list(itertools.product(splits, names))
    for called, name in bar(work, desc="heads", unit="head", progress=progress):
        parts, right = splits[called], []
        for k, bank in enumerate(parts):
            drawn = seeds if len(parts) == 1 else [k]
            right.append(_measure(found, called, name, bank, drawn, tuning))
        found.right[called, name] = np.concatenate(right)
    return found


def _measure(
    found: Comparison, called: str, name: str, bank: Bank, seeds: Sequence[int], tuning: dict
) -> np.ndarray:
    """Tune and train one head on one bank, and add its rows. Returns: the share of seeds (T,) that
    have each test image right.
    """
    start, rows = time.perf_counter(), []
    features, factor = features_of(bank).scaled()
    labels, test, right = bank.test_labels.numpy(), bank.test * factor, []
    tuned = tune(name, features, **tuning)
    for seed, classifier in zip(seeds, refit(tuned, features, seeds), strict=True):
        logits = classifier.logits(test).numpy()
        predicted = torch.from_numpy(logits.argmax(1))
        right.append(predicted.numpy() == labels)
        found.fitted.setdefault((called, name), classifier.unscaled(factor))
        reached = score(predicted, bank.test_labels, torch.from_numpy(found.priors[called]))
        rows.append({"bank": called, "head": name, "seed": seed, "score": reached})
        rows[-1] |= metrics.summary(logits, labels, bank.counts, bank.scheme)
    same = {
        "validation": tuned.score,
        "setting": json.dumps(tuned.setting),
        "features": bank.num_features,
        "images": len(bank.labels),
        "bank_key": bank.key,
        **ledger.made_by(),
        "seconds": round((time.perf_counter() - start) / len(rows), 2),
    }
    found.rows += [row | same for row in rows]
    return np.mean(right, 0)


def features_of(bank: Bank) -> Features:
    """A bank's training part as heads take it."""
    return Features(bank.train, bank.labels, len(bank.counts), bank.lent, bank.groups)


def differences(found: Comparison) -> pd.DataFrame:
    """Every head less ``BASELINE``, on each bank: in points of the objective, with a 95 % interval
    over test images.

    Paired on the images by ``images.bootstrap``; a head counts by the mean over its seeds, so that
    seeds are not taken for images. P-values are corrected by Holm over all heads of a bank.
    """
    rows = []
    for bank, labels in found.labels.items():
        part = []
        for name in [name for b, name in found.right if b == bank and name != BASELINE]:
            moved = found.right[bank, name] - found.right[bank, BASELINE]
            low, high, p, mean = bootstrap(moved, labels, found.priors[bank])
            test = {"difference": mean, "low": low, "high": high, "p": p}
            part.append({"bank": bank, "head": name, **test})
        rows += corrected(part)
    return pd.DataFrame(rows)


def summary(found: Comparison, tests: pd.DataFrame) -> pd.DataFrame:
    """A ledger (``h2t.study.compare.ledger``), a row a bank and head: means and standard deviations
    over seeds, the difference ``over DR`` with its interval, and what the row rests on.
    """
    lines, tests = [], tests.set_index(["bank", "head"])
    for key, part in found.table.groupby(["bank", "head"], sort=False):
        line = {"bank": key[0], "head": HEADS.get(key[1], key[1])}
        for measure in SHOWN:
            values, name = part[measure].astype(float), metrics.label(measure)
            line |= {name: tables.number(values.mean()), f"{name} ±": tables.number(values.std())}
        if key in tests.index:
            line |= ledger.tested("over DR", tests.loc[key])
        line["seconds"] = f"{part['seconds'].sum():.0f}"
        first = part.iloc[0]
        line |= {k: first[k] for k in ledger.made_by()}
        line |= {"split": first["bank_key"], "seed": " ".join(map(str, part["seed"]))}
        lines.append(line)
    return pd.DataFrame(lines)


def verdict(found: Comparison, tests: pd.DataFrame) -> list[str]:
    """A sentence a bank: which heads beat DR, and whether what H2T lends matters."""
    told = []
    for bank, part in tests.groupby("bank", sort=False):
        part = part.set_index("head")
        better = part[(part["p_holm"] < ALPHA) & (part["difference"] > 0)]
        better = better.sort_values("difference", ascending=False)
        named = [f"{HEADS[h]} ({d:+.1f})" for h, d in better["difference"].items()]
        said = f"no head is shown to be better than {HEADS[BASELINE]}"
        if named:
            said = f"better than {HEADS[BASELINE]} are {', '.join(named)}"
        told.append(f"{bank}: {said}.{_on_fusion(found, bank, part)}")
    return told


def _on_fusion(found: Comparison, bank: str, part: pd.DataFrame) -> str:
    """Whether H2T is told from the best of its controls; empty where it was not compared."""
    controls = [c for c in ("h2t_balanced", "zeros", "noise", "mixup") if c in part.index]
    if "h2t" not in part.index or not controls:
        return ""
    best = part.loc[controls, "difference"].idxmax()
    own = found.right[bank, "h2t"] - found.right[bank, best]
    low, high, p, mean = bootstrap(own, found.labels[bank], found.priors[bank])
    about = f"H2T less its best control, {HEADS[best]}: {mean:+.1f} ({low:+.1f} to {high:+.1f})"
    if p >= ALPHA:
        return f" {about}: it may be regularisation alone."
    return f" {about}: {'what the head lends matters' if mean > 0 else 'the control does better'}."


def save(found: Comparison, folder: str | Path, shown: Comparison | None = None) -> Path:
    """Write heads.csv, a row a head and seed, and heads_summary.csv, the ledger of ``shown``, all
    of it if None. Returns: the folder.
    """
    ledger.save(found.table.round(4), Path(folder) / "heads.csv")
    table = summary(shown or found, differences(found))
    return ledger.save(table, Path(folder) / "heads_summary.csv").parent
