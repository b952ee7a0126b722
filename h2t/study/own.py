"""Images of one's own: all heads on an encoder's features, and the best without the test part."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from h2t import plots
from h2t.base import tables
from h2t.base.errors import Error
from h2t.base.files import resolve
from h2t.heads import HEADS, head
from h2t.heads.features import Classifier
from h2t.heads.tune import OBJECTIVES, folds
from h2t.recipes.parameters import Stage1
from h2t.runs import Run
from h2t.study.compare import heads as comparing
from h2t.study.compare import ledger
from h2t.study.compare.heads import Comparison
from h2t.study.compare.overview import commands
from h2t.study.compare.units import ALPHA
from h2t.train.cached.bank import Bank, build_bank
from h2t.train.cached.encoded import VIEWS, frozen
from h2t.train.cached.steps import save_variant
from h2t.train.rundata import RunData, dataset, encoder_of, run_of

STEP = "chosen"  # the stage 2 that holds the chosen head
CHOICE = "as held-out images choose"
FOLDS = 5
SMALL = 3000  # training images; of more, one of five folds says which setting is best
SUSPECTS = 24  # images shown that are most confidently taken for another class


@dataclass(frozen=True)
class Own:
    """What came of it.

    ``classes`` a row a class: images, accuracy by a CE probe and by the chosen head (%);
    ``suspects`` training images that the other images contradict, and how much surer these are of
    another class (points of probability); ``splits`` whether several splits were compared, where
    the set has no test part of its own, and not several seeds.
    """

    found: Comparison
    chosen: str
    classes: pd.DataFrame
    suspects: pd.DataFrame
    folder: Path
    splits: bool = False

    def __str__(self) -> str:
        tests = comparing.differences(self.found)
        shown = comparing.summary(with_choice(self.found), tests).drop(columns="bank")
        chosen = shown["head"] == HEADS[self.chosen]
        shown["head"] = shown["head"].where(~chosen, shown["head"] + " *")
        over = "splits, each image tested once" if self.splits else "seeds"
        lines = [
            tables.plain(*ledger.texts(shown, strong="")),
            f"± over {self.found.table['seed'].nunique()} {over}",
            "* chosen: best on held-out training images of the split that is the run's own",
        ]
        return "\n".join([*lines, *_sentences(self, tests)])


def with_choice(found: Comparison) -> Comparison:
    """The same with rows of ``CHOICE``, on each split its best head on held-out images."""
    rows = found.table
    best = rows.loc[rows.groupby("seed")["validation"].idxmax()].assign(head=CHOICE)
    return dataclasses.replace(found, rows=[*found.rows, *best.to_dict("records")])


def priors(objective: str, classes: tuple[str, ...]) -> str | np.ndarray:
    """What counts: balanced, natural, or a file of ``class,prior`` lines as an array (C,)."""
    if objective in OBJECTIVES:
        return objective
    file = resolve(objective)
    if not file.is_file():
        either = f"give {' or '.join(OBJECTIVES)}, or a file with a line class,prior for each class"
        raise Error(f"objective is {objective!r}; {either}")
    try:
        rows = [line.rsplit(",", 1) for line in file.read_text().splitlines() if line.strip()]
        given = {name.strip(): float(value) for name, value in rows}
    except (ValueError, UnicodeDecodeError):
        raise Error(f"{file} must have lines such as `{classes[0]},0.25`, one a class") from None
    if sorted(given) != sorted(classes) or len(rows) != len(classes):
        odd = sorted(given.keys() ^ set(classes)) or ["a class that stands there twice"]
        raise Error(f"{file} must name every class once; look at {odd[0]!r}")
    return np.array([given[name] for name in classes])


def choose_head(
    run: RunData | Run | str,
    *,
    objective: str = "balanced",
    names: Sequence[str] = tuple(HEADS),
    seeds: Sequence[int] = range(5),
    device: str = "auto",
    progress: bool = True,
) -> Own:
    """Cross-validate all heads on the features of a run with an encoder, and save the best as
    ``stage2-chosen``.

    Arguments: ``objective`` as in ``priors``; ``names`` of the heads to try, ``ce``, ``crt`` and
    ``h2t`` among them; ``seeds`` of the final trainings.
    """
    data = dataset(run, progress=progress)
    if not encoder_of(data):
        raise Error(f"run {data.run.path} has no encoder; name one with `-p encoder lite0`")
    counted = priors(objective, data.classes)
    recipe = frozen(Stage1.of(data.run.step("stage1").params))
    bank = build_bank(data, recipe, VIEWS, device=device, progress=progress)
    if data.train.groups is not None:
        groups = np.unique(data.train.groups, return_inverse=True)[1]
        bank = dataclasses.replace(bank, groups=torch.from_numpy(groups))
    splits = [bank, *other_splits(bank)] if data.test_is_drawn else [bank]
    rounds = FOLDS if len(bank.labels) <= SMALL else 1
    how = dict(names=names, seeds=seeds, objective=counted, rounds=rounds, progress=progress)
    found = comparing.compare_heads({data.run.path.name: splits}, **how)
    first = found.table.groupby("head", sort=False).first()
    best = first["validation"].idxmax()
    setting = first["setting"][best]
    beside = {"chosen_head": best, "setting": setting, "validation": first["validation"][best]}
    classifier = _linear(found.fitted[data.run.path.name, best])
    save_variant(data, bank, classifier, recipe, STEP, again=True, beside=beside)
    suspects = _suspects(data, bank, best, json.loads(setting))
    classes, folder = _classes(data, bank, found, best), data.run.path / "own"
    own = Own(found, best, classes, suspects, folder, data.test_is_drawn)
    _write(data, own)
    return own


def other_splits(bank: Bank) -> list[Bank]:
    """Up to four more splits of a set whose test part was drawn: every image is in one test part.

    An image of the run's test part is seen plain alone, so that its further views repeat that one.
    """
    share = len(bank.test_labels) / (len(bank.labels) + len(bank.test_labels))
    others = max(1, min(FOLDS, round(1 / share)) - 1)
    fold, made = folds(bank.labels, others, 1, bank.groups), []
    plain, groups = bank.test.expand(len(bank.train), -1, -1), None
    for k in range(others):
        held, kept = fold == k, fold != k
        views = torch.cat([bank.train[:, kept], plain], 1)
        labels = torch.cat([bank.labels[kept], bank.test_labels])
        counts = torch.bincount(labels, minlength=len(bank.classes)).numpy()
        if bank.groups is not None:  # the test part shares none with the training part
            alone = bank.groups.max() + 1 + torch.arange(len(bank.test_labels))
            groups = torch.cat([bank.groups[kept], alone])
        test, answers = bank.train[0, held], bank.labels[held]
        parts = dict(train=views, lent=views, labels=labels, groups=groups, counts=counts)
        made.append(dataclasses.replace(bank, **parts, test=test, test_labels=answers))
    return made


def _linear(found: Classifier) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias, of a cosine head those of the linear one that answers alike."""
    if found.scale is None:
        return found.weight, found.bias
    return found.scale * torch.nn.functional.normalize(found.weight, dim=1), found.bias


