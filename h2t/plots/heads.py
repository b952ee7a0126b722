"""What each head gains over one of them, by bank of features."""

from __future__ import annotations

from h2t.plots.style import METHODS, new_axes, short, styled, title

__all__ = ["plot_head_gains", "plot_suspects"]

# H2T, and the controls that tell what of it is the head's content
_COLOURS = {
    "h2t": METHODS[2],
    **dict.fromkeys(("h2t_balanced", "zeros", "noise", "mixup"), METHODS[3]),
}


@styled
def plot_head_gains(tests, names, baseline: str):
    """A head a line: its difference to the baseline in points, with its 95 % interval.

    Arguments: ``tests`` of ``h2t.study.compare.heads.differences``; ``names`` head to what it is
    called; ``baseline`` as it is called. Returns: an array of Axes, a bank each.
    """
    banks = list(dict.fromkeys(tests["bank"]))
    order = tests.groupby("head")["difference"].mean().sort_values().index
    axes = new_axes(4.2 * len(banks) + 2.6, 0.36 * len(order) + 1.8, columns=len(banks))
    for ax, bank in zip(axes, banks, strict=True):
        part = tests[tests["bank"] == bank].set_index("head").reindex(order)
        for y, (head, row) in enumerate(part.iterrows()):
            colour = _COLOURS.get(head, METHODS[0])
            face = colour if row["p_holm"] < 0.05 else "white"
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=2.5)
            ax.plot(row["difference"], y, "o", ms=8, color=colour, mfc=face, mew=2)
        ax.axvline(0, color="#222222", lw=1)
        shown = ax is axes[0]
        ax.set_yticks(range(len(order)), [names[h] for h in order] if shown else [])
        ax.set(xlabel="points", title=bank, ylim=(-0.6, len(order) - 0.4))
        ax.grid(axis="y", visible=False)
    title(axes, f"Gain over {baseline}: filled where it holds after Holm's correction")
    return axes


@styled
def plot_suspects(images, suspects, columns: int = 6):
    """Training images that the others contradict, with their label and what they are taken for.

    Arguments: ``images`` (n, H, W, 3) uint8; ``suspects`` a row each, with columns label, taken for
    and surer by. Returns: an array of Axes.
    """
    rows = -(-len(images) // columns)
    axes = new_axes(2.2 * columns, 2.75 * rows + 0.5, rows, columns)
    for ax, image, (_, row) in zip(axes, images, suspects.iterrows(), strict=False):
        ax.imshow(image)
        said = f"{short(row['label'], 20)}\nor {short(row['taken for'], 18)}?"
        ax.set_title(said, fontsize=10)
    for ax in axes:
        ax.axis("off")
    title(axes, "Labelled one way, taken for another: mislabelled, or hard")
    return axes
