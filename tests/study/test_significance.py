"""Paired tests of groups of runs, against slow computations of their own."""

import itertools
import json
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2t
from h2t import Error, runs
from h2t.study.compare.groups import grouped
from h2t.study.compare.significance import across_seeds, bootstrap, holm, mcnemar, pairwise, verdict
from tests import synthetic
from tests.synthetic import COUNTS, LABELS, adopt, make_run

many, single = synthetic.many, synthetic.single  # fixtures


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_is_the_definition(p):
    there = [v for v in p if not math.isnan(v)]
    expected = []
    for v in p:
        if math.isnan(v):
            expected.append(math.nan)
            continue
        steps = [min(1, (len(there) - k) * w) for k, w in enumerate(sorted(there)) if w <= v]
        # ties: the step-down stops at the first of equals, and the running maximum makes later ones at least as large
        first = [
            min(1, (len(there) - k) * w)
            for k, w in enumerate(sorted(there))
            if w < v or (w == v and k == sorted(there).index(v))
        ]
        expected.append(max(first) if first else max(steps))
    np.testing.assert_allclose(holm(p), expected)


def test_holm_on_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
def test_mcnemar_is_the_sign_test_counted_out(only_a, only_b, both):
    a = np.array([True] * only_a + [False] * only_b + [True] * both, bool)
    b = np.array([False] * only_a + [True] * only_b + [True] * both, bool)
    n, k = only_a + only_b, min(only_a, only_b)
    exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(a, b) == pytest.approx(exact)


def bootstrapped(a, b, labels):
    """The distribution of the bootstrap, exactly: a resample's difference is a sum of independent draws, so it is convolved,
    class by class. Returns: all values in points, ascending, and their probabilities."""
    difference, values = a.astype(int) - b.astype(int), {Fraction(0): 1.0}
    for c in set(labels.tolist()):
        own = difference[labels == c]
        for _ in own:
            sums: dict[Fraction, float] = {}
            for value, p in values.items():
                for k in (-1, 0, 1):
                    if (own == k).any():
                        step = value + Fraction(100 * k, len(own) * len(set(labels.tolist())))
                        sums[step] = sums.get(step, 0.0) + p * (own == k).mean()
            values = sums
    return np.array([float(v) for v in sorted(values)]), np.array(
        [values[v] for v in sorted(values)]
    )


@settings(max_examples=10)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 1)), min_size=1, max_size=5))
def test_the_exact_bootstrap_is_every_resample_counted_once(images):
    a, b, labels = (np.array(x) for x in zip(*images, strict=True))
    groups = [np.flatnonzero(labels == c) for c in sorted(set(labels.tolist()))]
    counted = Counter()
    for picks in itertools.product(*(itertools.product(g, repeat=len(g)) for g in groups)):
        counted[
            round(100 * np.mean([a[list(i)].mean() - b[list(i)].mean() for i in picks]), 9)
        ] += 1
    values, p = bootstrapped(a, b, labels)
    assert {round(v, 9): q for v, q in zip(values, p, strict=True)} == pytest.approx(
        {v: n / counted.total() for v, n in counted.items()}
    )


@settings(max_examples=12)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.lists(st.sampled_from([5, 10, 20]), min_size=2, max_size=3),
    st.sampled_from([0.45, 0.55, 0.7]),
)
def test_the_bootstrap_draws_from_its_exact_distribution(seed, by_class, sizes, skill):
    """What n draws count below any point is off by more than sqrt(ln(2 / delta) / 2n) with a probability below delta (Dvoretzky,
    Kiefer and Wolfowitz 1956, Massart 1990); delta is 1e-9 here, so that chance alone does not fail this test."""
    r, draws = np.random.default_rng(seed), 300_000
    labels = np.repeat(np.arange(len(sizes)), sizes)
    a, b = r.random(len(labels)) < 0.7, r.random(len(labels)) < skill
    low, high, p = bootstrap(a, b, labels if by_class else None, draws=draws, seed=seed)
    values, probability = bootstrapped(a, b, labels if by_class else np.zeros_like(labels))

    def below(x):  # and at x
        return probability[values <= x].sum()

    off = (
        math.sqrt(math.log(2 / 1e-9) / (2 * draws)) + 2 / draws
    )  # and the interpolation of a quantile
    for end, quantile in ((low, 0.025), (high, 0.975)):
        assert below(end - 1e-6) <= quantile + off and below(end + 1e-6) >= quantile - off
    exact = min(1, 2 * min(below(1e-6), 1 - below(-1e-6)))
    assert p == pytest.approx(exact, abs=2 * off)