def _classes(data: RunData, bank: Bank, found: Comparison, best: str) -> pd.DataFrame:
    """By class: images, and accuracy before and after, mean over seeds."""
    name = data.run.path.name
    labels, rows = found.labels[name], []
    for c, called in enumerate(data.classes):
        own = labels == c
        row = {"class": called, "training images": bank.counts[c], "test images": own.sum()}
        for tried in dict.fromkeys(("ce", best)):
            right = found.right[name, tried][own]
            row[HEADS[tried]] = 100 * right.mean() if len(right) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _suspects(data: RunData, bank: Bank, best: str, setting: dict) -> pd.DataFrame:
    """Training images that a head trained without them takes for another class most confidently."""
    features, _ = comparing.features_of(bank).scaled()
    fold = folds(bank.labels, FOLDS, 0, bank.groups)
    share = torch.full((len(fold), len(bank.counts)), float("nan"))
    for r in range(FOLDS):
        held = fold == r
        if held.any():
            (fitted,) = head(best).fit(features.take(fold != r), [setting], 0)
            share[held] = fitted.logits(features.views[0, held]).softmax(1)
    labels = bank.labels[:, None]
    own, other = share.gather(1, labels)[:, 0], share.scatter(1, labels, -1.0)
    surer = (other.max(1).values - own).nan_to_num(-1.0)
    order = [i for i in surer.argsort(descending=True)[:SUSPECTS].tolist() if surer[i] > 0]
    names = data.train.paths
    if names is None:  # of features, what their file says of each
        names = getattr(data.train.images, "names", None)
    return pd.DataFrame(
        {
            "index": order,
            "image": [f"image {i}" if names is None else str(names[i]) for i in order],
            "label": [data.classes[int(bank.labels[i])] for i in order],
            "taken for": [data.classes[int(other[i].argmax())] for i in order],
            "surer by": [round(100 * surer[i].item(), 1) for i in order],
        }
    )


def _sentences(own: Own, tests: pd.DataFrame) -> list[str]:
    """What the tests allow to say, which classes moved, which images to look at."""
    lines = comparing.verdict(own.found, tests)
    fusion = tests[tests["head"] == "h2t"].iloc[0]
    said = "H2T was not shown to help on these images, and is not recommended for them."
    if fusion["p_holm"] < ALPHA and fusion["difference"] > 0:
        said = f"H2T helps on these images: {fusion['difference']:+.1f} points over {HEADS['crt']}."
    lines.append(said)
    if own.chosen != "ce":
        classes = own.classes.set_index("class")
        moved = classes[HEADS[own.chosen]] - classes[HEADS["ce"]]
        gained, lost = moved[moved > 0].nlargest(5), moved[moved < 0].nsmallest(5)
        for what, most in (("gain", gained), ("lose", lost)):
            named = ", ".join(f"{name} {points:+.0f}" for name, points in most.items())
            lines.append(f"classes that {what} most over the CE probe: {named or 'none'}")
    if len(own.suspects):
        picture = own.folder / "suspects.png"
        lines.append(f"{len(own.suspects)} training images look mislabelled or hard: {picture}")
    return lines


def _write(data: RunData, own: Own) -> None:
    """Tables as CSV and the suspects as a picture, in the run's folder ``own``."""
    comparing.save(own.found, own.folder, with_choice(own.found))
    for name in ("classes", "suspects"):
        ledger.save(getattr(own, name), own.folder / f"{name}.csv")
    if len(own.suspects):
        images = np.asarray(data.train.images[own.suspects["index"].to_numpy()])
        axes = plots.plot_suspects(images, own.suspects)
        plots.save(axes, own.folder / "suspects")


def next_commands(run) -> str:
    """What to do now, as text that can be copied."""
    if encoder_of(run).startswith("features:"):  # there is no network that could look at images
        return commands(run_of(run), "explore RUN")
    return commands(
        run_of(run),
        f"predict RUN FOLDER_OF_NEW_IMAGES --step stage2-{STEP}",
        f"export RUN --step stage2-{STEP} --onnx",
        "explore RUN",
    )
