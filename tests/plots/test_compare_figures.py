"""The figures of many runs show the numbers they were given, and their words keep apart."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from h2t import Error, plots
from h2t.plots.compare import looks
from h2t.study.compare.groups import summary
from tests.figures import agg, drawn, legend_texts, pyplot  # noqa: F401 (agg is a fixture)

GROUPS = ("stage 1", "DR", "DR, BN sees both", "DR + H2T, p = 0.1", "DR + H2T, p = 0.3")


def rows(groups=GROUPS, seeds=4, settings=("",)):
    r = np.random.default_rng(0)
    found = [
        {
            "setting": s,
            "group": g,
            "unit": f"{k}",
            "run": f"{k}",
            "step": f"s{j}",
            "stage": 1 if g == "stage 1" else 2,
            "seed": k,
            "many": r.normal(70, 2),
            "medium": r.normal(50, 2),
            "few": r.normal(20 + 3 * j, 2),
            "all": r.normal(45 + j, 1),
            "balanced": 0.0,
            "top5": 0.0,
            "ece": r.normal(9, 1),
            "total_seconds": r.normal(100 + 10 * j, 3),
            "device_name": "cpu",
        }
        for s in settings
        for j, g in enumerate(groups)
        for k in range(seeds)
    ]
    return pd.DataFrame(found)


def apart(figure, texts):
    boxes = [
        t.get_window_extent(figure.canvas.get_renderer())
        for t in texts
        if t.get_text() and t.get_visible()
    ]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    inside = figure.bbox.padded(1)
    assert all(
        inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1
        for b in boxes
    )


def words(axes):
    found = []
    for ax in np.ravel(axes):
        found += [
            ax._left_title,
            ax.xaxis.label,
            ax.yaxis.label,
            *ax.texts,
            *(ax.get_legend().get_texts() if ax.get_legend() else []),
        ]
    return [*found, *[t for t in np.ravel(axes)[0].get_yticklabels()]]


def test_means_are_drawn_with_their_intervals():
    table = rows()
    of = summary(table, ("many", "few", "all"))
    axes = plots.plot_means(of, table)
    for ax, measure in zip(axes, ("many", "few", "all"), strict=True):
        part = of[of["measure"] == measure]
        marks = [
            line
            for line in ax.lines
            if line.get_marker() not in ("None", None, "") and len(line.get_xdata()) == 1
        ]
        assert [line.get_xdata()[0] for line in marks] == part["mean"].tolist()
        bars = [
            line.get_xdata()
            for line in ax.lines
            if len(line.get_xdata()) == 2 and line.get_linewidth() > 3
        ]
        assert np.allclose(bars, part[["low", "high"]])
        best = part.loc[part["mean"].idxmax()]
        assert ax.get_title(loc="left").startswith(
            f"{measure}: {best['mean']:.1f}\n{best['group'][:8]}"
        )
    assert [t.get_text() for t in axes[0].get_yticklabels()] == [f"{g}  (n = 4)" for g in GROUPS]


def test_one_run_a_group_has_no_interval_and_an_empty_measure_no_panel():
    table = rows(seeds=1).assign(many=np.nan)
    axes = plots.plot_means(summary(table), table)
    assert len(axes) == 3 and not [
        line for ax in axes for line in ax.lines if line.get_linewidth() > 3
    ]
    with pytest.raises(Error, match="there is nothing to show"):
        plots.plot_means(summary(table, ("many",)), table, ("many",))


def test_ratio_curves_are_means_with_a_ring_at_the_best():
    r = np.random.default_rng(1)
    table = pd.DataFrame(
        [
            {
                "setting": s,
                "ratio": p,
                "unit": unit,
                "all": 50 + k * 5 - 30 * (p - 0.2 - 0.2 * k) ** 2 + r.normal(0, 0.1),
            }
            for k, s in enumerate(("IF 10", "IF 50", "IF 100"))
            for p in np.arange(0, 1.01, 0.2)
            for unit in range(4)
        ]
    )
    ax = plots.plot_ratio_curves(table)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 6]
    for line, (_, part) in zip(curves, table.groupby("setting", sort=False), strict=True):
        assert line.get_ydata() == pytest.approx(part.groupby("ratio")["all"].mean().to_numpy())
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert rings == pytest.approx([0.2, 0.4, 0.6])
    assert ax.get_title(loc="left").startswith(
        "Rings, highest: p = 0.2 at IF 10; p = 0.4 at IF 50; p = 0.6 at IF 100"
    )
    apart(drawn(ax), words(ax))
    with pytest.raises(Error, match="0 ratio curves cannot be shown"):
        plots.plot_ratio_curves(table.iloc[:0])


def test_cost_draws_the_means_and_the_line_of_what_nothing_beats():
    table = pd.DataFrame(
        {
            "group": ["a", "a", "b", "c"],
            "total_seconds": [90.0, 110.0, 200.0, 300.0],
            "all": [40.0, 42.0, 50.0, 45.0],
            "device_name": "cpu",
            "unit": list("0100"),
        }
    )
    ax = plots.plot_cost(table)
    assert [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in ax.lines
        if line.get_label()[:1] in "abc"
    ] == [(100, 41), (200, 50), (300, 45)]
    front = next(line for line in ax.lines if line.get_ls() == "--")
    assert list(front.get_xdata()) == [100, 200] and list(front.get_ydata()) == [41, 50]
    assert ax.get_title(loc="left") == "a is cheapest, b best,\nfor 2.0 times the seconds"
    lower = plots.plot_cost(table.assign(ece=table["all"]), "ece")
    assert lower.get_title(loc="left") == "a is cheapest, a best as well"
    assert "2 devices: seconds are not comparable" in plots.plot_cost(
        table.assign(device_name=["x", "x", "y", "y"])
    ).get_title(loc="left")
    with pytest.raises(Error, match="no run has a cost"):
        plots.plot_cost(table.assign(total_seconds=np.nan))


def test_cost_over_decades_has_plain_numbers():
    ax = plots.plot_cost(rows().assign(total_seconds=np.geomspace(10, 30_000, 20)))
    assert ax.get_xscale() == "log" and {"100", "1,000"} <= {
        t.get_text() for t in ax.get_xticklabels()
    }


@pytest.mark.parametrize("n", [5, 12])
def test_no_words_overlap(n):
    groups = (
        GROUPS[:n]
        if n <= 5
        else tuple(f"DR + H2T, p = {k / 20:g}, stage1_lr 0.05" for k in range(n))
    )
    table = rows(groups)
    for axes in (
        plots.plot_means(summary(table), table),
        plots.plot_cost(table),
    ):
        plots.title(axes, "IF 100")
        apart(drawn(axes), words(axes))


def test_groups_look_different_and_a_method_has_its_colour():
    look = looks(GROUPS)
    assert len({(v["color"], v["marker"]) for v in look.values()}) == len(GROUPS)
    assert (
        look["DR"]["color"] == plots.style.method_colours(["DR"])[0]
        and looks(GROUPS[:4])[GROUPS[3]]["color"] == plots.style.method_colours(["DR + H2T"])[0]
    )
    many = looks([f"DR + H2T, p = {k}" for k in range(12)])
    assert len({v["color"] for v in many.values()}) == 12
    light = [sum(mpl.colors.to_rgb(v["color"])) for v in many.values()]
    assert light == sorted(light, reverse=True)  # the order of the ratios can be seen
    with pytest.raises(
        Error, match="13 groups cannot be told apart in one figure; choose at most 12"
    ):
        looks(map(str, range(13)))


def test_of_many_methods_each_kind_has_a_colour_and_each_step_a_marker():
    kinds = {
        "DR": ("stage 1", "DR", "DR + H2T"),
        "RIDE": ("RIDE", "RIDE + DR", "RIDE + DR, BN sees both", "RIDE + H2T"),
        "GCL": ("GCL, stage 1", "GCL", "GCL + H2T"),
    }
    groups = [g for names in kinds.values() for g in names]
    look = looks(groups)
    assert len({(v["color"], v["marker"]) for v in look.values()}) == len(groups)
    for kind in ("RIDE", "GCL"):
        assert len({look[g]["color"] for g in kinds[kind]}) == 1
    assert len({look[g]["color"] for g in ("DR", "RIDE", "GCL")}) == 3
    assert (
        len({look[g]["marker"] for g in ("DR + H2T", "RIDE + H2T", "GCL + H2T")})
        == 1
        != len({look[g]["marker"] for g in kinds["RIDE"]})
    )
    table = rows(tuple(groups))
    for axes in (
        plots.plot_means(summary(table), table),
        plots.plot_cost(table),
    ):
        apart(drawn(axes), words(axes))


def test_cost_says_how_large_models_are_where_that_differs():
    table = rows().assign(parameters=470_004)
    assert not any(" M)" in t.get_text() for t in plots.plot_cost(table).get_legend().get_texts())
    table.loc[table["group"] == "DR", "parameters"] = 1_362_064
    texts = {t.get_text() for t in plots.plot_cost(table).get_legend().get_texts()}
    assert "DR (n = 4, 1.36 M)" in texts and "stage 1 (n = 4, 0.47 M)" in texts


def test_a_figure_leaves_on_that_figures_are_shown():
    """In a notebook the first figure starts the backend, which turns interactive on; the end of the
    style kept only that one.
    """

    @plots.style.styled
    def first():
        mpl.interactive(True)

    before = mpl.is_interactive()
    try:
        mpl.interactive(False)
        first()
        assert (
            mpl.is_interactive()
            and mpl.rcParams["font.size"] == pyplot().rcParamsDefault["font.size"]
        )
    finally:
        mpl.interactive(before)
