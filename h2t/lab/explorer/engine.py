"""The fusion explorer's engine: classifiers trained on a run's feature bank, and what follows from them. No drawing here."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from h2t import metrics
from h2t.base import rng
from h2t.base.errors import Error
from h2t.data import samplers
from h2t.fusion import blend, lend, soft_share
from h2t.lab.explorer.boundary import Plane, plane
from h2t.recipes.parameters import Stage2
from h2t.runs import Run
from h2t.train.cached import bank as banking
from h2t.train.cached import fit as fitting
from h2t.train.cached.steps import save_variant
from h2t.train.rundata import dataset

RATIOS = tuple(k / 10 for k in range(11))
SEEDS = 5  # of the ratio curve
FUSED = 60  # fused features that are drawn
BRANCHES = ("instance", "reversed", "balanced")
# What one may ask of an explorer that answers while one waits: from, to.
LIMITS = {"stage2_epochs": (1, 200), "stage2_lr": (1e-6, 10.0), "seed": (0, 2**31 - 1)}
# what the front end is given at most: numbers in all classifiers, and in the test set's features
CLASSIFIERS, FEATURES = 40_000_000, 40_000_000
NAMES_AT_ZERO = {"balanced": "DR", "both": "control", "none": "DR, BN fixed"}


@dataclass(frozen=True)
class State:
    """What is set: the stage-2 recipe, and the two classes to look at."""

    recipe: Stage2
    head: int
    tail: int

    def change(self, **values: Any) -> State:
        """A copy with other values; recipe fields are checked as everywhere. Raises ``h2t.Error``."""
        own = {k: values.pop(k) for k in ("head", "tail") if k in values}
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, **values), **own)


class Explorer:
    """A run's feature bank, the classifiers trained on it, and what follows from a ``State``.

    Arguments: ``run`` with data and a finished stage 1; ``recipe`` to start from and to reset to; ``views`` of the bank.
    Raises: ``h2t.Error`` with the mend where the run lacks something or has fewer than two classes.
    """

    def __init__(
        self, run: Run | str, recipe: Stage2 | None = None, *, views: int = 4, progress: bool = True
    ):
        self.run, self.recipe = Run(run, create=False), recipe or Stage2()
        if self.recipe.stage2_method == "tau":
            raise Error(
                "method tau trains nothing, so the explorer has no ratio to drag; "
                "open it with stage2_method crt, lws or mislas"
            )
        within(self.recipe)
        self.bank = bank = banking.build_bank(self.run, self.recipe, views, progress=progress)
        if len(bank.counts) < 2:
            raise Error(f"run {self.run.path} has one class; the explorer compares two")
        self.stage1, self.labels = (bank.weight, bank.bias), bank.test_labels.numpy()
        self.at_zero = NAMES_AT_ZERO[bank.bn_statistics]
        self.own = own_logits(self.run, self.labels)
        step = next(
            s for s in (1, 2, 5, 10, 20, 50, 100) if 101 * bank.weight.numel() / s < CLASSIFIERS
        )
        self.positions = tuple(range(0, 101, step))
        self.pairs = self._confused()
        self.start = State(self.recipe, *self.pairs[0])
        self._fits: OrderedDict[tuple, tuple] = OrderedDict()
        self._images = None

    def _confused(self, most: int = 12) -> list[tuple[int, int]]:
        """Pairs of a head and a tail class, those first of which stage 1 takes the tail's images for the head's."""
        predicted = self.own.argmax(1) if self.own is not None else self.predict(*self.stage1)
        size = len(self.bank.counts)
        confusion = np.bincount(size * self.labels + predicted, minlength=size**2)
        confusion = confusion.reshape(size, size)
        heads, tails = metrics.ends(self.bank.counts, self.bank.scheme, self.labels).values()
        taken = confusion[np.ix_(tails, heads)]
        order = np.argsort(-taken, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(order, taken.shape)
        return [(int(heads[h]), int(tails[t])) for t, h in zip(rows, columns, strict=True)]

    def opening(self, head: int = -1, tail: int = -1) -> State:
        """The state to start from, with other classes than the most confused ones. Raises ``h2t.Error`` for none such."""
        size = len(self.bank.counts)
        for name, c in (("head", head), ("tail", tail)):
            if c >= size:
                raise Error(
                    f"{name}_class is {c}; the run has classes 0 to {size - 1}, and -1 chooses one"
                )
        if head >= 0 and head == tail:
            raise Error(f"head_class and tail_class are both {head}; choose two different classes")
        fits = [(h, t) for h, t in self.pairs if head in (-1, h) and tail in (-1, t)]
        if fits:
            return self.start.change(head=fits[0][0], tail=fits[0][1])
        order = [int(c) for c in np.argsort(-self.bank.counts, kind="stable")]
        if head < 0:
            head = next(c for c in order if c != tail)
        if tail < 0:
            tail = next(c for c in reversed(order) if c != head)
        return self.start.change(head=head, tail=tail)

    # -- classifiers -----------------------------------------------------------------------------------------------

    def fit(self, recipe: Stage2) -> tuple[torch.Tensor, torch.Tensor]:
        """The classifier (weight, bias) that a recipe trains on the bank; the last few are kept."""
        key = dataclasses.astuple(recipe)
        if key not in self._fits:
            fits = fitting.fit(self.bank, [recipe.fusion_ratio], [recipe.seed], recipe)
            self._fits[key] = (fits.weight[0, 0], fits.bias[0, 0])
            while len(self._fits) > 8:
                self._fits.popitem(last=False)
        return self._fits[key]

    def classifiers(self, state: State) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Stage 1, the same recipe without fusion, and the current one."""
        without = dataclasses.replace(state.recipe, fusion_ratio=0.0)
        return {
            "stage 1": self.stage1,
            self.at_zero: self.fit(without),
            "current": self.fit(state.recipe),
        }

    def alike(self, recipe: Stage2, position: int) -> int:
        """What tells a position's classifier from others: how many channels it swaps, which several may have in common."""
        if recipe.fusion == "mixup":
            return position
        return int(position / 100 * (self.bank.num_features // self.bank.num_experts))

    def curve(self, recipe: Stage2, seeds, on_epoch: Callable[[], object] = lambda: None):
        """The ratio curve of a recipe: eleven ratios by seeds, as ``Fits.table`` gives it."""
        return fitting.fit(self.bank, RATIOS, seeds, recipe, on_epoch=on_epoch).table()

    def logits(self, classifier) -> np.ndarray:
        """Test logits (T, C) of a classifier."""
        bank = self.bank
        return fitting.classify(bank.test, *classifier, bank.scale, bank.num_experts).numpy()

    def predict(self, weight: torch.Tensor, bias: torch.Tensor) -> np.ndarray:
        """The classes (T,) that a classifier gives the test images."""
        bank, rows = self.bank, max(1, metrics.BLOCK // len(self.bank.counts))
        blocks = bank.test.split(rows)
        found = [
            fitting.classify(z, weight, bias, bank.scale, bank.num_experts).argmax(1)
            for z in blocks
        ]
        return torch.cat(found).numpy()

    def accuracy(self, logits: np.ndarray) -> tuple[np.ndarray, dict[str, float | None]]:
        """Accuracy (%) by class (C,), and of the groups and all."""
        per_class = metrics.per_class(logits, self.labels)
        means = metrics.group_means(per_class, self.bank.counts, self.bank.scheme)
        return per_class, {**means, "all": float(100 * (logits.argmax(1) == self.labels).mean())}

    # -- features --------------------------------------------------------------------------------------------------

    def lent(self, recipe: Stage2) -> tuple[torch.Tensor, torch.Tensor]:
        """What is lent to the tail's features that are drawn, (n, D), and each one's order of channels (n, D)."""
        bank, g = self.bank, rng.torch_generator(recipe.seed, "explorer/fused")
        second = samplers.epoch(recipe.fusing_branch, bank.labels, FUSED, g)
        views = torch.randint(len(bank.lent), (FUSED,), generator=g)
        noise = rng.torch_generator(recipe.seed, "explorer/noise")
        lent = lend(bank.lent[views, second], recipe.fusion, noise)
        order = torch.rand(
            FUSED, bank.num_experts, bank.num_features // bank.num_experts, generator=g
        )
        return lent, order.argsort(2).argsort(2).flatten(1)

    def fused(self, state: State) -> np.ndarray:
        """Features of the tail class after fusion at the current ratio, each with a mask of its own, (n, D)."""
        bank, recipe = self.bank, state.recipe
        lent, rank = self.lent(recipe)
        own = bank.train[0, bank.labels == state.tail]
        own = own[torch.arange(FUSED) % len(own)]
        share = soft_share(own, bank.centres[state.tail]) if recipe.fusion == "soft" else None
        swapped = int(recipe.fusion_ratio * (bank.num_features // bank.num_experts))
        return blend(own, lent, rank < swapped, recipe.fusion_ratio, recipe.fusion, share).numpy()

    def points(self, state: State) -> dict[str, np.ndarray]:
        """Features of both classes: training (first view), fused, and test."""
        bank, h, t = self.bank, state.head, state.tail
        return {
            "train head": bank.train[0, bank.labels == h].numpy(),
            "test head": bank.test[bank.test_labels == h].numpy(),
            "fused": self.fused(state),
            "train tail": bank.train[0, bank.labels == t].numpy(),
            "test tail": bank.test[bank.test_labels == t].numpy(),
        }

    def boundary(self, state: State) -> tuple[Plane, dict[str, np.ndarray]]:
        """The plane of the boundaries without fusion and with it, and every set of points in it."""
        bank, fitted = self.bank, self.classifiers(state)
        before, after = fitted[self.at_zero], fitted["current"]
        drawn = plane(before, after, state.head, state.tail, bank.scale, bank.num_experts)
        return drawn, {name: drawn.project(z) for name, z in self.points(state).items()}

    def shown(self) -> np.ndarray:
        """The test images whose features the front end is given: all, or as many of each class in turn as it can hold."""
        most = FEATURES // self.bank.num_features
        if len(self.labels) <= most:
            return np.arange(len(self.labels))
        order = np.argsort(self.labels, kind="stable")
        starts = np.searchsorted(self.labels[order], np.arange(len(self.bank.counts)))
        rank = np.empty(len(order), int)
        rank[order] = np.arange(len(order)) - starts[self.labels[order]]
        return np.sort(np.argsort(rank, kind="stable")[:most])

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Test images (n, H, W, 3) uint8."""
        if self._images is None:
            self._images = dataset(self.run, progress=False).test.images
        images = np.asarray(self._images[indices])
        return images if images.shape[-1] == 3 else images.repeat(3, axis=-1)

    def save(self, state: State, variant: str) -> dict[str, Any]:
        """Save the current classifier as a stage-2 variant of the run. Returns: its result."""
        return save_variant(self.run, self.bank, self.fit(state.recipe), state.recipe, variant)


def within(recipe: Stage2) -> None:
    """Refuse what the explorer could not fit while one waits. Raises ``h2t.Error``."""
    for name, (low, high) in LIMITS.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            raise Error(f"{name} is {value}; the explorer takes {low:g} to {high:g}")


def own_logits(run: Run, labels: np.ndarray) -> np.ndarray | None:
    """Stage 1's logits on the test set under its own statistics, as the run recorded them; None where it did not."""
    try:
        logits, own = run.step("stage1").outputs()
    except Error:
        return None
    return logits if np.array_equal(own, labels) else None
