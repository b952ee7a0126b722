"""The explorer's engine: classifiers trained on a run's feature bank, and what follows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from h2t import metrics
from h2t.base import rng
from h2t.base.errors import Error
from h2t.data import samplers
from h2t.fusion import lend
from h2t.recipes.parameters import Stage2
from h2t.recipes.published import published_curve
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
# what the front end is given at most: numbers in all classifiers, in the test set's features, in
# the training set's; and what one file holds
LIVE, SAVED = 40_000_000, 1_600_000
NAMES_AT_ZERO = {"balanced": "DR", "both": "control", "none": "DR, BN fixed"}


@dataclass(frozen=True)
class State:
    """The stage-2 recipe, and the two classes to look at."""

    recipe: Stage2
    head: int
    tail: int


class Explorer:
    """A run's feature bank, and the classifiers trained on it.

    Arguments: ``run`` with data and a finished stage 1; ``recipe`` to start from and to reset to;
    ``views`` of the bank. Raises: ``h2t.Error`` with the mend where the run lacks something.
    """

    def __init__(self, run: Run | str, recipe: Stage2, *, views: int = 4):
        self.run, self.recipe = Run(run, create=False), recipe
        if recipe.stage2_method == "tau":
            nothing = "method tau trains nothing, so the explorer has no ratio to drag"
            raise Error(f"{nothing}; open it with stage2_method crt, lws or mislas")
        within(recipe)
        self.bank = bank = banking.build_bank(self.run, recipe, views)
        self.stage1, self.labels = (bank.weight, bank.bias), bank.test_labels.numpy()
        self.at_zero = NAMES_AT_ZERO[bank.bn_statistics]
        step = self.run.step("stage1")
        self.first, _ = step.outputs()  # logits under its own BN statistics
        self.published = published_curve(bank.counts, step.result["model"])
        self.limit(LIVE)
        self.pairs = self._confused()
        self.start = State(recipe, *self.pairs[0])

    def limit(self, numbers: int) -> None:
        """Have fewer positions of the slider and fewer features, where there are more numbers."""
        size, each = self.bank.weight.numel(), self.bank.num_features
        step = next((s for s in (1, 2, 5, 10, 20, 50) if 101 * size / s < numbers), 100)
        self.positions = tuple(range(0, 101, step))
        self.every = {
            "test": -(-len(self.labels) * each // numbers),
            "train": -(-len(self.bank.labels) * each // numbers),
        }

    def _confused(self) -> list[tuple[int, int]]:
        """The twelve pairs (head, tail) of which stage 1 takes the tail's images for the head's
        most often."""
        heads, tails = metrics.ends(self.bank.counts, self.bank.scheme, self.labels).values()
        taken = metrics.confusion(self.first, self.labels)[np.ix_(tails, heads)]
        order = np.argsort(-taken, axis=None, kind="stable")[:12]
        rows, columns = np.unravel_index(order, taken.shape)
        return [(int(heads[h]), int(tails[t])) for t, h in zip(rows, columns, strict=True)]

    def opening(self, head: int, tail: int) -> State:
        """The state to start from, with these classes; -1 is one that is confused with the other.

        Raises: ``h2t.Error`` for a class that is not there, or one class for both.
        """
        size = len(self.bank.counts)
        for name, c in (("head_class", head), ("tail_class", tail)):
            if c >= size:
                there = f"the run has classes 0 to {size - 1}, and -1 chooses one"
                raise Error(f"{name} is {c}; {there}")
        if 0 <= head == tail:
            raise Error(f"head_class and tail_class are both {head}; choose two different classes")
        for pair in self.pairs:
            if head in (-1, pair[0]) and tail in (-1, pair[1]):
                return State(self.recipe, *pair)
        others = [c for c in range(size) if c not in (head, tail)]
        by_count = sorted(others, key=lambda c: -self.bank.counts[c])
        largest = head if head >= 0 else by_count[0]
        smallest = tail if tail >= 0 else by_count[-1]
        return State(self.recipe, largest, smallest)

    # -- classifiers

    def fit(self, recipe: Stage2) -> tuple[torch.Tensor, torch.Tensor]:
        """The classifier (weight, bias) that a recipe trains on the bank."""
        fits = fitting.fit(self.bank, [recipe.fusion_ratio], [recipe.seed], recipe)
        return fits.weight[0, 0], fits.bias[0, 0]

    def classifiers(self, state: State) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Stage 1, the same recipe without fusion, and the current one."""
        without = dataclasses.replace(state.recipe, fusion_ratio=0.0)
        return {
            "stage 1": self.stage1,
            self.at_zero: self.fit(without),
            "current": self.fit(state.recipe),
        }

    def alike(self, recipe: Stage2, position: int) -> int:
        """How many channels a position swaps: those with one number have one classifier."""
        if recipe.fusion == "mixup":
            return position
        return int(position / 100 * (self.bank.num_features // self.bank.num_experts))

    def curve(self, recipe: Stage2, seeds: int, on_epoch: Callable[[], object] = lambda: None):
        """The ratio curve of a recipe over so many seeds, as ``Fits.table`` gives it."""
        own = range(recipe.seed, recipe.seed + seeds)
        return fitting.fit(self.bank, RATIOS, own, recipe, on_epoch=on_epoch).table()

    def predict(self, weight: torch.Tensor, bias: torch.Tensor) -> np.ndarray:
        """The classes (T,) that a classifier gives the test images."""
        bank, rows = self.bank, max(1, metrics.BLOCK // len(self.bank.counts))
        found = [bank.classify(z, weight, bias).argmax(1) for z in bank.test.split(rows)]
        return torch.cat(found).numpy()

    def save(self, recipe: Stage2, variant: str) -> str:
        """Save a recipe's classifier as a stage-2 variant of the run. Returns: what was done."""
        result = save_variant(self.run, self.bank, self.fit(recipe), recipe, variant)
        top = result["last"]["all"]
        return f"saved as {result['step']} of {self.run.path}: {top:.2f} % of all test images"

    # -- features

    def lent(self, recipe: Stage2) -> tuple[torch.Tensor, torch.Tensor]:
        """What is lent to the tail's features that are drawn (n, D), and each one's order of
        channels."""
        bank, g = self.bank, rng.torch_generator(recipe.seed, "explorer/fused")
        second = samplers.epoch(recipe.fusing_branch, bank.labels, FUSED, g)
        views = torch.randint(len(bank.lent), (FUSED,), generator=g)
        noise = rng.torch_generator(recipe.seed, "explorer/noise")
        lent = lend(bank.lent[views, second], recipe.fusion, noise)
        each = bank.num_features // bank.num_experts
        order = torch.rand(FUSED, bank.num_experts, each, generator=g)
        return lent, order.argsort(2).argsort(2).flatten(1)

    def shown(self) -> np.ndarray:
        """The test images that the front end is given: all, or as many, evenly, as it can hold."""
        return np.arange(0, len(self.labels), self.every["test"])

    @functools.cached_property
    def _images(self):
        return dataset(self.run, progress=False).test.images

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Test images (n, H, W, 3) uint8."""
        images = np.asarray(self._images[indices])
        return images if images.shape[-1] == 3 else images.repeat(3, axis=-1)


def within(recipe: Stage2) -> None:
    """Refuse what the explorer could not fit while one waits. Raises ``h2t.Error``."""
    for name, (low, high) in LIMITS.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            raise Error(f"{name} is {value}; the explorer takes {low:g} to {high:g}")
