import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from h2t.base.errors import Error
from h2t.heads import head
from h2t.heads.features import Features
from h2t.heads.tune import folds, priors_of, refit, score, tune
from tests.heads.test_heads import few_steps, toy  # noqa: F401


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(2, 6), st.integers(0, 99))
def test_every_image_is_held_out_once_but_a_lone_one(counts, k, seed):
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    fold = folds(labels, k, seed)
    for c, n in enumerate(counts):
        own = fold[labels == c]
        assert (own == -1).all() if n == 1 else (own >= 0).all()
        sizes = [(own == r).sum().item() for r in range(k)]
        assert n == 1 or max(sizes) - min(sizes) <= 1
        assert n == 1 or all((own != r).any() for r in range(k))  # something is left to learn from


@given(st.integers(0, 999))
def test_score_is_the_accuracy_of_a_world_with_these_priors(seed):
    r = np.random.default_rng(seed)
    labels, predicted = r.integers(0, 4, 30), r.integers(0, 4, 30)
    priors = r.random(4) + 0.1
    there = [c for c in range(4) if (labels == c).any()]
    weights = sum(priors[c] for c in there)
    expected = sum(priors[c] / weights * (predicted[labels == c] == c).mean() for c in there)
    found = score(torch.tensor(predicted), torch.tensor(labels), torch.tensor(priors).float())
    assert found == pytest.approx(100 * expected, abs=1e-3)


def test_objectives():
    counts = torch.tensor([30, 10])
    assert priors_of("balanced", counts).tolist() == [0.5, 0.5]
    assert priors_of("natural", counts).tolist() == [0.75, 0.25]
    assert priors_of(np.array([1.0, 3.0]), counts).tolist() == [0.25, 0.75]
    for bad, message in (
        ("nonsense", "objective is 'nonsense'"),
        ([1.0], "must be 2 numbers"),
        ([-1, 2], "below 0"),
    ):
        with pytest.raises(Error, match=message):
            priors_of(bad, counts)


def test_tuning_cross_validates_each_setting_and_looks_at_nothing_else():
    f = toy(1)
    found, fold = tune("ce", f, k=3, seed=2), folds(f.labels, 3, 2)
    for setting, value in zip(head("ce").GRID, found.scores, strict=True):
        guess = torch.full((len(fold),), -1)
        for r in range(3):
            part = f.take((fold != r).nonzero().flatten())
            (classifier,) = head("ce").fit(part, [setting], 2)
            guess[fold == r] = classifier.logits(f.views[0, fold == r]).argmax(1)
        accuracy = np.mean([(guess[f.labels == c] == c).float().mean() for c in range(4)])
        assert value == pytest.approx(100 * accuracy, abs=2.0)  # one image may lie on a boundary
    assert found.score == max(found.scores)
    once, again = refit(found, f, [0, 0])
    assert torch.equal(once.weight, again.weight)


def test_nothing_can_be_held_out_of_single_images():
    with pytest.raises(Error, match="no class has two images"):
        tune("nearest_mean", Features(torch.eye(3)[None], torch.arange(3), 3))
