"""Groups, averages, tests and the table to paste, against slow computations of their own."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error, compare, runs
from h2t.compare import grouped, mixed, summary
from h2t.paste import paste, supported
from h2t.significance import across_seeds, bootstrap, holm, mcnemar, pairwise, verdict
from tests.synthetic import COUNTS, LABELS, adopt, make_run, sweep


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = sweep(tmp_path_factory.mktemp("many"), seeds=5, ratios=(0.1, 0.3), factors=(10.0, 50.0))
    return root, runs.table(root, save=False)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    root = tmp_path_factory.mktemp("single")
    make_run(root / "r")
    return root, runs.table(root, save=False)


# --- groups -----------------------------------------------------------------------------------------------------------


def test_groups_are_methods_with_what_varies_and_settings_are_data(many):
    rows = grouped(many[1])
    assert list(dict.fromkeys(rows["group"])) == ["stage 1", "DR", "DR, BN sees both", "DR + H2T, p = 0.1", "DR + H2T, p = 0.3"]
    assert list(dict.fromkeys(rows["setting"])) == ["IF 10", "IF 50"]
    assert set(rows.groupby(["setting", "group"]).size()) == {5} and mixed(rows) == []
    assert grouped(many[1], ["method"])["group"].value_counts()["DR + H2T"] == 20


def test_a_parameter_of_stage_1_splits_every_method_that_it_changes(tmp_path):
    for seed in range(2):
        for lr in (0.1, 0.05):
            make_run(tmp_path / f"{lr} {seed}", seed, stage1_lr=lr, names=("dr",), quality={"stage1": lr})
    groups = set(grouped(runs.table(tmp_path, save=False))["group"])
    assert groups == {"stage 1, stage1_lr 0.1", "stage 1, stage1_lr 0.05", "DR, stage1_lr 0.1", "DR, stage1_lr 0.05"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"revision": "b" * 40}, "averaged over 2 code revisions: aaaaaaaa (2), bbbbbbbb (1)"),
        ({"split_seed": 1}, "averaged over 2 training splits:"),
        ({"device": "cuda"}, "averaged over 2 devices: cpu (2), cuda (1)"),
    ],
)
def test_what_is_averaged_though_unlike_is_said(tmp_path, change, said):
    for seed in range(3):
        make_run(tmp_path / str(seed), seed, names=("dr",), **(change if seed == 2 else {}))
    rows = grouped(runs.table(tmp_path, save=False))
    assert set(rows.groupby("group").size()) == {3}
    assert len(mixed(rows)) == 1 and mixed(rows)[0].startswith("stage 1; DR: ") and said in mixed(rows)[0]


def test_another_width_is_said_and_a_parameter_outside_by_too(tmp_path):
    from safetensors.numpy import save_file

    for seed, width in enumerate((8, 8, 16)):
        run = make_run(tmp_path / str(seed), seed, names=(), model="resnet20" if seed else "resnet32")
        save_file({"head.weight": np.zeros((6, width), np.float32)}, run / "stage1" / "weights.safetensors")
    said = mixed(grouped(runs.table(tmp_path, save=False), ["method"]))
    assert any("2 widths: 8 (2), 16 (1)" in s for s in said) and any("2 models: resnet20 (2), resnet32 (1)" in s for s in said)


def test_the_same_weights_count_once_in_a_group(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", eval_every=2)  # evaluated at other times, the same network
    for name in ("stage1", "stage2-dr", "stage2-dr-both", "stage2-h2t"):
        weights = json.loads((a / name / "result.json").read_text())["weights_sha256"]
        result = json.loads((b / name / "result.json").read_text())
        (b / name / "result.json").write_text(json.dumps({**result, "weights_sha256": weights}))
    rows = grouped(runs.table(tmp_path, save=False))
    assert set(rows.groupby("group").size()) == {1}


def test_choosing(many):
    table = many[1]
    assert set(compare.choose(table, "imbalance_factor == 10 and seed < 2", ["DR"])["seed"]) == {0, 1}
    with pytest.raises(Error, match="choose = 'seed > 99' leaves none of the"):
        compare.choose(table, "seed > 99")
    for bad in ("seed >", "no_column == 1", "@x > 2"):
        with pytest.raises(Error, match=r"choose is .*cannot be read"):
            compare.choose(table, bad)
    with pytest.raises(Error, match="methods names 'H2T', which is not among the chosen runs; they have"):
        compare.choose(table, methods=["H2T"])
    with pytest.raises(Error, match="by names 'nothing'"):
        grouped(table, ["nothing"])


def test_narrow_keeps_the_baseline_and_the_best(many):
    rows = grouped(many[1])
    kept = list(dict.fromkeys(compare.narrow(rows, "all", "stage 1", 2)["group"]))
    means = rows.groupby("group")["all"].mean()
    assert set(kept) == {"stage 1", means.idxmax()} and means.idxmax() != "stage 1"


# --- averages ---------------------------------------------------------------------------------------------------------


def test_means_and_intervals_are_those_of_a_slow_computation(many):
    rows = grouped(many[1])
    table = summary(rows, ("all", "few")).set_index(["setting", "group", "measure"])
    for (setting, group), part in rows.groupby(["setting", "group"]):
        x = [float(v) for v in part["few"]]
        mean = sum(x) / 5
        std = math.sqrt(sum((v - mean) ** 2 for v in x) / 4)
        row = table.loc[(setting, group, "few")]
        assert row["n"] == 5 and row["mean"] == pytest.approx(mean) and row["std"] == pytest.approx(std)
        half = 2.7764451 * std / math.sqrt(5)  # t(0.975, 4) of the printed tables
        assert row["low"] == pytest.approx(mean - half) and row["high"] == pytest.approx(mean + half)


def test_one_run_has_no_spread_and_an_empty_group_no_mean(single):
    rows = grouped(single[1]).assign(many=np.nan)
    table = summary(rows, ("many", "all")).set_index(["group", "measure"])
    assert table.loc[("DR", "many"), "n"] == 0 and np.isnan(table.loc[("DR", "many"), "mean"])
    assert table.loc[("DR", "all"), "n"] == 1 and np.isnan(table.loc[("DR", "all"), ["std", "low", "high"]].astype(float)).all()


# --- tests ------------------------------------------------------------------------------------------------------------


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


# --- to paste ---------------------------------------------------------------------------------------------------------


def made_up(means, p, measure="all"):
    table = pd.DataFrame([{"setting": "", "group": g, "measure": measure, "n": 5, "mean": m, "std": 0.5} for g, m in means.items()])
    pairs = [{"setting": "", "measure": measure, "group": b, "against": a, "difference": means[b] - means[a], "p": 0.01, "p_holm": p[a + b], "test": "t"} for a, b in p_pairs(means)]
    return table, pd.DataFrame(pairs)


def p_pairs(means):
    return list(itertools.combinations(means, 2))


@pytest.mark.parametrize(
    ("means", "p", "measure", "bold"),
    [
        ({"a": 50.0, "b": 52.0, "c": 48.0}, {"ab": 0.01, "ac": 0.9, "bc": 0.02}, "all", {"b"}),
        ({"a": 50.0, "b": 52.0, "c": 48.0}, {"ab": 0.06, "ac": 0.01, "bc": 0.01}, "all", set()),  # not against every other row
        ({"a": 50.0, "b": 52.0, "c": 48.0}, {"ab": math.nan, "ac": 0.01, "bc": 0.01}, "all", set()),  # one was not tested
        ({"a": 5.0, "b": 9.0, "c": 8.0}, {"ab": 0.01, "ac": 0.01, "bc": 0.9}, "ECE", {"a"}),  # lower is better
        ({"a": 50.0, "b": 52.0, "c": 48.0}, {"ab": 0.05, "ac": 0.01, "bc": 0.01}, "all", set()),
    ],
)
def test_bold_only_where_the_test_supports_it(means, p, measure, bold):
    table, tests = made_up(means, p, measure)
    assert {g for _, g, _ in supported(table, tests)} == bold
    text, tex = paste(table, tests), paste(table, tests, "latex")
    assert text.count("**") == 2 * len(bold) and tex.count(r"\textbf") == len(bold)
    for g in bold:
        assert f"| {g} | 5 | **{means[g]:.2f}** ± 0.50 |" in text and rf"{g} & 5 & \textbf{{{means[g]:.2f}}} $\pm$ 0.50 \\" in tex
    assert ("Nothing is bold" in text) == (not bold)


def test_a_single_row_is_never_bold(single):
    table = summary(grouped(single[1])[lambda r: r["group"] == "DR"], ("all",))
    tests = pairwise(grouped(single[1]), single[0], ("all",))
    assert supported(table, tests) == set() and "**" not in paste(table, tests)


def test_names_are_escaped_and_empty_groups_are_dashes():
    name = r"50% of a_b & c|d #1 {x} ~ ^ \y $"
    table = pd.DataFrame([{"setting": "", "group": g, "measure": "many", "n": n, "mean": m, "std": math.nan} for g, m, n in ((name, 5.0, 1), ("b", math.nan, 0))])
    tests = pd.DataFrame({"setting": [], "measure": [], "group": [], "against": [], "difference": [], "p": [], "p_holm": [], "test": []})
    text, tex = paste(table, tests, notes=["a_b: averaged."]), paste(table, tests, "latex", notes=["a_b: averaged."])
    row = next(line for line in tex.splitlines() if line.startswith("50"))
    assert row == r"50\% of a\_b \& c\textbar{}d \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}y \$ & 1 & 5.00 \\"
    assert r"a\_b: averaged." in tex and r"b & 0 & -- \\" in tex and "| b | 0 | – |" in text and r"c\|d" in text
    with pytest.raises(Error, match="kind is 'html'; choose markdown or latex"):
        paste(table, tests, "html")


def test_settings_are_blocks_of_the_table(many):
    rows = grouped(many[1])
    text = paste(summary(rows, ("all",)), pairwise(rows, many[0], ("all",)))
    lines = [line.split(" |")[0] for line in text.splitlines()]
    assert lines[2] == "| *IF 10*" and lines[8] == "| *IF 50*" and "corrected by Holm for 20 tests" in text


# --- curves -----------------------------------------------------------------------------------------------------------


def test_histories_are_the_lines_of_metrics(many):
    root, table = many
    rows = grouped(table)
    curves = compare.histories(rows, root)
    one = rows.iloc[7]
    lines = [json.loads(x) for x in (root / one["run"] / one["step"] / "metrics.jsonl").read_text().splitlines()]
    part = curves[(curves["run"] == one["run"]) & (curves["step"] == one["step"])]
    assert part["loss"].tolist() == [x["loss"] for x in lines] and part["all"].dropna().tolist() == [x["top1"] for x in lines if "top1" in x]
    assert set(part["group"]) == {one["group"]} and len(curves) == sum(4 if s == 1 else 3 for s in rows["stage"])


def test_a_damaged_curve_is_named_and_a_missing_one_left_out(tmp_path):
    run = make_run(tmp_path / "r", names=())
    rows = grouped(runs.table(tmp_path, save=False))
    (run / "stage1" / "metrics.jsonl").write_text('{"epoch": 1')
    with pytest.raises(Error, match="metrics.jsonl is damaged"):
        compare.histories(rows, tmp_path)
    (run / "stage1" / "metrics.jsonl").unlink()
    assert compare.histories(rows, tmp_path).empty


def test_the_ratio_table_has_the_control_at_zero_and_needs_two_ratios(many, single):
    table = compare.ratio_table(grouped(many[1]))
    assert sorted(table["ratio"].unique()) == [0, 0.1, 0.3] and set(table["method"]) == {"DR, BN sees both", "DR + H2T"}
    assert len(table) == 2 * 3 * 5
    only = grouped(single[1])
    assert sorted(compare.ratio_table(only)["ratio"]) == [0, 0.3]
    assert compare.ratio_table(only[only["method"] != "DR, BN sees both"]).empty and compare.ratio_table(only[only["stage"] == 1]).empty
