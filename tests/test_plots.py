"""Figures show the numbers they were given, name their axes, and change no global setting."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from h2t import metrics, plots
from h2t.errors import Error

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


SIZES = (10, 100, 1000)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def outputs(num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), 4)
    logits = generator.normal(size=(len(labels), num_classes))
    logits[np.arange(len(labels)), labels] += 2
    return logits.astype(np.float32), labels


def class_table(num_classes: int, methods=("stage 1", "DR + H2T")) -> pd.DataFrame:
    rows = [
        pd.DataFrame({"method": m, "class": range(num_classes), "count": tail(num_classes), "accuracy": metrics.per_class(*outputs(num_classes, k))})
        for k, m in enumerate(methods)
    ]
    return pd.concat(rows, ignore_index=True)


def history() -> pd.DataFrame:
    table = pd.DataFrame({"epoch": range(1, 9), "lr": [0.1] * 6 + [0.01] * 2, "loss": np.linspace(2, 1, 8)})
    for column, top in (("many", 70), ("medium", 40), ("few", 8), ("top1", 41)):
        table[column] = [np.nan if e % 2 else top * e / 8 for e in table["epoch"]]
    return table


def curve(groups=("many", "medium", "few", "all"), seeds=3) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [(r, s, g, 40 + 10 * k + generator.normal()) for r in (0.0, 0.5, 1.0) for s in range(seeds) for k, g in enumerate(groups)]
    return pd.DataFrame(rows, columns=["ratio", "seed", "group", "accuracy"])


def group_table() -> pd.DataFrame:
    return pd.DataFrame({"many": [70.0, 64.0, 62.0], "medium": [39.0, 49.0, 50.0], "few": [5.0, 26.0, 29.0], "all": [40.0, 48.0, 49.0]}, index=["stage 1", "DR", "DR + H2T"])


def planar() -> tuple[dict, dict]:
    generator = np.random.default_rng(0)
    sizes = {"train head": 50, "train tail": 5, "fused": 20, "test head": 30, "test tail": 30}
    points = {name: generator.normal(size=(n, 2)) for name, n in sizes.items()}
    return points, {"stage 1": (np.array([1.0, 0.0]), -1.0), "now": (np.array([1.0, 0.4]), 0.2)}


def every_figure(c: int) -> dict:
    """Each plot, called as the notebooks call it, for ``c`` classes."""
    counts, names = tail(c), CIFAR10 if c == 10 else tuple(f"a long class name {k}" for k in range(c))
    groups = metrics.groups(counts)
    out = {m: outputs(c, k) for k, m in enumerate(("stage 1", "DR", "DR + H2T"))}
    confusions = {m: metrics.confusion(*o) for m, o in out.items()}
    images = np.zeros((2 * c, 8, 8, 1), np.uint8)
    mapped, of = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % min(c, 10)
    return {
        "counts": lambda: plots.plot_counts(counts, groups),
        "strip": lambda: plots.plot_strip(images, np.arange(2 * c) % c, counts, groups, names),
        "learning_curves": lambda: plots.plot_learning_curves(history()),
        "mask": lambda: plots.plot_mask(np.arange(64.0), np.ones(64), np.arange(64) < 16),
        "class_accuracy": lambda: plots.plot_class_accuracy(class_table(c), groups),
        "confusion_groups": lambda: plots.plot_confusion_groups(confusions, groups),
        "confusion": lambda: plots.plot_confusion(confusions["DR"], names),
        "weight_norms": lambda: plots.plot_weight_norms({m: np.linspace(2, 1, c) for m in out}, counts),
        "reliability": lambda: plots.plot_reliability({m: metrics.calibration(*o) for m, o in out.items()}),
        "group_bars": lambda: plots.plot_group_bars(group_table(), group_table() * 0 + 1),
        "ratio_curve": lambda: plots.plot_ratio_curve(curve(), plots.published_curve(), current=0.3),
        "boundary": lambda: plots.plot_boundary(*planar(), names=(names[0], names[-1])),
        "embedding": lambda: plots.plot_embedding(mapped, of, names, mapped[:5]),
    }


FIGURES = list(every_figure(10))


def pyplot():
    import matplotlib.pyplot as plt

    return plt


def drawn(axes):
    figure = plots.figure_of(axes)
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize("c", SIZES)
@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_inside_the_figure_large_enough_and_apart(name, c):
    figure = drawn(every_figure(c)[name]())
    renderer = figure.canvas.get_renderer()
    page = figure.bbox.padded(1)
    for ax in figure.axes:
        inside = ax.get_tightbbox(renderer)
        assert page.x0 <= inside.x0 and page.y0 <= inside.y0 and inside.x1 <= page.x1 and inside.y1 <= page.y1, ax.get_title()
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [t.label1 for t in axis.get_major_ticks() if t.label1.get_text() and low <= t.get_loc() <= high and t.label1.get_visible()]
            assert all(t.get_fontsize() >= 9 for t in shown)
            boxes = [t.get_window_extent(renderer) for t in shown]
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]), [t.get_text() for t in shown]
        if legend := ax.get_legend():
            box = legend.get_window_extent(renderer)
            assert not box.overlaps(ax.get_window_extent(renderer)) and not box.overlaps(ax.xaxis.label.get_window_extent(renderer))
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
        "import sys, h2t.plots; assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        "import matplotlib; before = dict(matplotlib.rcParams)\n"
        "import importlib; importlib.reload(h2t.plots); assert dict(matplotlib.rcParams) == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_shown(monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda *a, **k: pytest.fail("plt.show was called"))
    for make in every_figure(10).values():
        make()


@pytest.mark.parametrize("name", ["counts", "class_accuracy", "confusion", "weight_norms", "group_bars", "ratio_curve", "boundary", "embedding"])
def test_a_figure_is_drawn_into_the_given_axes(name):
    _, (ax, other) = pyplot().subplots(1, 2)
    counts, groups, c = tail(10), metrics.groups(tail(10)), 10
    make = {
        "counts": lambda: plots.plot_counts(counts, groups, ax=ax),
        "class_accuracy": lambda: plots.plot_class_accuracy(class_table(c), groups, ax=ax),
        "confusion": lambda: plots.plot_confusion(np.eye(c, dtype=int), ax=ax),
        "weight_norms": lambda: plots.plot_weight_norms({"a": np.ones(c)}, counts, ax=ax),
        "group_bars": lambda: plots.plot_group_bars(group_table(), ax=ax),
        "ratio_curve": lambda: plots.plot_ratio_curve(curve(), ax=ax),
        "boundary": lambda: plots.plot_boundary(*planar(), ax=ax),
        "embedding": lambda: plots.plot_embedding(np.eye(2), np.arange(2), CIFAR10, ax=ax),
    }[name]
    assert make() is ax and ax.has_data() and not other.has_data()


def test_panels_must_fit_the_axes_given():
    _, axes = pyplot().subplots(1, 2)
    with pytest.raises(Error, match="this figure has 3 panels, but 2 axes were given"):
        plots.plot_mask(np.ones(4), np.ones(4), np.ones(4, bool), axes=axes)


def colour_of(patch) -> str:
    return mpl.colors.to_hex(patch.get_facecolor()).upper()


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
        assert [counts[int(t.get_text())] for t in ax.get_xticklabels()] == sorted(counts, reverse=True)


def legend_texts(ax) -> list[str]:
    return [t.get_text() for t in ax.get_legend().get_texts()]


def test_counts_name_the_shares_and_the_empty_group():
    counts = np.array([90, 30, 10, 10])
    ax = plots.plot_counts(counts, metrics.groups(counts))
    assert legend_texts(ax) == ["many: empty", "medium: 2 classes, 86 % of the images", "few: 2 classes, 14 % of the images"]
    assert ax.get_title(loc="left") == "The 1 largest of 4 classes own 64 % of 140 training images"


@pytest.mark.parametrize("channels", [1, 3])
def test_strip_shows_the_classes_images_in_order(channels):
    counts = np.array([500, 400, 300, 200, 50, 5])
    labels = np.tile(np.arange(6), 3)
    images = np.random.default_rng(0).integers(0, 256, (18, 8, 8, channels), dtype=np.uint8)
    axes = plots.plot_strip(images, labels, counts, metrics.groups(counts), tuple("abcdef"), columns=2)
    assert [ax.get_ylabel() for ax in axes] == [f"{n}\nn = {counts['abcdef'.index(n)]}" for n in "acdef"]
    assert [ax.get_title(loc="left") for ax in axes] == ["many", "", "", "medium", "few"]
    for ax, k in zip(axes, (0, 2, 3, 4, 5), strict=True):
        strip = np.asarray(ax.images[0].get_array())
        first, second = (images[i].repeat(3 // channels, axis=2) for i in np.flatnonzero(labels == k)[:2])
        assert (strip[:, :8] == first).all() and (strip[:, -8:] == second).all()


def test_strip_says_that_a_group_is_empty():
    counts = np.array([50, 5])
    axes = plots.plot_strip(np.zeros((2, 8, 8, 3), np.uint8), np.arange(2), counts, metrics.groups(counts), ("a", "b"))
    assert [ax.get_title(loc="left") for ax in axes] == ["many: empty", "medium", "few"]
    assert not axes[0].images


def test_learning_curves_are_the_evaluated_epochs():
    table = history()
    left, right = plots.plot_learning_curves(table)
    for line, column, g in zip(left.lines, ("many", "medium", "few", "top1"), ("many", "medium", "few", "all"), strict=True):
        assert line.get_xdata().tolist() == [2, 4, 6, 8]
        assert line.get_ydata().tolist() == table[column].dropna().tolist()
        assert line.get_color() == plots.COLOURS[g]
    assert right.lines[0].get_ydata().tolist() == table["loss"].tolist()
    rate = next(ax for ax in right.figure.axes if ax not in (left, right))
    assert rate.lines[0].get_ydata().tolist() == table["lr"].tolist() and rate.get_ylabel() == "learning rate"
    assert legend_texts(left) == ["many 70.0 %", "medium 40.0 %", "few 8.0 %", "all 41.0 %"]


def test_learning_curves_name_an_empty_group_and_wait_for_the_first_evaluation():
    left, _ = plots.plot_learning_curves(history().assign(many=None))
    assert "(many: empty)" in left.get_title(loc="left") and len(left.lines) == 3
    left, right = plots.plot_learning_curves(history()[["epoch", "lr", "loss"]])
    assert left.get_title(loc="left") == "Accuracy by group: none yet" and not left.lines and right.lines


def test_mask_takes_the_fusing_branch_where_it_is_true():
    generator = np.random.default_rng(0)
    fused, fusing, mask = generator.random(64), generator.random(64), generator.random(64) < 0.3
    top, middle, bottom = plots.plot_mask(fused, fusing, mask)
    assert [p.get_height() for p in top.patches] == fused.tolist()
    assert [p.get_height() for p in middle.patches] == fusing.tolist()
    for k, patch in enumerate(bottom.patches):
        origin, values = (middle, fusing) if mask[k] else (top, fused)
        assert patch.get_height() == values[k] and patch.get_facecolor() == origin.patches[k].get_facecolor()
    assert f"{mask.sum()} of 64 channels" in bottom.get_title(loc="left")
    with pytest.raises(Error, match=r"must all be \(D,\); got \(64,\), \(64,\) and \(3,\)"):
        plots.plot_mask(fused, fusing, mask[:3])


@pytest.mark.parametrize("c", SIZES)
def test_class_accuracy_is_the_dots_and_the_group_means_the_bars(c):
    table, groups = class_table(c), metrics.groups(tail(c))
    table.loc[0, "accuracy"] = np.nan  # a class without test images
    ax = plots.plot_class_accuracy(table, groups)
    for (_, rows), dots in zip(table.groupby("method", sort=False), ax.collections, strict=False):
        found = np.ma.compress_rows(np.ma.masked_invalid(dots.get_offsets()))
        assert np.array_equal(found, rows[["count", "accuracy"]].dropna().to_numpy(float))
    means = [np.nanmean(rows["accuracy"].to_numpy()[k]) for _, rows in table.groupby("method", sort=False) for k in groups.values()]
    assert [line.get_ydata()[0] for line in ax.lines] == pytest.approx(means)
    spans = sorted({tuple(line.get_xdata()) for line in ax.lines})
    assert len(spans) == 3 and all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))  # groups do not overlap
    assert ax.get_xscale() == "log"


def test_class_accuracy_names_an_empty_group():
    groups = {"many": np.array([], int), "medium": np.arange(7), "few": np.arange(7, 10)}
    ax = plots.plot_class_accuracy(class_table(10), groups)
    assert "(many: empty)" in ax.get_title(loc="left") and [t.get_text() for t in ax.texts] == ["medium", "few"]


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
    assert ax.figure.get_suptitle() == f"Few taken for many: {share[2, 0]:.0f} % of the few-class test images"


def test_confusion_of_an_empty_group_says_so():
    groups = {"many": np.array([], int), "medium": np.array([0, 1]), "few": np.array([2])}
    (ax,) = plots.plot_confusion_groups(np.eye(3, dtype=int), groups)
    assert [t.get_text() for t in ax.texts].count("empty") == 1 and not ax.figure.get_suptitle()
    assert np.ma.getmaskarray(ax.collections[0].get_array()).reshape(3, 3)[0].all()


def test_confusion_is_percent_of_the_row_and_blank_without_test_images():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [1, 1, 2]])
    ax = plots.plot_confusion(confusion, ("a", "b", "c"))
    cells = np.ma.filled(ax.collections[0].get_array(), np.nan).reshape(3, 3)
    assert np.array_equal(cells, [[75, 25, 0], [np.nan] * 3, [25, 25, 50]], equal_nan=True)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"] and "62.5 %" in ax.get_title(loc="left")


def test_confusion_of_many_classes_is_drawn_in_blocks():
    generator, c = np.random.default_rng(0), 250  # blocks of 3, the last one of 1
    confusion = generator.integers(0, 3, (c, c))
    confusion[:4] = 0  # the first block and part of the second are without test images
    ax = plots.plot_confusion(confusion)
    cells = np.ma.filled(ax.collections[0].get_array(), np.nan).reshape(84, 84)
    share = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    assert np.isnan(cells[0]).all()
    assert cells[1, 5] == pytest.approx(share[4:6, 15:18].sum(1).mean())
    assert cells[83, 83] == pytest.approx(share[249, 249])
    assert "3 x 3 classes" in ax.get_xlabel()


@pytest.mark.parametrize("c", SIZES)
def test_weight_norms_are_the_dots_by_size(c):
    generator = np.random.default_rng(0)
    counts = generator.permutation(tail(c))
    norms = {m: generator.random(c) + 0.5 for m in "abcdefg"}  # more methods than colours
    ax = plots.plot_weight_norms(norms, counts)
    dots = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == c]
    for values, expected in zip(dots, norms.values(), strict=True):
        assert values.tolist() == [expected[k] for k in sorted(range(c), key=lambda k: (-counts[k], k))]


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
    assert [b.get_x() + b.get_width() / 2 for b in accuracy] == pytest.approx(((full["lower"] + full["upper"]) / 2).tolist())
    assert [b.get_height() for b in share] == pytest.approx((100 * full["count"] / len(labels)).tolist())
    assert ax.get_title(loc="left").startswith(f"DR: ECE {metrics.ece(logits, labels):.1f} %")


@pytest.mark.parametrize("sign, tendency", [(1, "over-confident"), (-1, "under-confident")])
def test_reliability_says_on_which_side_the_error_is(sign, tendency):
    table = pd.DataFrame({"lower": [0.0, 50.0], "upper": [50.0, 100.0], "count": [0, 9], "confidence": [np.nan, 75], "accuracy": [np.nan, 75 - 10 * sign]})
    (ax,) = plots.plot_reliability(table)
    assert ax.get_title(loc="left") == f"ECE 10.0 %,\n{tendency}"


def test_group_bars_are_the_table_with_its_numbers():
    table = group_table()
    ax = plots.plot_group_bars(table)
    heights = np.array([[bar.get_height() for bar in bars] for bars in ax.containers])
    assert np.array_equal(heights, table.to_numpy())
    assert [t.get_text() for t in ax.texts] == [f"{v:.1f}" for v in table.to_numpy().ravel()]
    assert legend_texts(ax) == list(table.index) and [t.get_text() for t in ax.get_xticklabels()] == list(table.columns)
    assert ax.get_title(loc="left") == "From stage 1 to DR + H2T: many -8.0, medium +11.0, few +24.0, all +9.0 points"


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
    lines = {line.get_label().split(" (")[0]: line.get_color().upper() for line in plots.plot_weight_norms({n: np.ones(4) for n in names}, np.arange(4, 0, -1)).lines}
    assert bars == lines and len(set(bars.values())) == 4
    assert bars["stage 1"] == colour_of(plots.plot_group_bars(table.loc[["stage 1"]]).containers[0][0])


def test_group_bars_draw_no_bar_for_an_empty_group():
    ax = plots.plot_group_bars(group_table().assign(many=None))
    assert [t.get_text() for t in ax.texts].count("empty") == 1
    assert all(len(bars) == 3 and min(b.get_x() for b in bars) > 0.5 for bars in ax.containers)
    assert "many" not in ax.get_title(loc="left")


@pytest.mark.parametrize("methods", [1, 3, 4, 5, 6, 8])
def test_group_bars_keep_their_numbers_apart(methods):
    table = pd.DataFrame(100.0, [f"method {k}" for k in range(methods)], ["many", "medium", "few", "all"])
    ax = plots.plot_group_bars(table)
    renderer = drawn(ax).canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in ax.texts]
    assert max(b.y1 for b in boxes) <= ax.get_window_extent(renderer).y1
    assert len(boxes) == 4 * methods and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize("names", [("many", "medium", "few", "all"), ("head", "medium", "tail", "all")])
def test_ratio_curve_is_the_mean_and_the_standard_deviation_over_seeds(names):
    table = curve(names)
    ax = plots.plot_ratio_curve(table, published=pd.DataFrame({"ratio": [0.0, 1.0], "group": [names[0]] * 2, "accuracy": [60.0, 45.0]}), current=0.25)
    lines = {line.get_label(): line for line in ax.lines}
    for label, given, band in zip(("many", "medium", "few", "all"), names, ax.collections, strict=True):
        seeds = [table[(table["group"] == given) & (table["ratio"] == r)]["accuracy"].tolist() for r in (0.0, 0.5, 1.0)]
        mean = [sum(s) / 3 for s in seeds]
        std = [(sum((a - m) ** 2 for a in s) / 2) ** 0.5 for s, m in zip(seeds, mean, strict=True)]
        assert lines[label].get_ydata() == pytest.approx(mean) and lines[label].get_color() == plots.COLOURS[label]
        corners = {(round(float(x), 6), round(float(y), 6)) for x, y in band.get_paths()[0].vertices}
        for r, m, d in zip((0.0, 0.5, 1.0), mean, std, strict=True):
            assert (r, round(m - d, 6)) in corners and (r, round(m + d, 6)) in corners
    marked = [line for line in ax.lines if line.get_marker() == "o"]
    assert marked[0].get_ydata().tolist() == [60, 45] and marked[0].get_color() == plots.COLOURS["many"]
    assert any(list(line.get_xdata()) == [0.25, 0.25] for line in ax.lines) and " p = 0.25 " in [t.get_text() for t in ax.texts]


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
    rows = [{"kind": k, "ratio": r, "seed": s, "many": np.nan, "medium": 50.0, "few": 10 + 20 * r + s + 3 * r * (k == "cached"), "all": 40.0 + s}
            for k in ("exact", "cached") for r in (0.0, 0.5) for s in range(3)]  # fmt: skip
    axes = plots.plot_agreement(pd.DataFrame(rows))
    assert [ax.get_title(loc="left") for ax in axes] == ["medium: within 0.0 points", "few: within 1.5 points", "all: within 0.0 points"]
    exact, cached = (c.lines[0].get_ydata().tolist() for c in axes[1].containers)
    assert exact == [11.0, 21.0] and cached == [11.0, 22.5]
    low, high = axes[1].containers[0].lines[1]
    assert (high.get_ydata() - low.get_ydata()).tolist() == [2.0, 2.0]  # one standard deviation either way
    assert "3 seeds" in axes[0].get_ylabel()


def test_the_published_curve_is_slide_10s():
    table = plots.published_curve().set_index(["ratio", "group"])["accuracy"]
    assert len(table) == 44
    assert [table[0.3, g] for g in ("all", "many", "medium", "few")] == [47.73, 62.00, 50.17, 27.07]
    assert [table[1.0, g] for g in ("all", "many", "medium", "few")] == [43.57, 44.31, 51.51, 33.07]
    assert len(plots.published_curve(tail(100))) == 44  # 500 images falling to 5: CIFAR-100-LT at 100
    assert plots.published_curve(tail(10)) is None and plots.published_curve(np.full(100, 500)) is None


def test_boundary_draws_the_points_the_lines_and_the_shares():
    points, lines = planar()
    ax = plots.plot_boundary(points, lines)
    labels = legend_texts(ax)
    for name, xy in points.items():
        scatter = next(s for s in ax.collections if s.get_label().startswith(f"{name}:"))
        assert np.array_equal(scatter.get_offsets(), xy)
        before, after = (100 * sum(float(p @ a) + b > 0 for p in xy) / len(xy) for a, b in lines.values())
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
    assert shade.get_paths()[0].contains_points(everything).tolist() == (everything @ a + b > 0).tolist()


def test_boundary_with_one_line_empty_sets_and_nothing_on_the_tails_side():
    points = {"train head": np.array([[0.0, 0.0], [1.0, 1.0]]), "train tail": np.zeros((0, 2))}
    ax = plots.plot_boundary(points, {"DR": (np.array([1.0, 0.0]), -50.0)}, limits=((-2, 2), (-3, 3)))
    assert legend_texts(ax) == ["boundary, DR", "train head: 0 % on the tail's side", "train tail: none"]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-3, 3))
    assert not [c for c in ax.collections if isinstance(c, mpl.contour.ContourSet)]


@pytest.mark.parametrize(
    "points, lines, message",
    [
        ({"others": np.zeros((1, 2))}, planar()[1], r"no style for the points \['others'\]; choose from train head"),
        ({"fused": np.zeros((0, 2))}, planar()[1], "at least one line and one point"),
        (planar()[0], {}, "at least one line and one point"),
    ],
)
def test_a_boundary_that_cannot_be_drawn_is_an_error(points, lines, message):
    with pytest.raises(Error, match=message):
        plots.plot_boundary(points, lines)


def test_embedding_draws_each_class_once_and_the_fused_do_not_move_the_view():
    generator = np.random.default_rng(0)
    xy, labels = generator.normal(size=(90, 2)), np.arange(90) % 9
    ax = plots.plot_embedding(xy, labels, {k: n for k, n in enumerate(CIFAR10[:9])})
    view = ax.get_xlim(), ax.get_ylim()
    looks = set()
    for k, scatter in enumerate(ax.collections):
        assert np.array_equal(scatter.get_offsets(), xy[labels == k])
        looks.add((colour_of_dots(scatter), scatter.get_paths()[0].vertices.shape))
    assert len(looks) == 9  # no two classes look alike
    fused = np.concatenate([xy[:4], [[99.0, 0.0], [0.0, -99.0], [-99.0, 99.0]]])
    ax = plots.plot_embedding(xy, labels, {k: n for k, n in enumerate(CIFAR10[:9])}, fused)
    assert (ax.get_xlim(), ax.get_ylim()) == view and np.array_equal(ax.collections[-1].get_offsets(), fused)
    assert legend_texts(ax)[0] == "airplane (10)" and legend_texts(ax)[-1] == "fused (7)"
    assert ax.get_title(loc="left").endswith("(3 outside)")


def colour_of_dots(scatter) -> str:
    return mpl.colors.to_hex(scatter.get_facecolor()[0])


def test_embedding_of_two_classes_is_seen_as_head_and_tail_and_framed_by_them():
    xy, labels = np.array([[0.0, 0.0], [1.0, 1.0], [100.0, 100.0]]), np.array([3, 7, 9])
    ax = plots.plot_embedding(xy, labels, {3: "cat", 7: "horse"})
    assert [colour_of_dots(s).upper() for s in ax.collections] == [plots.COLOURS["many"], plots.COLOURS["few"]]
    assert ax.get_xlim()[1] < 2  # class 9 is not drawn


def test_embedding_of_more_classes_than_looks_is_an_error():
    with pytest.raises(Error, match="100 classes cannot be told apart on one map; choose at most 30"):
        plots.plot_embedding(np.zeros((100, 2)), np.arange(100), tuple(map(str, range(100))))


def test_group_colours_are_nobody_elses():
    groups = {plots.COLOURS[g] for g in ("many", "medium", "few")}
    assert not groups & {*plots.METHODS, plots.BEFORE, plots.AFTER, plots.FUSED} and len(groups) == 3
    sets = {name: colour for name, (colour, *_) in plots.SETS.items()}
    assert len(set(sets.values())) == 5 and plots.COLOURS["medium"] not in sets.values()
    assert (sets["train head"], sets["train tail"]) == (plots.COLOURS["many"], plots.COLOURS["few"])


def test_save_writes_both_files_and_leaves_no_other(tmp_path):
    files = plots.save(plots.plot_group_bars(group_table()), tmp_path / "new" / "04.groups")
    assert [f.name for f in files] == ["04.groups.png", "04.groups.pdf"] == sorted((f.name for f in (tmp_path / "new").iterdir()), reverse=True)
    assert files[0].read_bytes().startswith(b"\x89PNG") and files[1].read_bytes().startswith(b"%PDF")
