import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from h2t.base.errors import Error
from h2t.cli import main
from h2t.heads import sgd
from h2t.study.compare import heads, images
from h2t.train.cached.bank import Bank

FEW = ("ce", "crt", "nearest_mean", "zeros", "h2t")


def bank(seed: int = 0, d: int = 10) -> Bank:
    g = torch.Generator().manual_seed(seed)
    counts = np.array([150, 40, 12, 5])
    centre = 1.2 * torch.randn(4, d, generator=g)
    y, ty = torch.arange(4).repeat_interleave(torch.from_numpy(counts)), torch.arange(4).repeat(40)
    views = torch.randn(2, len(y), d, generator=g) + centre[y]
    test = torch.randn(len(ty), d, generator=g) + centre[ty]
    rest = dict(weight=torch.zeros(4, d), bias=torch.zeros(4), classes=tuple("abcd"))
    rest |= dict(scheme="field", scale=None, key=f"key{seed}", bn_statistics="none")
    return Bank(views, views[:1], y, test, ty, counts, **rest)


@pytest.fixture(scope="module")
def found():
    keep, sgd.STEPS = sgd.STEPS, 60
    try:
        banks = {"one": bank(0), "two": bank(1)}
        return heads.compare_heads(banks, names=FEW, seeds=(0, 1, 2), progress=False)
    finally:
        sgd.STEPS = keep


def test_a_row_a_bank_head_and_seed_with_what_it_was_made_from(found, tmp_path):
    table = found.table
    assert len(table) == 2 * len(FEW) * 3
    assert set(table["bank_key"]) == {"key0", "key1"} and table["setting"].str.startswith("{").all()
    read = pd.read_csv(heads.save(found, tmp_path) / "heads.csv")
    np.testing.assert_allclose(read["all"], table["all"], atol=1e-4)
    shown = heads.summary(found, heads.differences(found))
    one = table[(table["bank"] == "one") & (table["head"] == "ce")]["all"]
    first = shown[(shown["bank"] == "one") & (shown["head"] == "CE probe")].iloc[0]
    assert first["all"] == f"{one.mean():.2f}" and first["all ±"] == f"{one.std(ddof=1):.2f}"
    assert first["seed"] == "0 1 2" and first["split"] == "key0"


def test_differences_are_of_means_over_classes_and_seeds(found):
    tests = heads.differences(found).set_index(["bank", "head"])
    table = found.table
    for (name, head), row in tests.iterrows():
        own = table[table["bank"] == name]
        mean = own.groupby("head")["balanced"].mean()
        assert row["difference"] == pytest.approx(mean[head] - mean["crt"], abs=1e-9)
        assert row["low"] <= row["difference"] <= row["high"] and row["p_holm"] >= row["p"]


def test_two_heads_that_answer_alike_do_not_differ():
    labels, right = np.repeat([0, 1], 50), np.random.default_rng(0).random(100) < 0.7
    low, high, p, mean = images.bootstrap(right * 0.0, labels, np.ones(2) / 2)
    assert (low, high, p, mean) == (0, 0, 1, 0)


def test_no_effect_is_found_in_about_one_of_twenty():
    r, labels, wrong = np.random.default_rng(1), np.repeat(np.arange(5), 40), 0
    for _ in range(200):
        difference = (r.random(200) < 0.6) * 1.0 - (r.random(200) < 0.6)
        wrong += images.bootstrap(difference, labels, np.ones(5) / 5)[2] < 0.05
    assert 2 <= wrong <= 21


def test_sentences_follow_the_numbers():
    labels = np.repeat(np.arange(4), 100)
    made = heads.Comparison(labels={"b": labels}, priors={"b": np.ones(4) / 4})
    r = np.random.default_rng(0)
    base = r.random(400) < 0.5
    made.right = {
        ("b", "crt"): base * 1.0,
        ("b", "h2t"): np.clip(base + (r.random(400) < 0.3), 0, 1),
    }
    made.right["b", "zeros"] = base * 1.0
    (said,) = heads.verdict(made, heads.differences(made))
    assert "better than DR (cRT) are DR + H2T" in said and "what the head lends matters" in said
    made.right["b", "zeros"] = made.right["b", "h2t"]
    (said,) = heads.verdict(made, heads.differences(made))
    assert "it may be regularisation alone" in said
    made.right["b", "h2t"] = made.right["b", "zeros"] = base * 1.0
    (said,) = heads.verdict(made, heads.differences(made))
    assert "no head is shown to be better" in said


def test_a_head_or_baseline_that_is_not_there_is_named():
    with pytest.raises(Error, match="no head 'nonsense'"):
        heads.compare_heads({"one": bank()}, names=("crt", "nonsense"), progress=False)
    with pytest.raises(Error, match="held against crt; name it and at least one more"):
        heads.compare_heads({"one": bank()}, names=("h2t",), progress=False)


def test_the_figure_fills_what_holds_after_correction(found):
    from h2t import plots
    from h2t.heads import HEADS

    tests = heads.differences(found)
    axes = plots.plot_head_gains(tests, HEADS, HEADS["crt"])
    assert [ax.get_title(loc="left") for ax in axes] == ["one", "two"]
    for ax in axes:
        part = tests[tests["bank"] == ax.get_title(loc="left")]
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        filled = sum(line.get_markerfacecolor() != "white" for line in dots)
        assert len(dots) == len(part) and filled == (part["p_holm"] < 0.05).sum()


def test_some_heads_alone_can_be_asked_for():
    for only, message in (
        ("h2t", "held against crt"),
        ("crt", "at least one more"),
        ("crt,nonsense", "no head 'nonsense'"),
    ):
        bad = CliRunner().invoke(main, ["heads", "nowhere", "--only", only])
        assert bad.exit_code == 2 and message in bad.output  # before any run is opened
