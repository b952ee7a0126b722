"""The fusion explorer's engine: a state in, everything its figures show out. No widgets and no figures here."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from h2t import metrics
from h2t.base import rng
from h2t.base.errors import Error
from h2t.data import samplers
from h2t.fusion import blend, channel_mask, lend, soft_share
from h2t.lab.explorer.boundary import Plane, plane
from h2t.lab.explorer.embedding import fit_map, place
from h2t.recipes.parameters import Stage2
from h2t.runs import Run
from h2t.train.cached import fit as fitting
from h2t.train.cached.bank import build_bank
from h2t.train.rundata import dataset

RATIOS = tuple(k / 10 for k in range(11))
FUSED_SHOWN = 60  # fused features drawn in the figures
BRANCHES = ("instance", "reversed", "balanced")


@dataclass(frozen=True)
class State:
    """What the controls are set to: the stage-2 recipe, and the two classes to look at."""

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
                "method tau trains nothing, so the explorer has no ratio to drag; open it with stage2_method crt, lws or mislas"
            )
        self.bank = build_bank(self.run, self.recipe, views, progress=progress)
        if len(self.bank.counts) < 2:
            raise Error(f"run {self.run.path} has one class; the explorer compares two")
        order = np.argsort(-self.bank.counts, kind="stable")
        self.start = State(self.recipe, int(order[0]), int(order[-1]))
        self._fits: OrderedDict[tuple, tuple] = OrderedDict()
        self._draws: tuple[Any, Any] = (None, None)
        self._fused: tuple[Any, Any] = (None, None)
        self._maps: dict[tuple, tuple] = {}
        self._images = None
        self.stage1 = (self.bank.weight, self.bank.bias)
        self.labels = self.bank.test_labels.numpy()

    def fit(self, recipe: Stage2) -> tuple[torch.Tensor, torch.Tensor]:
        """The classifier (weight, bias) that a recipe trains on the bank; the last few are kept."""
        key = dataclasses.astuple(recipe)
        if key not in self._fits:
            same = (
                recipe.seed,
                recipe.stage2_epochs,
                recipe.batch_size,
                recipe.fused_branch,
                recipe.fusing_branch,
                recipe.fusion,
            )
            if self._draws[0] != same:  # while only the ratio or the rate moves, the draws stay
                self._draws = (same, fitting.draw_all(self.bank, recipe, (recipe.seed,)))
            fits = fitting.fit(
                self.bank, [recipe.fusion_ratio], [recipe.seed], recipe, draws=self._draws[1]
            )
            self._fits[key] = (fits.weight[0, 0], fits.bias[0, 0])
            while len(self._fits) > 64:
                self._fits.popitem(last=False)
        return self._fits[key]

    def classifiers(self, state: State) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Stage 1, DR (the same recipe without fusion) and the current one."""
        dr = dataclasses.replace(state.recipe, fusion_ratio=0.0)
        return {"stage 1": self.stage1, "DR": self.fit(dr), "current": self.fit(state.recipe)}

    def logits(self, classifier) -> np.ndarray:
        """Test logits (T, C) of a classifier."""
        return fitting.classify(
            self.bank.test, *classifier, self.bank.scale, self.bank.num_experts
        ).numpy()

    def accuracy(self, logits: np.ndarray) -> tuple[np.ndarray, dict[str, float | None]]:
        """Accuracy (%) by class (C,), and of the groups and all."""
        per_class = metrics.per_class(logits, self.labels)
        means = metrics.group_means(per_class, self.bank.counts, self.bank.scheme)
        return per_class, {**means, "all": float(100 * (logits.argmax(1) == self.labels).mean())}

    def curve(self, recipe: Stage2, seeds=range(5)):
        """The ratio curve of a recipe: eleven ratios by five seeds, as ``Fits.table`` gives it."""
        return fitting.fit(self.bank, RATIOS, seeds, recipe).table()

    def fused(self, state: State) -> np.ndarray:
        """Features of the tail class after fusion at the current ratio, each with a mask of its own, (n, D)."""
        bank, recipe = self.bank, state.recipe
        key = (state.tail, recipe.seed, recipe.fusing_branch, recipe.fusion_ratio, recipe.fusion)
        if self._fused[0] != key:
            g = rng.torch_generator(recipe.seed, "explorer/fused")
            own = (bank.labels == state.tail).nonzero().flatten()
            first = own[torch.randint(len(own), (FUSED_SHOWN,), generator=g)]
            second = samplers.epoch(recipe.fusing_branch, bank.labels, FUSED_SHOWN, g)
            views = [
                torch.randint(len(views), (FUSED_SHOWN,), generator=g)
                for views in (bank.train, bank.lent)
            ]
            order = rng.torch_generator(recipe.seed, "explorer/mask")
            masks = torch.stack(
                [
                    channel_mask(bank.num_features, recipe.fusion_ratio, order, bank.num_experts)
                    for _ in range(FUSED_SHOWN)
                ]
            )
            lent = lend(
                bank.lent[views[1], second],
                recipe.fusion,
                rng.torch_generator(recipe.seed, "explorer/noise"),
            )
            z = bank.train[views[0], first]
            own = soft_share(z, bank.centres[state.tail]) if recipe.fusion == "soft" else None
            self._fused = (
                key,
                blend(z, lent, masks, recipe.fusion_ratio, recipe.fusion, own).numpy(),
            )
        return self._fused[1]

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
        """The plane of stage 1's and the current boundary, and every set of points in it."""
        drawn = plane(
            self.stage1,
            self.fit(state.recipe),
            state.head,
            state.tail,
            self.bank.scale,
            self.bank.num_experts,
        )
        return drawn, {name: drawn.project(z) for name, z in self.points(state).items()}

    def embedding(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The t-SNE map of both classes' training and test features, their labels, and the fused features placed in it."""
        key = (state.head, state.tail)
        if key not in self._maps:
            sets = [z for name, z in self.points(state).items() if name != "fused"]
            labels = np.repeat(
                [state.head, state.head, state.tail, state.tail], [len(z) for z in sets]
            )
            fitted = fit_map(np.concatenate(sets))
            self._maps = {key: (fitted, np.array(fitted), labels)}
        fitted, xy, labels = self._maps[key]
        return xy, labels, place(fitted, self.fused(state))

    def changed(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Test images gained and lost from one set of logits to another, those of the rarest classes first."""
        right = [x.argmax(1) == self.labels for x in (before, after)]
        order = np.argsort(self.bank.counts[self.labels], kind="stable")
        return tuple(order[mask[order]] for mask in (~right[0] & right[1], right[0] & ~right[1]))

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Test images (n, H, W, 3) uint8."""
        if self._images is None:
            self._images = dataset(self.run, progress=False).test.images
        images = np.asarray(self._images[indices])
        return images if images.shape[-1] == 3 else images.repeat(3, axis=-1)

    def save(self, state: State, variant: str) -> dict[str, Any]:
        """Save the current classifier as a stage-2 variant of the run. Returns: its result."""
        from h2t.train.cached.steps import save_variant

        return save_variant(self.run, self.bank, self.fit(state.recipe), state.recipe, variant)
