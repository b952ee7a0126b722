"""Paired tests of groups of runs, against slow computations of their own."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2t
from h2t import Error
from h2t.runs import Run
from h2t.study.compare.groups import grouped, summary
from h2t.study.compare.images import mcnemar
from h2t.study.compare.significance import holm, pairwise, verdict
from h2t.study.compare.units import across
from tests import synthetic
from tests.synthetic import LABELS, adopt, make_run

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
        # ties: the step-down stops at the first of equals; later ones are at least as large
        first = [
            min(1, (len(there) - k) * w)
            for k, w in enumerate(sorted(there))
            if w < v or (w == v and k == sorted(there).index(v))
        ]
        expected.append(max(first) if first else max(steps))
    np.testing.assert_allclose(holm(p), expected)


def test_holm_on_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_equal_groups_do_not_differ():
    assert across(np.zeros(4))["p"] == 1.0


@settings(max_examples=30)
@given(
    st.lists(
        st.floats(-20, 20).map(lambda v: round(v, 3)), min_size=2, max_size=8, unique_by=abs
    ).filter(lambda d: all(d))
)
def test_t_and_wilcoxon_against_their_definitions(d):
    found = across(np.array(d))
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
    """Accuracies are counts: with two seeds the differences are often the same, and t would call
    that certain.
    """
    found = across(np.array([1.39, 1.39]))
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
            assert row["units"] == row["repeats"] == 5 and row["test"].startswith("paired t")
            assert row["difference"] == pytest.approx(np.mean(d))
            t = np.mean(d) / (np.std(d, ddof=1) / math.sqrt(5))
            half = np.mean(d) / t * 2.7764451
            assert row["low"] == pytest.approx(np.mean(d) - half) and again.loc[
                (setting, group), "p"
            ] == pytest.approx(row["p"])
    assert tests["p_holm"].to_numpy() == pytest.approx(holm(tests["p"])) and len(tests) == 8


def test_stage_2s_on_one_stage_1_repeat_one_observation_and_prove_nothing(tmp_path):
    base = make_run(tmp_path / "s0", 0)
    for seed in (1, 2):
        adopt(base, make_run(tmp_path / f"s{seed}", seed), "stage1")
    rows = grouped(h2t.table(tmp_path, save=False))
    tests = pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"])
    row = tests.loc[("DR + H2T", "DR, BN sees both")]
    assert (row["units"], row["repeats"], row["test"]) == (1, 3, "none: one stage 1")
    assert tests[["p", "p_holm", "p_images", "low"]].loc[("DR + H2T", "DR")].isna().all()
    means = rows.groupby("group")["all"].mean()
    assert row["difference"] == pytest.approx(means["DR + H2T"] - means["DR, BN sees both"])
    said = verdict(tests.reset_index()[lambda t: t["against"] == "DR"], "all", "DR")
    assert "points, one stage 1 with 3 stage 2s)" in said and "better" not in said
    assert said.endswith("Train more seeds of stage 1.")


def test_two_single_networks_may_differ_on_their_test_images_which_proves_nothing(single):
    root, table = single
    rows = grouped(table)
    tests = pairwise(rows, root, ("all", "few", "ece"), "stage 1").set_index(["measure", "group"])
    right = {
        name: Run(root / "r").step(name).outputs()[0].argmax(1) == LABELS
        for name in ("stage1", "stage2-h2t")
    }
    row = tests.loc[("all", "DR + H2T")]
    assert row["p_images"] == mcnemar(right["stage2-h2t"], right["stage1"]) and np.isnan(row["p"])
    assert np.isnan(tests.loc[("few", "DR + H2T"), "p_images"])
    said = verdict(tests.reset_index(), "all", "stage 1")
    assert "two networks differ on the test images: p = " in said and "better" not in said


def simulated(stage1s: int, stage2s: int, tables: int = 1500):
    """Rows of two groups that do not differ, with one measure for each of many tables: what stage
    1s add to one group and not to the other has a deviation of 0.5, what stage 2s add one of 0.12.
    """
    r = np.random.default_rng(stage1s * 10 + stage2s)
    shape = (2, stage1s, stage2s, tables)
    values = (
        50 + 0.5 * r.normal(size=(2, stage1s, 1, tables)) / 2**0.5 + 0.12 * r.normal(size=shape)
    )
    values = pd.DataFrame(values.reshape(-1, tables), columns=[f"m{k}" for k in range(tables)])
    index = np.indices(shape[:3]).reshape(3, -1)
    rows = {"setting": "", "group": [f"g{k}" for k in index[0]], "unit": index[1].astype(str)}
    rows["seed"] = index[2]
    return pd.concat([pd.DataFrame(rows), values], axis=1), list(values)


@pytest.mark.parametrize("shape", [(2, 5), (3, 5), (5, 5), (5, 1)], ids=str)
def test_without_an_effect_one_test_in_twenty_finds_one_however_many_stage_2s_there_are(shape):
    """Counted by stage 2s, 2 x 5 finds an effect in 48 of 100 tables."""
    rows, measures = simulated(*shape)
    tests = pairwise(rows, ".", measures)
    assert set(tests["units"]) == {shape[0]}
    assert (tests["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    found = summary(rows[rows["group"] == "g0"], measures)
    covered = (found["low"] < 50) & (found["high"] > 50)
    assert covered.mean() == pytest.approx(0.95, abs=0.015)


def test_with_one_stage_1_nothing_is_ever_significant():
    rows, measures = simulated(1, 5, 50)
    tests = pairwise(rows, ".", measures)
    assert tests["p"].isna().all() and tests["p_holm"].isna().all()
    assert summary(rows, measures)["low"].isna().all()


def test_no_seed_in_common_no_outputs_and_no_such_baseline(tmp_path):
    make_run(tmp_path / "a", 0, names=("dr",))
    make_run(tmp_path / "b", 1, names=("h2t",))
    rows = grouped(h2t.table(tmp_path, save=False))
    tests = pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"])
    assert tests.loc[("DR + H2T", "DR"), "test"] == "none: no stage 1 and split in common"
    (tmp_path / "a" / "stage2-dr" / "outputs.safetensors").unlink()
    tests = pairwise(rows, tmp_path, ("all",)).set_index(["group", "against"])
    assert np.isnan(tests.loc[("DR", "stage 1"), "p_images"])
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


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        (2.6, "DR + H2T is better (+"),
        (1.1, "no difference is shown"),
        (0.3, "DR + H2T is worse (-"),
    ],
)
def test_fusion_is_called_better_or_worse_where_it_is_and_neither_where_it_is_not(
    tmp_path, quality, says
):
    """What notebook 06 and a sweep end with."""
    for seed in range(5):
        names = ("dr-both", "h2t")
        make_run(tmp_path / str(seed), seed, names=names, quality={"stage2-h2t": quality})
    rows = grouped(h2t.table(tmp_path, save=False))
    against = "DR, BN sees both"
    rows = rows[rows["stage"] == 2]
    said = verdict(pairwise(rows, tmp_path, ("all",), against), "all", against)
    assert said.startswith(f"all, against {against}: ") and says in said and "5 stage 1s" in said
    assert ("better" in said) == (quality == 2.6) and ("worse" in said) == (quality == 0.3)
