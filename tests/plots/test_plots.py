"""What every figure keeps to: legible, labelled, nothing global changed, drawn where told to."""

import itertools
import subprocess
import sys
import types

import matplotlib as mpl
import numpy as np
import pytest

from h2t import plots
from tests.figures import (  # noqa: F401 (agg is a fixture)
    CIFAR10,
    FIGURES,
    SIZES,
    agg,
    class_table,
    curve,
    drawn,
    every_figure,
    group_table,
    legend_texts,
    planar,
    pyplot,
    tail,
)


@pytest.mark.parametrize("c", SIZES)
@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_inside_the_figure_large_enough_and_apart(name, c):
    figure = drawn(every_figure(c)[name]())
    renderer = figure.canvas.get_renderer()
    page = figure.bbox.padded(1)
    for ax in figure.axes:
        inside = ax.get_tightbbox(renderer)
        assert (
            page.x0 <= inside.x0
            and page.y0 <= inside.y0
            and inside.x1 <= page.x1
            and inside.y1 <= page.y1
        ), ax.get_title()
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [
                t.label1
                for t in axis.get_major_ticks()
                if t.label1.get_text() and low <= t.get_loc() <= high and t.label1.get_visible()
            ]
            assert all(t.get_fontsize() >= 9 for t in shown)
            boxes = [t.get_window_extent(renderer) for t in shown]
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]), [
                t.get_text() for t in shown
            ]
        if legend := ax.get_legend():
            box = legend.get_window_extent(renderer)
            assert not box.overlaps(ax.get_window_extent(renderer)) and not box.overlaps(
                ax.xaxis.label.get_window_extent(renderer)
            )
        written = [t.get_window_extent(renderer) for t in ax.texts if t.get_text().strip()]
        assert not any(a.overlaps(b) for i, a in enumerate(written) for b in written[i + 1 :])


@pytest.mark.parametrize("name", [n for n in FIGURES if n != "strip"])
def test_axes_are_labelled_and_titled(name):
    axes = np.ravel(np.atleast_1d(np.asarray(every_figure(10)[name](), object)))
    stacked, beside = name == "mask", name in ("confusion_groups", "reliability")
    for k, ax in enumerate(axes):
        assert ax.get_title(loc="left")
        assert ax.get_xlabel() or (stacked and k < len(axes) - 1)
        assert ax.get_ylabel() or (beside and k > 0)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_the_same_whatever_the_global_style(name):
    make = every_figure(10)[name]

    def picture() -> np.ndarray:
        return np.asarray(drawn(make()).canvas.buffer_rgba())

    plain = picture()
    with mpl.style.context(["dark_background", {"font.size": 5, "axes.grid": False}]):
        foreign = dict(mpl.rcParams)
        figure = plots.figure_of(make())
        assert dict(mpl.rcParams) == foreign
    figure.canvas.draw()
    assert np.array_equal(np.asarray(figure.canvas.buffer_rgba()), plain)


def test_importing_changes_no_setting_and_loads_no_matplotlib():
    code = (
        "import sys, h2t.plots; assert not {'matplotlib', 'torch'} & set(sys.modules)\n"
        "import matplotlib; before = dict(matplotlib.rcParams)\n"
        "import importlib; importlib.reload(h2t.plots); assert dict(matplotlib.rcParams) == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(
        "matplotlib.pyplot.show", lambda *a, **k: pytest.fail("plt.show was called")
    )
    for make in every_figure(10).values():
        make()


def test_the_ratio_curve_is_drawn_into_the_given_axes():
    _, (ax, other) = pyplot().subplots(1, 2)
    assert plots.plot_ratio_curve(curve(), ax=ax) is ax
    assert ax.has_data() and not other.has_data()


def test_group_colours_are_nobody_elses():
    groups = {plots.COLOURS[g] for g in ("many", "medium", "few")}
    assert not groups & {*plots.METHODS, plots.BEFORE, plots.AFTER} and len(groups) == 3
    sets = {name: colour for name, (colour, *_) in plots.SETS.items()}
    assert len(set(sets.values())) == 4 and plots.COLOURS["medium"] not in sets.values()
    assert (sets["train head"], sets["train tail"]) == (plots.COLOURS["many"], plots.COLOURS["few"])


def seen_by_deuteranopes(colour: str) -> np.ndarray:
    """A colour in CIELAB as deuteranopes see it (Machado, Oliveira and Fernandes 2009)."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [[0.3673, 0.8607, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(xyz) @ np.array(seen) @ linear / (0.9505, 1, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_deuteranopes_tell_the_steps_apart():
    """Grey #8C8C8C for stage 1 and green #009E73 for H2T were 9.6 apart."""
    for a, b in itertools.combinations(plots.METHODS, 2):
        assert np.linalg.norm(seen_by_deuteranopes(a) - seen_by_deuteranopes(b)) > 25, (a, b)


def test_letters_that_the_usual_font_lacks_come_from_one_that_has_them(monkeypatch):
    there = [types.SimpleNamespace(name=n) for n in ("DejaVu Sans", "Yu Gothic", "Other")]
    monkeypatch.setattr("matplotlib.font_manager.fontManager.ttflist", there)
    assert plots.fonts.__wrapped__() == ["DejaVu Sans", "Yu Gothic"]


def test_save_writes_both_files_and_leaves_no_other(tmp_path):
    files = plots.save(plots.plot_group_bars(group_table()), tmp_path / "new" / "04.groups")
    assert (
        [f.name for f in files]
        == ["04.groups.png", "04.groups.pdf"]
        == sorted((f.name for f in (tmp_path / "new").iterdir()), reverse=True)
    )
    assert files[0].read_bytes().startswith(b"\x89PNG") and files[1].read_bytes().startswith(
        b"%PDF"
    )