def test_equal_classifiers_do_not_differ():
    a = np.array([True, False, True, True])
    assert bootstrap(a, a) == (0.0, 0.0, 1.0) and mcnemar(a, a) == 1.0
    assert across_seeds(np.zeros(4))["p"] == 1.0


@settings(max_examples=30)
@given(
    st.lists(
        st.floats(-20, 20).map(lambda v: round(v, 3)), min_size=2, max_size=8, unique_by=abs
    ).filter(lambda d: all(d))
)
def test_t_and_wilcoxon_against_their_definitions(d):
    found = across_seeds(np.array(d))
    ranks = {v: k + 1 for k, v in enumerate(sorted(d, key=abs))}
    seen = sum(ranks[v] for v in d if v > 0)
    sums = [
        sum(k + 1 for k, s in enumerate(signs) if s)
        for signs in itertools.product((0, 1), repeat=len(d))
    ]
    one = min(np.mean([s <= seen for s in sums]), np.mean([s >= seen for s in sums]))
    assert found["p_wilcoxon"] == pytest.approx(min(1, 2 * one))
    if len(d) == 2 and np.ptp(d) > 1e-6:  # t with one degree of freedom is Cauchy's
        t = abs(np.mean(d)) / (np.std(d, ddof=1) / math.sqrt(2))
        assert found["p"] == pytest.approx(1 - 2 * math.atan(t) / math.pi, abs=1e-9)


def test_two_equal_differences_are_no_proof():
    """Accuracies are counts: with two seeds the differences are often the same, and t would call that certain."""
    found = across_seeds(np.array([1.39, 1.39]))
    assert found["p"] == 0.5 and np.isnan(found["low"])


def test_groups_are_paired_on_split_and_seeds(many):
    root, table = many
    rows = grouped(table)
    shuffled = rows.sample(frac=1, random_state=0)
    tests = pairwise(rows, root, ("all",), "DR, BN sees both").set_index(["setting", "group"])
    again = pairwise(shuffled, root, ("all",), "DR, BN sees both").set_index(["setting", "group"])
    for setting in ("IF 10", "IF 50"):
        by = {
            g: part.set_index("seed")["all"]
            for g, part in rows[rows["setting"] == setting].groupby("group")
        }
        for group in by.keys() - {"DR, BN sees both"}:
            d = [by[group][s] - by["DR, BN sees both"][s] for s in range(5)]
            row = tests.loc[(setting, group)]
            assert (
                row["pairs"] == row["stage1s"] == 5
                and row["difference"] == pytest.approx(np.mean(d))
                and row["test"] == "paired t across seeds"
            )
            t = np.mean(d) / (np.std(d, ddof=1) / math.sqrt(5))
            half = np.mean(d) / t * 2.7764451
            assert row["low"] == pytest.approx(np.mean(d) - half) and again.loc[
                (setting, group), "p"
            ] == pytest.approx(row["p"])
    assert tests["p_holm"].to_numpy() == pytest.approx(holm(tests["p"])) and len(tests) == 8


