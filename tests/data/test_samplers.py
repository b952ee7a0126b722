from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error
from h2t.data import samplers

COUNTS = [60, 20, 9, 4, 1]
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS))[
    torch.randperm(94, generator=torch.Generator().manual_seed(0))
]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def reference_probability(kind):
    """The class probabilities, written out one class at a time."""
    weight = []
    for n in COUNTS:
        if kind == "balanced" or kind == "class_aware":
            weight.append(1.0)
        elif kind == "reversed":
            weight.append(1.0 / n)
        elif kind == "square_root":
            weight.append(n**0.5)
        elif kind == "effective_number":
            per_image = 1 / sum(
                0.9999**k for k in range(n)
            )  # (1 - b) / (1 - b^n) is 1 over a geometric sum
            weight.append(per_image * n)
        else:
            weight.append(float(n))
    return [w / sum(weight) for w in weight]


@pytest.mark.parametrize("kind", samplers.SAMPLERS)
def test_classes_are_drawn_with_the_probability_of_the_method(kind):
    num = 40_000
    drawn = Counter(LABELS[samplers.epoch(kind, LABELS, num, gen(1))].tolist())
    for c, p in enumerate(reference_probability(kind)):
        spread = 5 * (p * (1 - p) / num) ** 0.5 + 4 * len(COUNTS) / num
        assert abs(drawn[c] / num - p) < spread, (kind, c, drawn[c] / num, p)


@pytest.mark.parametrize("kind", samplers.SAMPLERS)
def test_images_of_a_class_are_drawn_uniformly(kind):
    index = samplers.epoch(kind, LABELS, 30_000, gen(2))
    drawn = Counter(index[LABELS[index] == 1].tolist())
    assert len(drawn) == 20
    n = sum(drawn.values())
    chi2 = sum((k - n / 20) ** 2 / (n / 20) for k in drawn.values())
    assert chi2 < 50  # 19 degrees of freedom, p < 1e-4


@given(st.integers(1, 300), st.integers(0, 1000))
def test_instance_is_without_replacement(num, seed):
    index = samplers.epoch("instance", LABELS, num, gen(seed)).tolist()
    assert len(index) == num
    whole = num // 94 * 94
    for start in range(0, whole, 94):
        assert sorted(index[start : start + 94]) == list(range(94))
    assert len(set(index[whole:])) == num - whole


@settings(max_examples=25)
@given(st.integers(1, 200), st.integers(0, 100))
def test_class_aware_takes_four_images_of_each_class_in_turn(num, seed):
    index = samplers.epoch("class_aware", LABELS, num, gen(seed))
    classes = LABELS[index].tolist()
    assert len(classes) == num
    groups = [classes[i : i + 4] for i in range(0, num, 4)]
    assert all(len(set(g)) == 1 for g in groups)
    for start in range(0, len(groups) - 4, 5):  # every five draws visit every class once
        assert len({g[0] for g in groups[start : start + 5]}) == 5
    big = index[LABELS[index] == 0].tolist()  # without replacement until all 60 are seen
    assert len(set(big[:60])) == min(60, len(big))


@pytest.mark.parametrize("kind", samplers.SAMPLERS)
def test_the_draw_depends_on_the_generator_alone(kind):
    before = torch.random.get_rng_state()
    a, b, c = (samplers.epoch(kind, LABELS, 200, gen(s)) for s in (5, 5, 6))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())


def test_unknown_kind_and_empty_class_are_refused():
    with pytest.raises(Error, match="sampler is 'fair'; choose one of instance"):
        samplers.epoch("fair", LABELS, 5, gen())
    with pytest.raises(Error, match="class 1 has no training image"):
        samplers.epoch("balanced", torch.tensor([0, 0, 2]), 5, gen())
