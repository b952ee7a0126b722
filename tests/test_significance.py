"""Paired tests of groups of runs, against slow computations of their own."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error, runs
from h2t.compare import grouped
from h2t.significance import across_seeds, bootstrap, holm, mcnemar, pairwise, verdict
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
        first = [min(1, (len(there) - k) * w) for k, w in enumerate(sorted(there)) if w < v or (w == v and k == sorted(there).index(v))]
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


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.booleans())
def test_the_bootstrap_is_the_one_that_draws_images(seed, by_class):
    r = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), (10, 20, 40))
    a, b = r.random(70) < 0.7, r.random(70) < 0.55
    low, high, p = bootstrap(a, b, labels if by_class else None, draws=4000)
    drawn = []
    for _ in range(1500):
        if by_class:
            picks = [r.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in range(3)]
            drawn.append(100 * np.mean([a[i].mean() - b[i].mean() for i in picks]))
        else:
            i = r.integers(0, 70, 70)
            drawn.append(100 * (a[i].mean() - b[i].mean()))
    assert [low, high] == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=2.5)
    assert p == pytest.approx(min(1, 2 * min(np.mean(np.array(drawn) <= 0), np.mean(np.array(drawn) >= 0))), abs=0.06)


def test_equal_classifiers_do_not_differ():
    a = np.array([True, False, True, True])
    assert bootstrap(a, a) == (0.0, 0.0, 1.0) and mcnemar(a, a) == 1.0
    assert across_seeds(np.zeros(4))["p"] == 1.0


@settings(max_examples=30)
@given(st.lists(st.floats(-20, 20).map(lambda v: round(v, 3)), min_size=2, max_size=8, unique_by=abs).filter(lambda d: all(d)))
def test_t_and_wilcoxon_against_their_definitions(d):
    found = across_seeds(np.array(d))
    ranks = {v: k + 1 for k, v in enumerate(sorted(d, key=abs))}
    seen = sum(ranks[v] for v in d if v > 0)
    sums = [sum(k + 1 for k, s in enumerate(signs) if s) for signs in itertools.product((0, 1), repeat=len(d))]
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
        by = {g: part.set_index("seed")["all"] for g, part in rows[rows["setting"] == setting].groupby("group")}
        for group in by.keys() - {"DR, BN sees both"}:
            d = [by[group][s] - by["DR, BN sees both"][s] for s in range(5)]
            row = tests.loc[(setting, group)]
            assert row["pairs"] == row["stage1s"] == 5 and row["difference"] == pytest.approx(np.mean(d)) and row["test"] == "paired t across seeds"
            t = np.mean(d) / (np.std(d, ddof=1) / math.sqrt(5))
            half = np.mean(d) / t * 2.7764451
            assert row["low"] == pytest.approx(np.mean(d) - half) and again.loc[(setting, group), "p"] == pytest.approx(row["p"])
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
    rows = grouped(runs.table(tmp_path, save=False))
    tests = pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"])
    assert tests.loc[("DR + H2T", "stage 1"), "pairs"] == 1
    other = rows[(rows["stage"] == 1) | (rows["seed"] > 0)]  # stage 1 has no seed of stage 2 to be paired on
    assert pairwise(other, tmp_path, ("all",)).set_index(["group", "against"]).loc[("DR + H2T", "stage 1"), "pairs"] == 1
    assert tests.loc[("DR + H2T", "DR, BN sees both"), ["pairs", "stage1s"]].tolist() == [3, 1]
    assert "All of this rests on one stage 1" in verdict(tests.reset_index()[lambda t: t["pairs"] > 1], "all", "DR")


def test_two_single_runs_are_compared_on_their_test_images(single):
    root, table = single
    rows = grouped(table)
    tests = pairwise(rows, root, ("all", "few", "ECE"), "stage 1").set_index(["measure", "group"])
    outputs = {name: runs.Run(root / "r").step(name).outputs()[0].argmax(1) == LABELS for name in ("stage1", "stage2-h2t")}
    row = tests.loc[("all", "DR + H2T")]
    assert row["test"] == "McNemar on the test images" and row["p"] == mcnemar(outputs["stage2-h2t"], outputs["stage1"])
    few = np.isin(LABELS, np.flatnonzero(COUNTS < 20))
    row = tests.loc[("few", "DR + H2T")]
    expected = bootstrap(outputs["stage2-h2t"][few], outputs["stage1"][few], LABELS[few])
    assert (row["low"], row["high"], row["p"]) == pytest.approx(expected) and row["test"] == "bootstrap of the test images"
    assert np.isnan(tests.loc[("ECE", "DR + H2T"), "p"]) and "not an accuracy" in tests.loc[("ECE", "DR + H2T"), "test"]
    assert "One seed proves little" in verdict(tests.reset_index(), "all", "stage 1")


def test_no_seed_in_common_no_outputs_and_no_such_baseline(tmp_path):
    make_run(tmp_path / "a", 0, names=("dr",))
    make_run(tmp_path / "b", 1, names=("h2t",))
    rows = grouped(runs.table(tmp_path, save=False))
    tests = pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"])
    assert tests.loc[("DR + H2T", "DR"), "test"] == "none: no seed and split in common"
    (tmp_path / "a" / "stage2-dr" / "outputs.safetensors").unlink()
    assert pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"]).loc[("DR", "stage 1"), "test"].endswith("no saved test outputs")
    with pytest.raises(Error, match="baseline is 'x', which is not among the groups: 'stage 1'"):
        pairwise(rows, tmp_path, ("all",), "x")


def test_what_else_differs_between_two_groups_is_named(tmp_path):
    for seed in range(2):
        make_run(tmp_path / f"a{seed}", seed, names=("dr",))
        run = make_run(tmp_path / f"b{seed}", seed, names=("h2t",), revision="b" * 40)
        adopt(tmp_path / f"a{seed}", run, "stage1")
    tests = pairwise(grouped(runs.table(tmp_path, save=False)), tmp_path, ("all",)).set_index(["group", "against"])
    assert tests.loc[("DR + H2T", "DR"), "differ"] == "code revisions" and tests.loc[("DR", "stage 1"), "differ"] == ""
