"""Figures: each ``plot_x(table, ax=None)`` draws one, returns its Axes, and changes no global setting.

Many, medium and few have the same three colours everywhere, told apart by the colour-blind (Okabe and Ito) as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import numpy as np

COLOURS = {"many": "#0072B2", "medium": "#E69F00", "few": "#D55E00", "all": "#333333"}
METHODS = ("#8C8C8C", "#56B4E9", "#009E73", "#CC79A7", "#F0E442")
# the steps of a run: their names in figures, and one colour each everywhere
STEPS = {"stage1": "stage 1", "stage2-dr": "DR", "stage2-dr-both": "DR, BN sees both", "stage2-h2t": "DR + H2T"}
_STEP_COLOURS = {"stage 1": METHODS[0], "DR": METHODS[1], "DR + H2T": METHODS[2], "DR, BN sees both": METHODS[3]}
MARKERS = ("o", "s", "D", "^", "v")
BEFORE, AFTER = "#8C8C8C", "#009E73"
STYLE = {
    "font.size": 12, "axes.titlesize": 13, "axes.labelsize": 12, "legend.fontsize": 10.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#E5E5E5", "axes.axisbelow": True, "legend.frameon": False,
    "axes.titlelocation": "left", "savefig.dpi": 110, "figure.dpi": 100,
}  # fmt: skip


def _styled(plot: Callable) -> Callable:
    """Draw in the style of this module, whatever the global one is."""

    @wraps(plot)
    def drawn(*args, **kwargs):
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return plot(*args, **kwargs)

    return drawn


def _axes(ax, rows: int = 1, columns: int = 1, size: tuple[float, float] = (9, 4.2), **how):
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, layout="constrained", **how)[1]


def figure_of(axes):
    """The figure that an Axes, or an array of them, belongs to."""
    return (axes if hasattr(axes, "figure") else np.ravel(axes)[0]).figure


def save(axes, path: str | Path) -> list[Path]:
    """Save a figure as PNG and PDF. Arguments: ``axes`` as a plot returns them; ``path`` without ending."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(path.name + ending) for ending in (".png", ".pdf")]
    for file in files:
        figure_of(axes).savefig(file)
    return files


def _colour(method: str, k: int) -> str:
    return _STEP_COLOURS.get(method, METHODS[k % len(METHODS)])


def _group_of(num_classes: int, groups: dict[str, np.ndarray]) -> np.ndarray:
    of = np.full(num_classes, "all", dtype=object)
    for g, classes in groups.items():
        of[classes] = g
    return of


@_styled
def plot_counts(counts: np.ndarray, groups: dict[str, np.ndarray], ax=None):
    """The long tail: training images per class, largest class first, coloured by group.

    Arguments: ``counts`` (C,); ``groups`` many, medium and few to class indices.
    """
    ax = _axes(ax)
    order = np.argsort(-counts, kind="stable")
    of = _group_of(len(counts), groups)[order]
    for g, classes in groups.items():
        where = np.flatnonzero(of == g)
        label = f"{g}: {len(classes)} class{'es' * (len(classes) > 1)}, {100 * counts[classes].sum() / counts.sum():.0f} % of the images" if len(classes) else f"{g}: empty"
        ax.bar(where, counts[order][where], width=1 if len(counts) > 30 else 0.85, color=COLOURS[g], label=label)
    ax.set(yscale="log", ylabel="training images", xlabel="class, by size", ylim=(0.8, counts.max() * 1.6), xlim=(-0.7, len(counts) - 0.3))
    if len(counts) <= 12:
        ax.set_xticks(range(len(counts)), [str(c) for c in order])
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.grid(axis="x", visible=False)
    head = int(np.ceil(len(counts) / 5))
    share = 100 * np.sort(counts)[::-1][:head].sum() / counts.sum()
    ax.set_title(f"The {head} largest of {len(counts)} classes own {share:.0f} % of {counts.sum():,} training images")
    ax.legend(loc="upper right")
    return ax


