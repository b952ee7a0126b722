"""Accuracy by class, confusion, weight norms and reliability show the numbers they were given."""

import numpy as np
import pandas as pd
import pytest

from h2t import metrics, plots
from tests.figures import (  # noqa: F401 (agg is a fixture)
    SIZES,
    R,
    agg,
    class_table,
    legend_texts,
    outputs,
    table_of,
    tail,
)


def test_class_accuracy():
    table = table_of(100)
    ax = plots.plot_class_accuracy(table, metrics.groups(tail(100)))
    dots = np.concatenate([c.get_offsets() for c in ax.collections])
    assert np.allclose(dots, table[["count", "accuracy"]].to_numpy())
    means = {round(float(np.asarray(line.get_ydata())[0]), 6) for line in ax.lines}
    groups = metrics.groups(tail(100))
    want = {
        round(float(rows["accuracy"].to_numpy()[g].mean()), 6)
        for _, rows in table.groupby("method")
        for g in groups.values()
    }
    assert want <= means


def test_confusion_by_group_adds_up():
    counts = tail(10)
    groups, confusion = metrics.groups(counts), R.integers(0, 50, (10, 10))
    axes = plots.plot_confusion_groups({"stage 1": confusion, "DR": confusion.T}, groups)
    few, many = groups["few"], groups["many"]
    share = 100 * confusion[np.ix_(few, many)].sum() / confusion[few].sum()
    cells = [t.get_text() for t in axes[0].texts]
    assert cells[6] == f"{share:.1f} %"


@pytest.mark.parametrize("c", SIZES)
def test_class_accuracy_is_the_dots_and_the_group_means_the_bars(c):
    table, groups = class_table(c), metrics.groups(tail(c))
    table.loc[0, "accuracy"] = np.nan  # a class without test images
    ax = plots.plot_class_accuracy(table, groups)
    for (_, rows), dots in zip(table.groupby("method", sort=False), ax.collections, strict=False):
        found = np.ma.compress_rows(np.ma.masked_invalid(dots.get_offsets()))
        assert np.array_equal(found, rows[["count", "accuracy"]].dropna().to_numpy(float))
    means = [
        np.nanmean(rows["accuracy"].to_numpy()[k])
        for _, rows in table.groupby("method", sort=False)
        for k in groups.values()
    ]
    assert [line.get_ydata()[0] for line in ax.lines] == pytest.approx(means)
    spans = sorted({tuple(line.get_xdata()) for line in ax.lines})
    assert len(spans) == 3 and all(
        a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False)
    )  # groups do not overlap
    assert ax.get_xscale() == "log"


def test_class_accuracy_names_an_empty_group():
    groups = {"many": np.array([], int), "medium": np.arange(7), "few": np.arange(7, 10)}
    ax = plots.plot_class_accuracy(class_table(10), groups)
    assert "(many: empty)" in ax.get_title(loc="left") and [t.get_text() for t in ax.texts] == [
        "medium",
        "few",
    ]


def test_confusion_by_group_is_what_a_loop_sums():
    counts = np.array([500, 300, 50, 10, 5])
    groups = metrics.groups(counts)
    confusion = np.random.default_rng(0).integers(1, 20, (5, 5))
    (ax,) = plots.plot_confusion_groups({"DR": confusion}, groups)
    share = np.asarray(ax.collections[0].get_array()).reshape(3, 3)
    for i, true in enumerate(groups.values()):
        for j, predicted in enumerate(groups.values()):
            cell = sum(confusion[a, b] for a in true for b in predicted)
            assert share[i, j] == pytest.approx(100 * cell / sum(confusion[a].sum() for a in true))
    assert ax.texts[2 * 3].get_text() == f"{share[2, 0]:.1f} %"
    right = 100 * (confusion[3, 3] + confusion[4, 4]) / (confusion[3].sum() + confusion[4].sum())
    assert ax.texts[8].get_text() == f"{share[2, 2]:.1f} %\n{right:.1f} % right"
    assert (
        ax.figure.get_suptitle()
        == f"Few taken for many: {share[2, 0]:.0f} % of the few-class test images"
    )


def test_confusion_of_an_empty_group_says_so():
    groups = {"many": np.array([], int), "medium": np.array([0, 1]), "few": np.array([2])}
    (ax,) = plots.plot_confusion_groups({"DR": np.eye(3, dtype=int)}, groups)
    assert [t.get_text() for t in ax.texts].count("empty") == 1 and not ax.figure.get_suptitle()
    assert np.ma.getmaskarray(ax.collections[0].get_array()).reshape(3, 3)[0].all()


@pytest.mark.parametrize("c", SIZES)
def test_weight_norms_are_the_dots_by_size(c):
    generator = np.random.default_rng(0)
    counts = generator.permutation(tail(c))
    norms = {m: generator.random(c) + 0.5 for m in "abcdefg"}  # more methods than colours
    ax = plots.plot_weight_norms(norms, counts)
    dots = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == c]
    for values, expected in zip(dots, norms.values(), strict=True):
        assert values.tolist() == [
            expected[k] for k in sorted(range(c), key=lambda k: (-counts[k], k))
        ]


def test_weight_norms_name_the_slope_per_tenfold_images_and_ignore_classes_without_any():
    counts = np.array([1000, 100, 10, 0])
    ax = plots.plot_weight_norms({"DR": np.array([3.0, 2.5, 2.0, 9.0])}, counts)
    assert legend_texts(ax) == ["DR (+0.50 per tenfold images)"]


def test_reliability_bars_are_the_table_and_the_title_its_error():
    logits, labels = outputs(10)
    table = metrics.calibration(logits, labels)
    full = table[table["count"] > 0]
    (ax,) = plots.plot_reliability({"DR": table})
    accuracy, share = ax.containers
    assert [b.get_height() for b in accuracy] == full["accuracy"].tolist()
    assert [b.get_x() + b.get_width() / 2 for b in accuracy] == pytest.approx(
        ((full["lower"] + full["upper"]) / 2).tolist()
    )
    assert [b.get_height() for b in share] == pytest.approx(
        (100 * full["count"] / len(labels)).tolist()
    )
    assert ax.get_title(loc="left").startswith(f"DR: ECE {metrics.ece(logits, labels):.1f} %")


@pytest.mark.parametrize("sign, tendency", [(1, "over-confident"), (-1, "under-confident")])
def test_reliability_says_on_which_side_the_error_is(sign, tendency):
    table = pd.DataFrame(
        {
            "lower": [0.0, 50.0],
            "upper": [50.0, 100.0],
            "count": [0, 9],
            "confidence": [np.nan, 75],
            "accuracy": [np.nan, 75 - 10 * sign],
        }
    )
    (ax,) = plots.plot_reliability({"DR": table})
    assert ax.get_title(loc="left") == f"DR: ECE 10.0 %,\n{tendency}"
