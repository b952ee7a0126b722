"""Counts and strips show the set they were given."""

import numpy as np
import pandas as pd
import pytest

from h2t import metrics, plots
from tests.figures import (  # noqa: F401 (agg is a fixture)
    SIZES,
    R,
    agg,
    colour_of,
    legend_texts,
    tail,
)


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
    bars = plots.plot_group_bars(
        pd.DataFrame(
            {"many": [80.0], "medium": [np.nan], "few": [np.nan], "all": [80.0]}, index=["stage1"]
        )
    )
    texts = sorted(t.get_text() for t in bars.texts)
    assert texts == ["80.0", "80.0", "empty", "empty"]


@pytest.mark.parametrize("c", SIZES)
def test_counts_are_the_bars_by_size_in_their_groups_colours(c):
    counts = np.random.default_rng(0).permutation(tail(c))
    ax = plots.plot_counts(counts, metrics.groups(counts))
    bars = sorted(ax.patches, key=lambda p: p.get_x())
    assert [b.get_height() for b in bars] == sorted(counts, reverse=True)
    for bar in bars:
        n = bar.get_height()
        assert colour_of(bar) == plots.COLOURS["many" if n > 100 else "few" if n < 20 else "medium"]
    assert ax.get_yscale() == "log"
    if c == 10:  # the ticks name the classes themselves
        assert [counts[int(t.get_text())] for t in ax.get_xticklabels()] == sorted(
            counts, reverse=True
        )


def test_counts_name_the_shares_and_the_empty_group():
    counts = np.array([90, 30, 10, 10])
    ax = plots.plot_counts(counts, metrics.groups(counts))
    assert legend_texts(ax) == [
        "many: empty",
        "medium: 2 classes, 86 % of the images",
        "few: 2 classes, 14 % of the images",
    ]
    assert ax.get_title(loc="left") == "The 1 largest of 4 classes own 64 % of 140 training images"


@pytest.mark.parametrize("channels", [1, 3])
def test_strip_shows_the_classes_images_in_order(channels):
    counts = np.array([500, 400, 300, 200, 50, 5])
    labels = np.tile(np.arange(6), 3)
    images = np.random.default_rng(0).integers(0, 256, (18, 8, 8, channels), dtype=np.uint8)
    axes = plots.plot_strip(
        images, labels, counts, metrics.groups(counts), tuple("abcdef"), columns=2
    )
    assert [ax.get_ylabel() for ax in axes] == [
        f"{n}\nn = {counts['abcdef'.index(n)]}" for n in "acdef"
    ]
    assert [ax.get_title(loc="left") for ax in axes] == ["many", "", "", "medium", "few"]
    for ax, k in zip(axes, (0, 2, 3, 4, 5), strict=True):
        strip = np.asarray(ax.images[0].get_array())
        first, second = (
            images[i].repeat(3 // channels, axis=2) for i in np.flatnonzero(labels == k)[:2]
        )
        assert (strip[:, :8] == first).all() and (strip[:, -8:] == second).all()


def test_strip_says_that_a_group_is_empty():
    counts = np.array([50, 5])
    axes = plots.plot_strip(
        np.zeros((2, 8, 8, 3), np.uint8), np.arange(2), counts, metrics.groups(counts), ("a", "b")
    )
    assert [ax.get_title(loc="left") for ax in axes] == ["many: empty", "medium", "few"]
    assert not axes[0].images
