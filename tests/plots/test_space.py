"""Masks, boundaries and embeddings show the points they were given."""

import matplotlib as mpl
import numpy as np
import pytest

from h2t import plots
from h2t.base.errors import Error
from tests.figures import (  # noqa: F401 (agg is a fixture)
    CIFAR10,
    R,
    agg,
    colour_of_dots,
    drawn,
    legend_texts,
    planar,
    tail,
)


def test_the_mask_figure_shows_which_branch_each_channel_comes_from():
    a, b, mask = R.random(64), R.random(64), R.random(64) < 0.3
    axes = plots.plot_mask(a, b, mask)
    heights = np.array([bar.get_height() for bar in axes[2].patches])
    assert np.allclose(heights, np.where(mask, b, a)) and str(mask.sum()) in axes[2].get_title(
        loc="left"
    )


def test_the_boundary_figure_counts_sides():
    points = {
        "train tail": np.array([[1.0, 0], [-1, 0], [2, 1], [3, 1]]),
        "test head": np.array([[-2.0, 0], [-3, 1]]),
    }
    lines = {"stage 1": (np.array([1.0, 0]), -1.5), "H2T": (np.array([1.0, 0.1]), 0.0)}
    ax = plots.plot_boundary(points, lines, ("cat", "dog"))
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert (
        "train tail: 50 → 75 % on the tail's side" in texts
        and "test head: 0 → 0 % on the tail's side" in texts
    )


def test_mask_takes_the_fusing_branch_where_it_is_true():
    generator = np.random.default_rng(0)
    fused, fusing, mask = generator.random(64), generator.random(64), generator.random(64) < 0.3
    top, middle, bottom = plots.plot_mask(fused, fusing, mask)
    assert [p.get_height() for p in top.patches] == fused.tolist()
    assert [p.get_height() for p in middle.patches] == fusing.tolist()
    for k, patch in enumerate(bottom.patches):
        origin, values = (middle, fusing) if mask[k] else (top, fused)
        assert (
            patch.get_height() == values[k]
            and patch.get_facecolor() == origin.patches[k].get_facecolor()
        )
    assert f"{mask.sum()} of 64 channels" in bottom.get_title(loc="left")


def test_boundary_draws_the_points_the_lines_and_the_shares():
    points, lines = planar()
    ax = plots.plot_boundary(points, lines)
    labels = legend_texts(ax)
    for name, xy in points.items():
        scatter = next(s for s in ax.collections if s.get_label().startswith(f"{name}:"))
        assert np.array_equal(scatter.get_offsets(), xy)
        before, after = (
            100 * sum(float(p @ a) + b > 0 for p in xy) / len(xy) for a, b in lines.values()
        )
        assert f"{name}: {before:.0f} → {after:.0f} % on the tail's side" in labels
    for line, (a, b) in zip(ax.lines, lines.values(), strict=True):
        for p in (line.get_xy1(), line.get_xy2()):
            assert p @ a + b == pytest.approx(0, abs=1e-12)
        assert not np.allclose(line.get_xy1(), line.get_xy2())


def test_boundary_shades_the_tails_side_exactly():
    points, lines = planar()
    ax = plots.plot_boundary(points, lines)
    drawn(ax)
    (shade,) = [c for c in ax.collections if isinstance(c, mpl.contour.ContourSet)]
    a, b = lines["now"]
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    everything = np.random.default_rng(1).uniform((x0, y0), (x1, y1), (500, 2))
    assert (
        shade.get_paths()[0].contains_points(everything).tolist()
        == (everything @ a + b > 0).tolist()
    )


def test_boundary_with_one_line_empty_sets_and_nothing_on_the_tails_side():
    points = {"train head": np.array([[0.0, 0.0], [1.0, 1.0]]), "train tail": np.zeros((0, 2))}
    ax = plots.plot_boundary(points, {"DR": (np.array([1.0, 0.0]), -50.0)})
    assert legend_texts(ax) == [
        "boundary, DR",
        "train head: 0 % on the tail's side",
        "train tail: none",
    ]
    assert not [c for c in ax.collections if isinstance(c, mpl.contour.ContourSet)]


def test_a_boundary_without_points_is_an_error():
    with pytest.raises(Error, match="needs a point"):
        plots.plot_boundary({"test tail": np.zeros((0, 2))}, planar()[1])


def test_embedding_draws_head_and_tail_in_their_colours_and_no_other_class():
    xy, labels = np.array([[0.0, 0.0], [1.0, 1.0], [100.0, 100.0]]), np.array([3, 7, 9])
    ax = plots.plot_embedding(xy, labels, {3: "cat", 7: "horse"})
    for scatter, at, group in zip(ax.collections, (0, 1), ("many", "few"), strict=True):
        assert np.array_equal(scatter.get_offsets(), xy[[at]])
        assert colour_of_dots(scatter).upper() == plots.COLOURS[group]
    assert legend_texts(ax) == ["cat (1)", "horse (1)"] and ax.get_xlim()[1] < 2
