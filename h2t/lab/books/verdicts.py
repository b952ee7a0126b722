"""What the notebooks say about their numbers, computed from them: each sentence holds on any data.

A change is a pair (points, error): the mean over classes of the change in their accuracy, and its
standard error on the test images, paired image by image. Two errors are the limit of what these test
images tell from chance, for these two networks; what other seeds would give is another question.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from h2t import metrics
from h2t.recipes.parameters import Stage2

Change = tuple[float, float]


def control_of(config: Stage2) -> str:
    """The step that a fused one is held against: the same stage 2, BN statistics included, at p = 0."""
    return "stage2-dr-both" if config.bn_statistics == "both" else "stage2-dr"


def change(before, after, classes: Sequence[int] | None = None) -> Change:
    """What happened to the accuracy of ``classes`` (default all) between two classifiers of the same images.

    Arguments: ``before`` and ``after`` (logits (N, C), labels (N,)). Returns: points and their standard error.
    """
    labels = np.asarray(before[1])
    hits = [np.asarray(logits).argmax(1) == labels for logits, _ in (before, after)]
    moved = 100.0 * (hits[1].astype(int) - hits[0].astype(int))
    tested = np.unique(labels)
    tested = tested if classes is None else np.intersect1d(tested, classes)
    own = [moved[labels == c] for c in tested]
    error = np.sqrt(sum(d.var() / len(d) for d in own)) / len(own)
    return float(np.mean([d.mean() for d in own])), float(error)


def real(moved: Change) -> bool:
    """Whether a change is more than twice its error."""
    return abs(moved[0]) > 2 * moved[1]


def show(moved: Change, digits: int = 1) -> str:
    """A change as tables and sentences have it."""
    return f"{moved[0]:+.{digits}f} ± {moved[1]:.{digits}f}"


def changes(outputs: dict, counts, scheme: str) -> pd.DataFrame:
    """What each step did to each group: a row for each of ``outputs`` but the first, against the one before it."""
    groups = metrics.groups(counts, scheme)
    labels = np.asarray(next(iter(outputs.values()))[1])
    parts = {g: c for g, c in groups.items() if np.isin(labels, c).any()} | {"all classes": None}
    names = list(outputs)
    rows = {
        f"{a} → {b}": {g: show(change(outputs[a], outputs[b], c)) for g, c in parts.items()}
        for a, b in zip(names, names[1:], strict=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def fusion(control, fused, counts, scheme: str) -> str:
    """Who gains and who pays when channels are fused: ``fused`` against its ``control`` (``control_of``)."""
    (head, heads), (tail, tails) = metrics.ends(counts, scheme, control[1]).items()
    gain, cost = change(control, fused, tails), change(control, fused, heads)
    return (
        f"Fusion alone, against the same stage 2 without it, moves the {tail} classes by "
        f"{show(gain)} points and the {head} classes by {show(cost)}: {_who_pays(gain, cost)}."
    )


def _who_pays(tail: Change, head: Change) -> str:
    if not real(tail) and not real(head):
        return "no more than chance on these test images"
    words = {0: "is not moved", 1: "gains", -1: "loses"}
    said = [words[int(np.sign(m[0])) if real(m) else 0] for m in (tail, head)]
    if said == ["gains", "loses"]:
        return "the tail gains, and the head pays"
    return f"the tail {said[0]}, and the head {said[1]} beyond chance"


def learned(logits, labels, counts, scheme: str) -> str:
    """What stage 1 can do on the head and on the tail, and whether on the tail it does more than guess."""
    accuracy, labels = metrics.per_class(logits, labels), np.asarray(labels)
    (head, heads), (tail, tails) = metrics.ends(counts, scheme, labels).items()
    images = np.bincount(labels, minlength=len(accuracy))
    mean, error = [], []
    for classes in (heads, tails):
        a, n = accuracy[classes], images[classes]
        mean.append(a.mean())
        error.append(np.sqrt((a * (100 - a) / n).sum()) / len(a))
    gap = (mean[0] - mean[1], np.hypot(*error))
    chance = 100 / len(images)
    if not real(gap):
        reading = "no difference beyond chance on so few test images"
    elif gap[0] < 0:
        reading = "here the tail is not the harder part"
    elif mean[1] - 2 * error[1] < 2 * chance:
        reading = f"it knows the head and hardly more than guesses at the tail ({chance:.1f} %)"
    else:
        reading = f"the tail is the harder part, yet far from guessed ({chance:.1f} %)"
    return (
        f"Test accuracy is {mean[0]:.1f} % on the {head} classes and {mean[1]:.1f} % on the "
        f"{tail} classes: {reading}."
    )


def agreement(both: pd.DataFrame, measure: str = "all") -> str:
    """Whether exact and cached stage 2 say the same about fusion: its effect in each, over seeds of stage 2.

    Arguments: ``both`` of ``h2t.train.cached.steps.compare``. Returns: a sentence a ratio above 0.
    """
    by = both.pivot_table(index=["kind", "seed"], columns="ratio", values=measure)
    if 0.0 not in by or len(by.columns) < 2:
        return "Fusion's effect shows where compare_ratios holds 0 and another ratio."
    lines, n = [], both["seed"].nunique()
    for ratio in [r for r in by.columns if r > 0]:
        effect = (by[ratio] - by[0.0]).groupby("kind")
        mean, sd = effect.mean(), effect.std()
        said = " and ".join(f"{mean[k]:+.2f} ± {sd[k]:.2f} ({k})" for k in ("exact", "cached"))
        gap = (mean["exact"] - mean["cached"], float(np.hypot(*sd)) / n**0.5)
        reading = "one seed has no spread" if n < 2 else "they agree within the seeds' spread"
        if n > 1 and real(gap):
            reading = f"they disagree by {abs(gap[0]):.2f}, more than the seeds' spread"
        lines.append(f"p = {ratio:g} moves {measure} by {said} points against p = 0: {reading}.")
    return "\n".join(lines)


def boundary(moved: dict[str, pd.Series], accuracy: dict[str, float], tail: str) -> str:
    """How far the boundaries between head and tail moved since stage 1, and which part of it is fusion's.

    Arguments: ``moved`` pair by pair, shares of the way towards the head, since stage 1: first the
    control's, then the fused classifier's; ``accuracy`` of the ``tail`` classes in %, the same two.
    """
    (plain, fused), (before, after) = moved, accuracy
    way = [100 * moved[name].median() for name in (plain, fused)]
    return (
        f"Since stage 1 the boundary between a head and a tail class has moved {way[0]:+.0f} % of "
        f"the way towards the head in {plain} and {way[1]:+.0f} % in {fused} (median of "
        f"{len(moved[plain])} pairs): fusion's part is {way[1] - way[0]:+.0f}. The {tail} classes "
        f"stand at {accuracy[before]:.1f} % and {accuracy[after]:.1f} %."
    )


def took(results: dict[str, dict]) -> str:
    """What training the steps cost on this machine, as they measured it."""
    spent = {n: r["seconds"] for n, r in results.items() if r.get("seconds") is not None}
    if not spent:
        return "Nothing was trained here."
    first = results[next(iter(spent))]
    each = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent.items())
    return f"Training took: {each} ({first['device']}, {first['precision']})."