@_styled
def plot_strip(images: np.ndarray, labels: np.ndarray, counts: np.ndarray, groups: dict, classes: tuple[str, ...], columns: int = 10):
    """What the groups look like: a strip of images per group, from the first, middle and last of its classes.

    Arguments: ``images`` (N, H, W, C) uint8; ``labels`` (N,); ``classes`` names. Returns: an array of Axes, one a class.
    """
    chosen = []
    for g, members in groups.items():
        by_size = members[np.argsort(-counts[members], kind="stable")]
        picks = sorted({0, len(by_size) // 2, len(by_size) - 1}) if len(by_size) else []
        chosen += [(g, int(by_size[k])) for k in picks]
    axes = np.atleast_1d(_axes(None, len(chosen), 1, (9, 0.86 * len(chosen) + 0.5)))
    h, w, c = images.shape[1:]
    gap = max(1, w // 16)
    for ax, (g, k) in zip(axes, chosen, strict=True):
        strip = np.full((h, columns * (w + gap) - gap, 3), 255, np.uint8)
        for j, i in enumerate(np.flatnonzero(labels == k)[:columns]):
            strip[:, j * (w + gap) : j * (w + gap) + w] = images[i] if c == 3 else images[i].repeat(3, axis=2)
        ax.imshow(strip, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        name = classes[k] if len(classes[k]) <= 14 else classes[k][:13] + "…"
        ax.set_ylabel(f"{name}\n{counts[k]} img", rotation=0, ha="right", va="center", color=COLOURS[g], fontsize=11)
        if k == next(c for gg, c in chosen if gg == g):
            ax.set_title(f"{g}", color=COLOURS[g], fontsize=12)
    return axes


@_styled
def plot_learning_curves(table, axes=None):
    """Test accuracy by group, and loss, over the epochs.

    Arguments: ``table`` rows of metrics.jsonl; epochs without an evaluation have no accuracy. Returns: two Axes.
    """
    left, right = axes = np.ravel(_axes(axes, 1, 2, (11, 4)))
    seen = table[table["top1"].notna()] if "top1" in table else table.iloc[:0]
    marker = "o" if len(seen) <= 30 else None
    for column, g in (("many", "many"), ("medium", "medium"), ("few", "few"), ("top1", "all")):
        values = seen[column].astype(float) if column in seen else seen["epoch"] * np.nan
        if values.notna().any():
            left.plot(seen["epoch"], values, color=COLOURS[g], marker=marker, ms=4, lw=2, ls="--" if g == "all" else "-", label=f"{g} {values.iloc[-1]:.1f} %")
    left.set(xlabel="epoch", ylabel="test accuracy, %", ylim=(0, 103), title="Accuracy by group")
    if len(seen):
        left.legend(loc="lower right", ncols=2)
    right.plot(table["epoch"], table["loss"], color=COLOURS["all"], lw=2)
    right.set(xlabel="epoch", ylabel="training loss", title="Loss (line) and learning rate (grey steps)", ylim=(0, None))
    rate = right.twinx()
    rate.step(table["epoch"], table["lr"], where="mid", color="#B0B0B0", lw=1.5)
    rate.set(yscale="log", ylabel="learning rate")
    rate.grid(False)
    rate.spines["right"].set_visible(True)
    for ax in (left, right):
        ax.set_xlim(0, max(float(table["epoch"].max()), 2))
    return axes


@_styled
def plot_mask(fused: np.ndarray, fusing: np.ndarray, mask: np.ndarray):
    """How fusion mixes two branches, channel by channel.

    Arguments: ``fused`` and ``fusing`` features (D,); ``mask`` (D,) bool, True where the fusing branch is taken.
    Returns: three Axes.
    """
    axes = _axes(None, 3, 1, (11, 4.8), sharex=True, sharey=True)
    x = np.arange(len(mask))
    result = np.where(mask, fusing, fused)
    tail, head = COLOURS["few"], COLOURS["many"]
    rows = [("fused branch: keeps its label", fused, np.full(len(mask), tail)), ("fusing branch: lends channels", fusing, np.where(mask, head, "#BFD9EA")),
            (f"result: {mask.sum()} of {len(mask)} channels swapped", result, np.where(mask, head, tail))]  # fmt: skip
    for ax, (title, values, colours) in zip(axes, rows, strict=True):
        ax.bar(x, values, color=list(colours), width=0.85)
        ax.set_title(title)
        ax.set_ylabel("activation")
    axes[-1].set(xlabel="feature channel", xlim=(-0.8, len(mask) - 0.2))
    return axes


@_styled
def plot_class_accuracy(table, groups: dict[str, np.ndarray], ax=None):
    """Accuracy of every class against its training images, by method, with the mean of each group.

    Arguments: ``table`` with columns method, class, count, accuracy (%).
    """
    ax = _axes(ax, size=(9.5, 4.8))
    counts = table.drop_duplicates("class").set_index("class")["count"]
    for m, (method, rows) in enumerate(table.groupby("method", sort=False)):
        colour = _colour(method, m)
        ax.scatter(rows["count"], rows["accuracy"], s=26, color=colour, marker=MARKERS[m % len(MARKERS)], alpha=0.65, lw=0, label=method, zorder=3)
        accuracy = rows.set_index("class")["accuracy"]
        for classes in groups.values():
            if len(classes):
                span = counts[classes].min() / 1.04, counts[classes].max() * 1.04
                ax.plot(span, [np.nanmean(accuracy[classes])] * 2, color=colour, lw=3, alpha=0.95, solid_capstyle="butt", zorder=4)
    for g, classes in groups.items():
        if len(classes):
            ax.axvspan(counts[classes].min() / 1.06, counts[classes].max() * 1.06, color=COLOURS[g], alpha=0.07, lw=0)
            ax.text(np.sqrt(counts[classes].min() * counts[classes].max()), 103, g, color=COLOURS[g], ha="center", va="bottom", weight="bold")
    ax.set(xscale="log", xlabel="training images of the class", ylabel="test accuracy, %", ylim=(-3, 103))
    _plain_log(ax, counts.min(), counts.max())
    ax.set_title("Accuracy by class (dots) and group means (bars)", pad=24)
    ax.legend(loc="upper center", ncols=len(table["method"].unique()), bbox_to_anchor=(0.5, -0.16))
    return ax


def _plain_log(ax, low: float, high: float) -> None:
    """Whole numbers instead of powers of ten on a logarithmic x axis."""
    from matplotlib.ticker import NullFormatter

    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if low / 1.3 <= t <= high * 1.3]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())


@_styled
def plot_confusion_groups(confusions: dict[str, np.ndarray], groups: dict[str, np.ndarray]):
    """Where each group's test images went, in percent of the true group, one panel a method.

    Arguments: ``confusions`` method to (C, C) counts, rows true. The row of an empty group is left blank. Returns: Axes.
    """
    import seaborn as sns

    axes = np.atleast_1d(_axes(None, 1, len(confusions), (4.1 * len(confusions) + 0.6, 3.9), sharey=True))
    names = list(groups)
    for ax, (method, confusion) in zip(axes, confusions.items(), strict=True):
        cells = np.array([[confusion[np.ix_(groups[a], groups[b])].sum() for b in names] for a in names], float)
        right = np.array([np.trace(confusion[np.ix_(groups[a], groups[a])]) for a in names])
        total = cells.sum(1, keepdims=True)
        share = np.divide(100 * cells, total, out=np.full_like(cells, np.nan), where=total > 0)
        notes = [[f"{share[i, j]:.1f} %" + (f"\n({100 * right[i] / total[i, 0]:.1f} % right)" if i == j else "") if total[i] else "empty" for j in range(3)] for i in range(3)]
        sns.heatmap(share, ax=ax, annot=notes, fmt="", cmap="Blues", vmin=0, vmax=100, cbar=False, linewidths=1.5,
                    xticklabels=names, yticklabels=names, annot_kws={"fontsize": 10.5})  # fmt: skip
        ax.set(title=method, xlabel="predicted group")
        ax.tick_params(axis="y", rotation=0)
    axes[0].set_ylabel("true group")
    return axes


@_styled
def plot_confusion(confusion: np.ndarray, classes: tuple[str, ...] = (), ax=None):
    """The full confusion matrix (C, C) in percent of each row; names are shown for up to 20 classes."""
    import seaborn as sns

    ax = _axes(ax, size=(6.5, 5.6))
    share = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    few = len(confusion) <= 20
    labels = list(classes) if few and classes else "auto" if few else False
    sns.heatmap(share, ax=ax, cmap="Blues", vmin=0, vmax=100, xticklabels=labels, yticklabels=labels, cbar_kws={"label": "% of the true class"}, square=True)
    ax.set(xlabel="predicted class", ylabel="true class", title="Confusion")
    return ax


@_styled
def plot_weight_norms(norms: dict[str, np.ndarray], counts: np.ndarray, ax=None):
    """Length of each class's row of the classifier, largest class first. ``norms`` method to (C,)."""
    ax = _axes(ax)
    order = np.argsort(-counts, kind="stable")
    for m, (method, values) in enumerate(norms.items()):
        slope = np.polyfit(np.log(counts), values, 1)[0] * np.log(10) if counts.max() > counts.min() else 0.0
        ax.plot(values[order], color=_colour(method, m), marker=MARKERS[m], ms=5 if len(counts) <= 30 else 3, lw=1.8, label=f"{method} ({slope:+.2f} per tenfold images)")
    ax.set(xlabel="class, by size", ylabel="weight norm", title="Does the classifier favour large classes?", ylim=(0, None))
    if len(counts) <= 12:
        ax.set_xticks(range(len(counts)), [str(c) for c in order])
    ax.legend(loc="lower left")
    return ax


@_styled
def plot_reliability(tables: dict, axes=None):
    """Reliability diagrams: accuracy against confidence in 15 bins, one panel a method, ECE in the title.

    Arguments: ``tables`` method to the result of ``metrics.calibration``. Returns: an array of Axes.
    """
    axes = np.atleast_1d(_axes(axes, 1, len(tables), (3.7 * len(tables) + 0.4, 3.9), sharey=True))
    for m, (ax, (method, table)) in enumerate(zip(axes, tables.items(), strict=True)):
        full = table[table["count"] > 0]
        gap = (full["accuracy"] - full["confidence"]).abs()
        ece = (gap * full["count"]).sum() / full["count"].sum()
        width = full["upper"] - full["lower"]
        ax.bar(full["lower"], full["accuracy"], width=width * 0.92, align="edge", color=_colour(method, m), alpha=0.85)
        ax.plot([0, 100], [0, 100], color="#333333", ls="--", lw=1.2)
        share = full["count"] / full["count"].sum()
        ax.bar(full["lower"], 14 * share / share.max(), width=width * 0.3, bottom=0, align="edge", color="#333333")
        ax.set(title=f"{method}: ECE {ece:.1f} %", xlabel="confidence, %", xlim=(0, 100), ylim=(0, 100))
    axes[0].set_ylabel("accuracy, %  (dark: share of images)")
    return axes


@_styled
def plot_group_bars(table, spread=None, ax=None):
    """Accuracy of many, medium, few and all for each method, as grouped bars with their numbers.

    Arguments: ``table`` a row per method, columns many, medium, few, all (%); ``spread`` the same shape, standard
    deviations for error bars. An empty group says so.
    """
    ax = _axes(ax, size=(10, 4.6))
    width = 0.84 / len(table)
    for m, (method, row) in enumerate(table.iterrows()):
        x = np.arange(len(row)) + (m - (len(table) - 1) / 2) * width
        error = None if spread is None else spread.iloc[m].to_numpy(float)
        name = STEPS.get(str(method), str(method))
        ax.bar(x, row.fillna(0), width * 0.94, color=_colour(name, m), yerr=error, capsize=3, label=name)
        for k, value in enumerate(row):
            text = "empty" if np.isnan(value) else f"{value:.1f}"
            top = 0 if np.isnan(value) else value + (0 if error is None else np.nan_to_num(error[k]))
            ax.text(x[k], top + 1, text, ha="center", va="bottom", fontsize=10 if len(table) <= 4 else 8)
    ax.set_xticks(range(table.shape[1]), table.columns)
    ax.set(ylabel="test accuracy, %", ylim=(0, max(100, float(table.max().max()) + 8)), title="What each step does to head and tail")
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper center", ncols=min(len(table), 4), bbox_to_anchor=(0.5, -0.1))
    return ax


# Li et al., AAAI 2024, slide 10 of the authors' talk: DR + H2T on CIFAR-100-LT, IF 100, one run each
_SLIDE_10 = {
    "all": (45.68, 47.11, 47.58, 47.73, 47.59, 47.17, 46.50, 46.05, 45.52, 44.39, 43.57),
    "many": (63.81, 63.08, 61.86, 62.00, 59.58, 56.31, 53.89, 51.92, 49.36, 47.94, 44.31),
    "medium": (46.37, 48.69, 50.00, 50.17, 50.74, 51.34, 52.06, 50.63, 52.91, 50.46, 51.51),
    "few": (22.35, 25.38, 26.93, 27.07, 28.90, 30.79, 30.62, 33.24, 31.83, 32.66, 33.07),
}


def published_curve():
    """The published ratio curve as a table: ratio, group, accuracy (%)."""
    import pandas as pd

    return pd.DataFrame([{"ratio": k / 10, "group": g, "accuracy": a} for g, row in _SLIDE_10.items() for k, a in enumerate(row)])


@_styled
def plot_ratio_curve(table, published=None, current: float | None = None, ax=None):
    """Accuracy against the fusion ratio: mean over seeds with a band of one standard deviation, by group.

    Arguments: ``table`` with columns ratio, seed, group, accuracy (%); ``published`` with ratio, group, accuracy, drawn
    as hollow markers; ``current`` a ratio to mark.
    """
    ax = _axes(ax, size=(9.5, 4.8))
    ends = []
    for g in ("many", "medium", "few", "all"):
        rows = table[table["group"] == g].dropna()
        if rows.empty:
            continue
        by = rows.groupby("ratio")["accuracy"]
        mean, std = by.mean(), by.std().fillna(0)
        ax.fill_between(mean.index, mean - std, mean + std, color=COLOURS[g], alpha=0.25, lw=0)
        ax.plot(mean.index, mean, color=COLOURS[g], lw=2.4, ls="--" if g == "all" else "-")
        ends.append((mean.iloc[-1], g))
        if published is not None:
            dots = published[published["group"] == g]
            ax.plot(dots["ratio"], dots["accuracy"], color=COLOURS[g], marker="o", mfc="white", ms=5, lw=0)
    low, high = ax.get_ylim()
    placed = -np.inf
    for y, g in sorted(ends):  # name the lines at their right end, kept apart
        placed = max(y, placed + 0.05 * (high - low))
        ax.text(1.015, placed, g, color=COLOURS[g], va="center", weight="bold")
    if current is not None:
        ax.axvline(current, color="#333333", lw=1.5, ls=":")
    seeds = table["seed"].nunique()
    note = f"{seeds} seed{'s' if seeds > 1 else ''}, band: ± 1 std" + ("; circles: published" if published is not None else "")
    ax.set(xlabel="fusion ratio p", ylabel="test accuracy, %", xlim=(0, 1), title=f"Accuracy against the fusion ratio ({note})")
    return ax


SETS = {
    "train head": (COLOURS["many"], "o", 14, 0.35), "train tail": (COLOURS["few"], "o", 30, 0.9), "fused": ("#CC79A7", "x", 26, 0.8),
    "test head": ("#56B4E9", "s", 14, 0.6), "test tail": (COLOURS["medium"], "s", 16, 0.8),
}  # fmt: skip


@_styled
def plot_boundary(points: dict[str, np.ndarray], lines: dict[str, tuple[np.ndarray, float]], names: tuple[str, str] = ("head", "tail"), ax=None):
    """Two decision boundaries in the plane that they span, exact (``h2t.boundary.plane``).

    Arguments: ``points`` set name (train head, train tail, fused, test head, test tail) to (n, 2); ``lines`` name to
    ``(a (2,), b)``, positive on the tail's side: the first is drawn grey, the last in colour and with the tail's side
    shaded; ``names`` of the head and the tail class. The legend gives each set's share on the tail's side of both lines.
    """
    ax = _axes(ax, size=(8.5, 6))
    everything = np.concatenate([p for p in points.values() if len(p)])
    low, high = everything.min(0), everything.max(0)
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    (first, _), (last, (a, b)) = list(lines.items())[0], list(lines.items())[-1]
    grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 200)), -1)
    ax.contourf(grid[..., 0], grid[..., 1], grid @ a + b > 0, levels=[0.5, 1.5], colors=[COLOURS["few"]], alpha=0.09)
    for name, colour, style in ((first, BEFORE, "--"), (last, AFTER, "-")):
        line_a, line_b = lines[name]
        ax.contour(grid[..., 0], grid[..., 1], grid @ line_a + line_b, levels=[0], colors=[colour], linestyles=[style], linewidths=[2.4])
        ax.plot([], [], color=colour, ls=style, lw=2.4, label=f"boundary, {name}")
    for name, xy in points.items():
        colour, marker, size, alpha = SETS[name]
        shares = [100 * np.mean(xy @ la + lb > 0) if len(xy) else np.nan for la, lb in (lines[first], lines[last])]
        ax.scatter(*np.reshape(xy, (-1, 2)).T, color=colour, marker=marker, s=size, alpha=alpha, lw=1 if marker == "x" else 0, label=f"{name}: {shares[0]:.0f} → {shares[1]:.0f} % on the tail's side")
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=f"along w(tail) - w(head), {first}", ylabel="perpendicular to it, in the plane of both")
    ax.set_title(f"{names[0]} (head) against {names[1]} (tail); shaded: decided for the tail, {last}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return ax


@_styled
def plot_embedding(xy: np.ndarray, labels: np.ndarray, names: dict[int, str], fused: np.ndarray | None = None, ax=None):
    """A t-SNE map of features, coloured by class, with fused features placed into it.

    Arguments: ``xy`` (n, 2); ``labels`` (n,) class indices; ``names`` class index to legend text; ``fused`` (m, 2).
    """
    ax = _axes(ax, size=(7.5, 6))
    palette = (COLOURS["many"], COLOURS["few"], COLOURS["medium"], *METHODS[1:])
    for k, (c, name) in enumerate(names.items()):
        here = xy[labels == c]
        ax.scatter(here[:, 0], here[:, 1], s=18, color=palette[k % len(palette)], alpha=0.7, lw=0, label=f"{name} ({len(here)})")
    if fused is not None and len(fused):
        ax.scatter(fused[:, 0], fused[:, 1], s=34, marker="x", color="#CC79A7", lw=1.3, label=f"fused ({len(fused)})")
    ax.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)", title="Where fused features fall among the real ones")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=3)
    return ax
