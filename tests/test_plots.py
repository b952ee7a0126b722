"""Figures show the numbers they were given, name their axes, and change no global setting."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from h2t import metrics, plots

R = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def agg():
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def tail(c):
    return np.array([max(int(500 * 0.01 ** (i / (c - 1))), 1) for i in range(c)])


def table_of(c):
    counts = tail(c)
    rows = [pd.DataFrame({"method": m, "class": range(c), "count": counts, "accuracy": R.uniform(0, 100, c)}) for m in ("stage 1", "DR")]
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize("c", [10, 100, 1000])
def test_counts(c):
    counts = tail(c)[R.permutation(c)]
    ax = plots.plot_counts(counts, metrics.groups(counts))
    assert sorted(b.get_height() for b in ax.patches) == sorted(counts) and ax.get_yscale() == "log"
    assert ax.get_xlabel() and ax.get_ylabel() == "training images"
    assert sum(int(t.get_text().split(":")[1].split()[0]) for t in ax.get_legend().get_texts()) == c


def test_an_empty_group_is_said_to_be_empty():
    counts = np.array([500, 400])
    ax = plots.plot_counts(counts, metrics.groups(counts))
    assert "few: empty" in [t.get_text() for t in ax.get_legend().get_texts()]
    bars = plots.plot_group_bars(pd.DataFrame({"many": [80.0], "medium": [np.nan], "few": [np.nan], "all": [80.0]}, index=["stage1"]))
    assert [t.get_text() for t in bars.texts] == ["80.0", "empty", "empty", "80.0"]


def test_class_accuracy():
    table = table_of(100)
    ax = plots.plot_class_accuracy(table, metrics.groups(tail(100)))
    dots = np.concatenate([c.get_offsets() for c in ax.collections])
    assert np.allclose(dots, table[["count", "accuracy"]].to_numpy())
    means = {round(float(np.asarray(line.get_ydata())[0]), 6) for line in ax.lines}
    groups = metrics.groups(tail(100))
    want = {round(float(rows["accuracy"].to_numpy()[g].mean()), 6) for _, rows in table.groupby("method") for g in groups.values()}
    assert want <= means


def test_group_bars_have_the_heights_of_the_table():
    table = pd.DataFrame(R.uniform(0, 100, (4, 4)), index=list(plots.STEPS), columns=["many", "medium", "few", "all"])
    ax = plots.plot_group_bars(table, spread=table * 0 + 2)
    assert np.allclose([b.get_height() for b in ax.patches], table.to_numpy().ravel())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(plots.STEPS.values())


def test_confusion_by_group_adds_up():
    counts = tail(10)
    groups, confusion = metrics.groups(counts), R.integers(0, 50, (10, 10))
    axes = plots.plot_confusion_groups({"stage 1": confusion, "DR": confusion.T}, groups)
    few, many = groups["few"], groups["many"]
    share = 100 * confusion[np.ix_(few, many)].sum() / confusion[few].sum()
    cells = [t.get_text() for t in axes[0].texts]
    assert cells[6] == f"{share:.1f} %"


def test_learning_curves_skip_epochs_without_evaluation():
    rows = pd.DataFrame([{"epoch": e, "lr": 0.1, "loss": 1 / e, **({"top1": 5.0 * e, "many": 9.0 * e, "few": 0.0} if e % 2 == 0 else {})} for e in range(1, 9)])
    left, right = plots.plot_learning_curves(rows)
    lines = {line.get_label().split()[0]: line for line in left.lines}
    assert set(lines) == {"many", "few", "all"} and list(lines["all"].get_xdata()) == [2, 4, 6, 8]
    assert list(right.lines[0].get_ydata()) == pytest.approx([1 / e for e in range(1, 9)])
    plots.plot_learning_curves(rows.drop(columns=["top1", "many", "few"]))


def test_the_mask_figure_shows_which_branch_each_channel_comes_from():
    a, b, mask = R.random(64), R.random(64), R.random(64) < 0.3
    axes = plots.plot_mask(a, b, mask)
    heights = np.array([bar.get_height() for bar in axes[2].patches])
    assert np.allclose(heights, np.where(mask, b, a)) and str(mask.sum()) in axes[2].get_title(loc="left")


def test_the_ratio_curve_is_mean_and_deviation_over_seeds():
    table = pd.DataFrame([{"ratio": r, "seed": s, "group": g, "accuracy": R.uniform(0, 100)} for r in (0, 0.5, 1) for s in range(5) for g in ("many", "medium", "few", "all")])
    ax = plots.plot_ratio_curve(table, plots.published_curve(), current=0.3)
    mean = table[table.group == "few"].groupby("ratio").accuracy.mean()
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 3 and line.get_color() == plots.COLOURS["few"]]
    assert np.allclose(drawn[0].get_ydata(), mean)
    circles = [line for line in ax.lines if line.get_marker() == "o" and line.get_color() == plots.COLOURS["all"]]
    assert list(circles[0].get_ydata())[0] == 45.68 and len(circles[0].get_xdata()) == 11


def test_the_boundary_figure_counts_sides():
    points = {"train tail": np.array([[1.0, 0], [-1, 0], [2, 1], [3, 1]]), "test head": np.array([[-2.0, 0], [-3, 1]])}
    lines = {"stage 1": (np.array([1.0, 0]), -1.5), "H2T": (np.array([1.0, 0.1]), 0.0)}
    ax = plots.plot_boundary(points, lines, ("cat", "dog"))
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "train tail: 50 → 75 % on the tail's side" in texts and "test head: 0 → 0 % on the tail's side" in texts


def test_reliability_and_norms_and_strip_and_map(tmp_path):
    logits, labels = R.normal(size=(200, 5)) * 2, R.integers(0, 5, 200)
    axes = plots.plot_reliability({"stage 1": metrics.calibration(logits, labels)})
    assert f"{metrics.ece(logits, labels):.1f} %" in axes[0].get_title(loc="left")
    ax = plots.plot_weight_norms({"stage 1": np.arange(1.0, 6)}, np.array([5, 4, 3, 2, 1]))
    assert list(ax.lines[0].get_ydata()) == [1, 2, 3, 4, 5]
    counts = tail(10)
    images, classes = R.integers(0, 255, (60, 8, 8, 3), dtype=np.uint8), tuple("abcdefghij")
    strips = plots.plot_strip(images, np.arange(60) % 10, counts, metrics.groups(counts), classes)
    assert all(ax.get_ylabel() for ax in strips)
    ax = plots.plot_embedding(R.normal(size=(30, 2)), np.arange(30) % 2, {0: "a", 1: "b"}, R.normal(size=(4, 2)))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a (15)", "b (15)", "fused (4)"]
    plots.plot_confusion(R.integers(0, 9, (10, 10)), classes)
    files = plots.save(ax, tmp_path / "figures" / "map")
    assert [f.name for f in files] == ["map.png", "map.pdf"] and all(f.stat().st_size > 1000 for f in files)
