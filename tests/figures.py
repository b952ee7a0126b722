"""Tables and helpers that the tests of the figures share."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from h2t import metrics, plots
from h2t.recipes.published import published_curve

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
    rows = [
        pd.DataFrame(
            {"method": m, "class": range(c), "count": counts, "accuracy": R.uniform(0, 100, c)}
        )
        for m in ("stage 1", "DR")
    ]
    return pd.concat(rows, ignore_index=True)


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
        pd.DataFrame(
            {
                "method": m,
                "class": range(num_classes),
                "count": tail(num_classes),
                "accuracy": metrics.per_class(*outputs(num_classes, k)),
            }
        )
        for k, m in enumerate(methods)
    ]
    return pd.concat(rows, ignore_index=True)


def history() -> pd.DataFrame:
    table = pd.DataFrame(
        {"epoch": range(1, 9), "lr": [0.1] * 6 + [0.01] * 2, "loss": np.linspace(2, 1, 8)}
    )
    for column, top in (("many", 70), ("medium", 40), ("few", 8), ("all", 41)):
        table[column] = [np.nan if e % 2 else top * e / 8 for e in table["epoch"]]
    return table


def curve(groups=("many", "medium", "few", "all"), seeds=3) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [
        (r, s, g, 40 + 10 * k + generator.normal())
        for r in (0.0, 0.5, 1.0)
        for s in range(seeds)
        for k, g in enumerate(groups)
    ]
    return pd.DataFrame(rows, columns=["ratio", "seed", "group", "accuracy"])


def group_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "many": [70.0, 64.0, 62.0],
            "medium": [39.0, 49.0, 50.0],
            "few": [5.0, 26.0, 29.0],
            "all": [40.0, 48.0, 49.0],
        },
        index=["stage 1", "DR", "DR + H2T"],
    )


def planar() -> tuple[dict, dict]:
    generator = np.random.default_rng(0)
    sizes = {"train head": 50, "train tail": 5, "test head": 30, "test tail": 30}
    points = {name: generator.normal(size=(n, 2)) for name, n in sizes.items()}
    return points, {"stage 1": (np.array([1.0, 0.0]), -1.0), "now": (np.array([1.0, 0.4]), 0.2)}


def every_figure(c: int) -> dict:
    """Each plot, called as the notebooks call it, for ``c`` classes."""
    counts, names = (
        tail(c),
        CIFAR10 if c == 10 else tuple(f"a long class name {k}" for k in range(c)),
    )
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
        "weight_norms": lambda: plots.plot_weight_norms(
            {m: np.linspace(2, 1, c) for m in out}, counts
        ),
        "reliability": lambda: plots.plot_reliability(
            {m: metrics.calibration(*o) for m, o in out.items()}
        ),
        "group_bars": lambda: plots.plot_group_bars(group_table(), group_table() * 0 + 1),
        "ratio_curve": lambda: plots.plot_ratio_curve(curve(), published_curve(), current=0.3),
        "boundary": lambda: plots.plot_boundary(*planar(), names=(names[0], names[-1])),
        "embedding": lambda: plots.plot_embedding(mapped, of, {0: names[0], 1: names[1]}),
    }


FIGURES = list(every_figure(10))


def pyplot():
    import matplotlib.pyplot as plt

    return plt


def drawn(axes):
    figure = plots.figure_of(axes)
    figure.canvas.draw()
    return figure


def colour_of(patch) -> str:
    return mpl.colors.to_hex(patch.get_facecolor()).upper()


def legend_texts(ax) -> list[str]:
    return [t.get_text() for t in ax.get_legend().get_texts()]


def colour_of_dots(scatter) -> str:
    return mpl.colors.to_hex(scatter.get_facecolor()[0])
