"""Learning curves, group bars and ratio curves show the numbers they were given."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from h2t import plots
from h2t.recipes.names import STEPS
from h2t.recipes.published import published_curve
from tests.figures import (
    R,
    colour_of,
    curve,
    drawn,
    group_table,
    history,
    legend_texts,
    pyplot,
    tail,
)


def test_group_bars_have_the_heights_of_the_table():
    table = pd.DataFrame(
        R.uniform(0, 100, (5, 4)), index=list(STEPS), columns=["many", "medium", "few", "all"]
    )
    ax = plots.plot_group_bars(table, spread=table * 0 + 2)
    assert np.allclose([b.get_height() for b in ax.patches], table.to_numpy().ravel())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(STEPS.values())


def test_learning_curves_skip_epochs_without_evaluation():
    rows = pd.DataFrame(
        [
            {
                "epoch": e,
                "lr": 0.1,
                "loss": 1 / e,
                **({"all": 5.0 * e, "many": 9.0 * e, "few": 0.0} if e % 2 == 0 else {}),
            }
            for e in range(1, 9)
        ]
    )
    left, right = plots.plot_learning_curves(rows)
    lines = {line.get_label().split()[0]: line for line in left.lines}
    assert set(lines) == {"many", "few", "all"} and list(lines["all"].get_xdata()) == [2, 4, 6, 8]
    assert list(right.lines[0].get_ydata()) == pytest.approx([1 / e for e in range(1, 9)])
    plots.plot_learning_curves(rows.drop(columns=["all", "many", "few"]))


def test_the_ratio_curve_is_mean_and_deviation_over_seeds():
    table = pd.DataFrame(
        [
            {"ratio": r, "seed": s, "group": g, "accuracy": R.uniform(0, 100)}
            for r in (0, 0.5, 1)
            for s in range(5)
            for g in ("many", "medium", "few", "all")
        ]
    )
    ax = plots.plot_ratio_curve(table, published_curve(), current=0.3)
    mean = table[table.group == "few"].groupby("ratio").accuracy.mean()
    drawn = [
        line
        for line in ax.lines
        if len(line.get_xdata()) == 3 and line.get_color() == plots.COLOURS["few"]
    ]
    assert np.allclose(drawn[0].get_ydata(), mean)
    circles = [
        line
        for line in ax.lines
        if line.get_marker() == "o" and line.get_color() == plots.COLOURS["all"]
    ]
    assert list(circles[0].get_ydata())[0] == 45.68 and len(circles[0].get_xdata()) == 11


def test_learning_curves_are_the_evaluated_epochs():
    table = history()
    left, right = plots.plot_learning_curves(table)
    for line, column, g in zip(
        left.lines, ("many", "medium", "few", "all"), ("many", "medium", "few", "all"), strict=True
    ):
        assert line.get_xdata().tolist() == [2, 4, 6, 8]
        assert line.get_ydata().tolist() == table[column].dropna().tolist()
        assert line.get_color() == plots.COLOURS[g]
    assert right.lines[0].get_ydata().tolist() == table["loss"].tolist()
    rate = next(ax for ax in right.figure.axes if ax not in (left, right))
    assert (
        rate.lines[0].get_ydata().tolist() == table["lr"].tolist()
        and rate.get_ylabel() == "learning rate"
    )
    assert legend_texts(left) == ["many 70.0 %", "medium 40.0 %", "few 8.0 %", "all 41.0 %"]


def test_learning_curves_name_an_empty_group_and_wait_for_the_first_evaluation():
    left, _ = plots.plot_learning_curves(history().assign(many=None))
    assert "(many: empty)" in left.get_title(loc="left") and len(left.lines) == 3
    left, right = plots.plot_learning_curves(history()[["epoch", "lr", "loss"]])
    assert (
        left.get_title(loc="left") == "Accuracy by group: none yet"
        and not left.lines
        and right.lines
    )


def test_group_bars_are_the_table_with_its_numbers():
    table = group_table()
    ax = plots.plot_group_bars(table)
    heights = np.array([[bar.get_height() for bar in bars] for bars in ax.containers])
    assert np.array_equal(heights, table.to_numpy())
    assert [t.get_text() for t in ax.texts] == [f"{v:.1f}" for v in table.to_numpy().ravel()]
    assert legend_texts(ax) == list(table.index) and [
        t.get_text() for t in ax.get_xticklabels()
    ] == list(table.columns)
    assert (
        ax.get_title(loc="left")
        == "From DR to DR + H2T: many -2.0, medium +1.0, few +3.0, all +1.0 points"
    )
    control = pd.concat([table, table.loc[["DR"]] + 1]).set_axis([*table.index, "DR, BN sees both"])
    ax = plots.plot_group_bars(control.iloc[[0, 1, 3, 2]])  # fusion is not to be given DR's gain
    assert ax.get_title(loc="left").startswith("From DR, BN sees both to DR + H2T: many -3.0")


def test_group_bars_take_the_spread_of_their_own_row_and_column():
    table = group_table()
    spread = pd.DataFrame(np.arange(1.0, 13).reshape(3, 4), table.index, table.columns)
    ax = plots.plot_group_bars(table, spread.iloc[::-1, ::-1])  # in another order
    bars = [c for c in ax.containers if isinstance(c, mpl.container.ErrorbarContainer)]
    for container, values, errors in zip(bars, table.to_numpy(), spread.to_numpy(), strict=True):
        low, high = np.array([s[:, 1] for s in container[2][0].get_segments()]).T
        assert low == pytest.approx(values - errors) and high == pytest.approx(values + errors)


def test_a_step_has_one_colour_everywhere_and_no_two_methods_share_one():
    names = ["DR + H2T", "mine", "stage 1", "theirs"]
    table = pd.DataFrame(50.0, names, ["many", "medium", "few", "all"])
    bars = {c.get_label(): colour_of(c[0]) for c in plots.plot_group_bars(table).containers}
    lines = {
        line.get_label().split(" (")[0]: line.get_color().upper()
        for line in plots.plot_weight_norms(
            {n: np.ones(4) for n in names}, np.arange(4, 0, -1)
        ).lines
    }
    assert bars == lines and len(set(bars.values())) == 4
    assert bars["stage 1"] == colour_of(
        plots.plot_group_bars(table.loc[["stage 1"]]).containers[0][0]
    )


def test_no_change_is_a_change_of_plus_nought():
    table = group_table()
    table.loc["DR + H2T"] = table.loc["DR"] - 0.04
    title = plots.plot_group_bars(table).get_title(loc="left")
    assert "-0.0" not in title and title.count("+0.0") == 4


def test_group_bars_of_one_seed_have_no_error_bars():
    table = group_table()
    bars = plots.plot_group_bars(table, spread=table * np.nan).containers
    assert len(bars) == 3


def test_group_bars_draw_no_bar_for_an_empty_group():
    ax = plots.plot_group_bars(group_table().assign(many=None))
    assert [t.get_text() for t in ax.texts].count("empty") == 1
    assert all(len(bars) == 3 and min(b.get_x() for b in bars) > 0.5 for bars in ax.containers)
    assert "many" not in ax.get_title(loc="left")


@pytest.mark.parametrize("methods", [1, 3, 4, 5, 6, 8])
def test_group_bars_keep_their_numbers_apart(methods):
    table = pd.DataFrame(
        100.0, [f"method {k}" for k in range(methods)], ["many", "medium", "few", "all"]
    )
    ax = plots.plot_group_bars(table)
    renderer = drawn(ax).canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in ax.texts]
    assert max(b.y1 for b in boxes) <= ax.get_window_extent(renderer).y1
    assert len(boxes) == 4 * methods and not any(
        a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]
    )


def test_ratio_curve_is_the_mean_and_the_standard_deviation_over_seeds():
    names = ("many", "medium", "few", "all")
    table = curve(names)
    ax = plots.plot_ratio_curve(
        table,
        published=pd.DataFrame(
            {"ratio": [0.0, 1.0], "group": [names[0]] * 2, "accuracy": [60.0, 45.0]}
        ),
        current=0.25,
    )
    lines = {line.get_label(): line for line in ax.lines}
    for label, given, band in zip(
        ("many", "medium", "few", "all"), names, ax.collections, strict=True
    ):
        seeds = [
            table[(table["group"] == given) & (table["ratio"] == r)]["accuracy"].tolist()
            for r in (0.0, 0.5, 1.0)
        ]
        mean = [sum(s) / 3 for s in seeds]
        std = [(sum((a - m) ** 2 for a in s) / 2) ** 0.5 for s, m in zip(seeds, mean, strict=True)]
        assert (
            lines[label].get_ydata() == pytest.approx(mean)
            and lines[label].get_color() == plots.COLOURS[label]
        )
        corners = {
            (round(float(x), 6), round(float(y), 6)) for x, y in band.get_paths()[0].vertices
        }
        for r, m, d in zip((0.0, 0.5, 1.0), mean, std, strict=True):
            assert (r, round(m - d, 6)) in corners and (r, round(m + d, 6)) in corners
    marked = [line for line in ax.lines if line.get_marker() == "o"]
    assert (
        marked[0].get_ydata().tolist() == [60, 45]
        and marked[0].get_color() == plots.COLOURS["many"]
    )
    assert any(list(line.get_xdata()) == [0.25, 0.25] for line in ax.lines) and " p = 0.25 " in [
        t.get_text() for t in ax.texts
    ]


def test_ratio_curve_of_one_seed_has_no_band_and_an_empty_group_is_named():
    table = curve(seeds=1)
    table.loc[table["group"] == "many", "accuracy"] = np.nan
    ax = plots.plot_ratio_curve(table)
    assert "(1 seed)" in ax.get_title(loc="left") and "(many: empty)" in ax.get_title(loc="left")
    assert "many" not in [t.get_text() for t in ax.texts] and len(ax.lines) == 3


def test_ratio_curve_drawn_again_into_the_same_axes_follows_the_new_curve():
    _, ax = pyplot().subplots()
    plots.plot_ratio_curve(curve(), ax=ax)
    first = ax.get_ylim()
    for artist in [*ax.lines, *ax.collections, *ax.texts]:
        artist.remove()
    plots.plot_ratio_curve(curve(), ax=ax)
    assert ax.get_ylim() == pytest.approx(first)
    higher = curve()
    plots.plot_ratio_curve(higher.assign(accuracy=higher["accuracy"] + 25), ax=ax)
    assert ax.get_ylim()[1] > higher["accuracy"].max() + 24


def test_agreement_draws_means_and_names_the_largest_difference():
    rows = [
        {
            "kind": k,
            "ratio": r,
            "seed": s,
            "many": np.nan,
            "medium": 50.0,
            "few": 10 + 20 * r + s + 3 * r * (k == "cached"),
            "all": 40.0 + s,
        }
        for k in ("exact", "cached")
        for r in (0.0, 0.5)
        for s in range(3)
    ]
    axes = plots.plot_agreement(pd.DataFrame(rows))
    assert [ax.get_title(loc="left") for ax in axes] == [
        "medium: within 0.0 points",
        "few: within 1.5 points",
        "all: within 0.0 points",
    ]
    exact, cached = (c.lines[0].get_ydata().tolist() for c in axes[1].containers)
    assert exact == [11.0, 21.0] and cached == [11.0, 22.5]
    low, high = axes[1].containers[0].lines[1]
    assert (high.get_ydata() - low.get_ydata()).tolist() == [
        2.0,
        2.0,
    ]  # one standard deviation either way
    assert "3 seeds" in axes[0].get_ylabel()


def test_the_published_curve_is_slide_10s():
    table = published_curve().set_index(["ratio", "group"])["accuracy"]
    assert len(table) == 44
    assert [table[0.3, g] for g in ("all", "many", "medium", "few")] == [47.73, 62.00, 50.17, 27.07]
    assert [table[1.0, g] for g in ("all", "many", "medium", "few")] == [43.57, 44.31, 51.51, 33.07]
    assert len(published_curve(tail(100))) == 44  # 500 images falling to 5: CIFAR-100-LT at 100
    assert published_curve(tail(100), "lite0@224") is None  # of another network
    assert published_curve(tail(10)) is None and published_curve(np.full(100, 500)) is None
