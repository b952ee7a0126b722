"""What the notebooks say about their numbers, computed from them, so that it holds on any data.

A change is (points, error): the mean over classes of the change in accuracy, and its standard error
on the test images, paired image by image. What is within two errors may be chance; other seeds move
it further.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from h2t import metrics
from h2t.base.tables import number
from h2t.recipes.parameters import Stage2

Change = tuple[float, float]


def control_of(config: Stage2) -> str:
    """The step that a fused one is held against: with the same BN statistics, at p = 0."""
    return "stage2-dr-both" if config.bn_statistics == "both" else "stage2-dr"


def change(before, after, classes=None) -> Change:
    """What two classifiers' accuracies differ by on the same images, of ``classes`` or of all.

    Arguments: ``before`` and ``after`` lists of (logits (N, C), labels (N,)), a seed each.
    """
    labels = np.asarray(before[0][1])
    was, now = (
        100 * np.mean([np.asarray(logits).argmax(1) == labels for logits, _ in seeds], 0)
        for seeds in (before, after)
    )
    moved, tested = now - was, np.unique(labels)
    tested = tested if classes is None else np.intersect1d(tested, classes)
    own = [moved[labels == c] for c in tested]
    error = sum(d.var() / len(d) for d in own) ** 0.5 / len(own)
    return float(np.mean([d.mean() for d in own])), float(error)


def real(moved: Change) -> bool:
    return abs(moved[0]) > 2 * moved[1]


def fusion(control, fused, counts, scheme: str) -> str:
    """Who gains and who pays by fusion. Arguments: as ``change``."""
    (head, heads), (tail, tails) = metrics.ends(counts, scheme, control[0][1]).items()
    gain, cost = (change(control, fused, classes) for classes in (tails, heads))
    verbs = {-1.0: "loses", 0.0: "is not moved", 1.0: "gains"}
    said = [verbs[np.sign(m[0]) * real(m)] for m in (gain, cost)]
    reading = f"beyond chance the tail {said[0]}, and the head {said[1]}"
    if not real(gain) and not real(cost):
        reading = "no more than chance on these test images"
    return (
        f"Fusion alone, against the same stage 2 at p = 0, moves the {tail} classes by "
        f"{_show(gain)} points and the {head} classes by {_show(cost)}: {reading}."
    )


def learned(logits, labels, counts, scheme: str) -> str:
    """What a network does on the head and on the tail, where it may no more than guess."""
    accuracy, images = metrics.per_class(logits, labels), np.bincount(labels, minlength=len(counts))
    (head, heads), (tail, tails) = metrics.ends(counts, scheme, labels).items()
    chance = 100 / len(counts)

    def mean(classes) -> tuple[float, float]:
        a = accuracy[classes]
        return a.mean(), (a * (100 - a) / images[classes]).sum() ** 0.5 / len(a)

    (top, top_error), (end, end_error) = mean(heads), mean(tails)
    reading = f"the tail is the harder part, yet far from guessed (chance: {chance:.1f} %)"
    if not real((top - end, np.hypot(top_error, end_error))):
        reading = "no difference beyond chance on so few test images"
    elif top < end:
        reading = "here the tail is not the harder part"
    elif end - 2 * end_error < 2 * chance:
        reading = f"it knows the head and all but guesses at the tail (chance: {chance:.1f} %)"
    return (
        f"Test accuracy is {top:.1f} % on the {head} classes and {end:.1f} % on the {tail} "
        f"classes: {reading}."
    )


def spread(rows: pd.DataFrame, by: list[str], measures: list[str]) -> pd.DataFrame:
    """Means over seeds ± standard deviation as texts; one seed alone has no deviation."""
    grouped = rows.groupby(by, sort=False)[measures]
    deviation = grouped.std().map(lambda v: number(v) and f" ± {number(v)}")
    return grouped.mean().map(number) + deviation


def boundary(moved: dict[str, pd.Series], accuracy: dict[str, float], tail: str) -> str:
    """How far the boundaries between head and tail have moved, and how much of it is fusion's.

    Arguments: ``moved`` since stage 1, pair by pair, as ``pair_table`` has it, of the control and
    of the fused classifier; ``accuracy`` of the ``tail`` classes in %, of the same two.
    """
    (control, fused), way = moved, [100 * m.median() for m in moved.values()]
    part = number(way[1] - way[0], 0, sign=True)
    return (
        f"Since stage 1 the boundary between a head and a tail class has moved {way[0]:+.0f} % of "
        f"the way to the head by {control}, {way[1]:+.0f} % by {fused} (median of "
        f"{len(moved[control])} pairs): fusion's part is {part}. The {tail} "
        f"classes stand at {accuracy[control]:.1f} and {accuracy[fused]:.1f} %."
    )


def took(results: dict[str, dict]) -> str:
    spent = {name: r for name, r in results.items() if r.get("seconds") is not None}
    each = (f"{n} {r['seconds']:.0f} s on {r['device']}" for n, r in spent.items())
    return f"Training took: {', '.join(each)}." if spent else "Nothing was trained here."


def _show(moved: Change) -> str:
    return f"{number(moved[0], 1, sign=True)} ± {moved[1]:.1f}"
