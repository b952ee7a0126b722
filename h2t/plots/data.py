"""What is in a long-tailed set: counts, and images of each group."""

from __future__ import annotations

import numpy as np

from h2t.plots.style import COLOURS, TEXT, legend_below, new_ax, new_axes, plain_log, short, styled

__all__ = ["plot_counts", "plot_strip"]


@styled
def plot_counts(counts: np.ndarray, groups: dict[str, np.ndarray]):
    """The long tail: training images per class, largest class first, coloured by group.

    Arguments: ``counts`` (C,); ``groups`` to class indices. Returns: Axes.
    """
    counts = np.asarray(counts)
    ax = new_ax(9, 5)
    order = np.argsort(-counts, kind="stable")
    width = 1 if len(counts) > 30 else 0.85
    for g, classes in groups.items():
        where = np.flatnonzero(np.isin(order, classes))
        label = f"{g}: empty"
        if len(classes):
            share = 100 * counts[classes].sum() / counts.sum()
            label = f"{g}: {len(classes)} classes, {share:.0f} % of the images"
        ax.bar(where, counts[order][where], width=width, color=COLOURS[g], label=label)
    ax.set(yscale="log", ylabel="training images", xlabel="class, by size")
    ax.set(ylim=(0.8, counts.max() * 1.6), xlim=(-0.7, len(counts) - 0.3))
    plain_log(ax.yaxis, 0.8, counts.max() * 1.6)
    if len(counts) <= 12:
        ax.set_xticks(range(len(counts)), [str(c) for c in order])
    ax.grid(axis="x", visible=False)
    head = int(np.ceil(len(counts) / 5))
    share = 100 * counts[order][:head].sum() / counts.sum()
    owned = f"{share:.0f} % of {counts.sum():,} training images"
    ax.set_title(f"The {head} largest of {len(counts)} classes own {owned}")
    legend_below(ax, ncols=1)
    return ax


@styled
def plot_strip(images, labels, counts, groups: dict, classes, columns: int = 10):
    """What the groups look like: images of the first, middle and last class of each, by size.

    Arguments: ``images`` (N, H, W, C) uint8, grey or RGB; ``labels`` (N,); ``counts`` (C,);
    ``classes`` names. Returns: an array of Axes, one a class shown, and one for each empty group.
    """
    chosen = []
    for g, members in groups.items():
        by_size = members[np.argsort(-counts[members], kind="stable")]
        picks = {0, len(by_size) // 2, len(by_size) - 1} if len(by_size) else ()
        chosen += [(g, int(by_size[k])) for k in sorted(picks)] or [(g, None)]
    heights = [1 if k is not None else 0.35 for _, k in chosen]
    axes = new_axes(9, 0.95 * sum(heights) + 0.6, rows=len(chosen), height_ratios=heights)
    h, w = images.shape[1:3]
    gap, named = max(1, w // 16), set()
    for ax, (g, k) in zip(axes, chosen, strict=True):
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
        if g not in named:
            name = g if k is not None else f"{g}: empty"
            ax.set_title(name, color=TEXT[g], fontsize=13, weight="bold")
        named.add(g)
        if k is None:
            continue
        strip = np.full((h, columns * (w + gap) - gap, 3), 255, np.uint8)
        for j, i in enumerate(np.flatnonzero(labels == k)[:columns]):
            left = j * (w + gap)
            strip[:, left : left + w] = images[i]  # grey is repeated
        ax.imshow(strip, interpolation="nearest")
        how = dict(rotation=0, ha="right", va="center", color=TEXT[g], fontsize=12)
        ax.set_ylabel(f"{short(classes[k])}\nn = {counts[k]}", **how)
    return axes