def test_several_stage_2_seeds_on_one_stage_1_are_one_pair_with_it(tmp_path):
    base = make_run(tmp_path / "s0", 0)
    for seed in (1, 2):
        run = make_run(tmp_path / f"s{seed}", seed)
        own = json.loads((run / "stage1" / "result.json").read_text())["weights_sha256"]
        adopt(base, run, "stage1")
        shared = json.loads((run / "stage1" / "result.json").read_text())["weights_sha256"]
        for params in run.glob("stage2-*/params.yaml"):
            params.write_text(params.read_text().replace(own, shared))
    rows = grouped(h2t.table(tmp_path, save=False))
    tests = pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"])
    assert tests.loc[("DR + H2T", "stage 1"), "pairs"] == 1
    other = rows[
        (rows["stage"] == 1) | (rows["seed"] > 0)
    ]  # stage 1 has no seed of stage 2 to be paired on
    assert (
        pairwise(other, tmp_path, ("all",))
        .set_index(["group", "against"])
        .loc[("DR + H2T", "stage 1"), "pairs"]
        == 1
    )
    assert tests.loc[("DR + H2T", "DR, BN sees both"), ["pairs", "stage1s"]].tolist() == [3, 1]
    assert "All of this rests on one stage 1" in verdict(
        tests.reset_index()[lambda t: t["pairs"] > 1], "all", "DR"
    )


def test_two_single_runs_are_compared_on_their_test_images(single):
    root, table = single
    rows = grouped(table)
    tests = pairwise(rows, root, ("all", "few", "ece"), "stage 1").set_index(["measure", "group"])
    outputs = {
        name: runs.Run(root / "r").step(name).outputs()[0].argmax(1) == LABELS
        for name in ("stage1", "stage2-h2t")
    }
    row = tests.loc[("all", "DR + H2T")]
    assert row["test"] == "McNemar on the test images" and row["p"] == mcnemar(
        outputs["stage2-h2t"], outputs["stage1"]
    )
    few = np.isin(LABELS, np.flatnonzero(COUNTS < 20))
    row = tests.loc[("few", "DR + H2T")]
    expected = bootstrap(outputs["stage2-h2t"][few], outputs["stage1"][few], LABELS[few])
    assert (row["low"], row["high"], row["p"]) == pytest.approx(expected) and row[
        "test"
    ] == "bootstrap of the test images"
    assert (
        np.isnan(tests.loc[("ece", "DR + H2T"), "p"])
        and "not an accuracy" in tests.loc[("ece", "DR + H2T"), "test"]
    )
    assert "One seed proves little" in verdict(tests.reset_index(), "all", "stage 1")


def test_no_seed_in_common_no_outputs_and_no_such_baseline(tmp_path):
    make_run(tmp_path / "a", 0, names=("dr",))
    make_run(tmp_path / "b", 1, names=("h2t",))
    rows = grouped(h2t.table(tmp_path, save=False))
    tests = pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"])
    assert tests.loc[("DR + H2T", "DR"), "test"] == "none: no seed and split in common"
    (tmp_path / "a" / "stage2-dr" / "outputs.safetensors").unlink()
    assert (
        pairwise(rows, tmp_path, ("all",))
        .set_index(["group", "against"])
        .loc[("DR", "stage 1"), "test"]
        .endswith("no saved test outputs")
    )
    with pytest.raises(Error, match="baseline is 'x', which is not among the groups: 'stage 1'"):
        pairwise(rows, tmp_path, ("all",), "x")


def test_what_else_differs_between_two_groups_is_named(tmp_path):
    for seed in range(2):
        make_run(tmp_path / f"a{seed}", seed, names=("dr",))
        run = make_run(tmp_path / f"b{seed}", seed, names=("h2t",), revision="b" * 40)
        adopt(tmp_path / f"a{seed}", run, "stage1")
    tests = pairwise(grouped(h2t.table(tmp_path, save=False)), tmp_path, ("all",)).set_index(
        ["group", "against"]
    )
    assert (
        tests.loc[("DR + H2T", "DR"), "differ"] == "code revisions"
        and tests.loc[("DR", "stage 1"), "differ"] == ""
    )
