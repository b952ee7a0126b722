"""The explorer's six figures: each is drawn once and then only what moves is painted anew, so that dragging is smooth.

Every class here holds one Matplotlib figure outside pyplot. ``paint()`` gives it as PNG bytes.
"""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Polygon

from h2t import metrics
from h2t.plots import AFTER, BEFORE, COLOURS, METHODS, SETS, plot_ratio_curve, short
from h2t.plots.canvas import Canvas

NAMES = {"stage 1": METHODS[0], "DR": METHODS[1], "current": METHODS[2]}


class ClassAccuracy(Canvas):
    """Accuracy by class against training count: stage 1, DR and current, with the group means."""

    def __init__(self, counts: np.ndarray, scheme: str):
        super().__init__(6.4, 4.2)
        ax, self.counts, self.groups = self.axes[0], counts, metrics.groups(counts, scheme)
        self.figure.subplots_adjust(left=0.11, right=0.98, top=0.80, bottom=0.13)
        ax.set(
            xscale="log",
            ylim=(-12, 103),
            yticks=range(0, 101, 20),
            xlabel="training images of the class",
            ylabel="test accuracy, %",
        )
        low, high = counts.min(), counts.max()
        ticks = [
            t
            for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
            if low / 1.3 <= t <= high * 1.3
        ]
        ax.set_xticks(ticks, map(str, ticks))
        ax.xaxis.set_minor_formatter("")
        ax.set_xlim(low / 1.25, high * 1.25)
        for g, classes in self.groups.items():
            if len(classes):
                ax.axvspan(
                    counts[classes].min() / 1.05,
                    counts[classes].max() * 1.05,
                    color=COLOURS[g],
                    alpha=0.07,
                    lw=0,
                )
                ax.text(
                    np.sqrt(counts[classes].min() * counts[classes].max()),
                    -10,
                    g,
                    color=COLOURS[g],
                    ha="center",
                    weight="bold",
                )
        self.dots, self.bars = {}, {}
        for name, colour in NAMES.items():
            how = {"mfc": "none"} if name == "DR" else {"alpha": 0.6 if name == "stage 1" else 0.95}
            self.dots[name] = self.move(
                ax.plot(counts, np.full(len(counts), np.nan), "o", ms=4.5, color=colour, **how)[0]
            )
            for g in self.groups:
                self.bars[name, g] = self.move(
                    ax.plot(
                        [],
                        [],
                        color=colour,
                        lw=3,
                        ls="--" if name == "DR" else "-",
                        solid_capstyle="butt",
                    )[0]
                )
            ax.plot([], [], "o", color=colour, label=name, mfc="none" if name == "DR" else colour)
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3)
        self.title = self.move(self.figure.text(0.02, 0.975, "", va="top", fontsize=13))

    def update(self, name: str, per_class: np.ndarray, means: dict[str, float | None]) -> None:
        self.dots[name].set_ydata(per_class)
        for g, classes in self.groups.items():
            if means[g] is not None:
                span = [self.counts[classes].min() / 1.04, self.counts[classes].max() * 1.04]
                self.bars[name, g].set_data(span, [means[g]] * 2)
        if name == "current":
            cells = [
                f"{g} {means[g]:.1f}" if means[g] is not None else f"{g}: empty"
                for g in ("many", "medium", "few", "all")
            ]
            self.title.set_text("Now, %: " + ", ".join(cells))


class RatioCurve(Canvas):
    """The ratio curve with bands, and a marker at the current ratio."""

    def __init__(self):
        super().__init__(6.4, 4.2)
        self.figure.subplots_adjust(left=0.11, right=0.855, top=0.88, bottom=0.13)
        ax = self.axes[0]
        self.line = self.move(ax.axvline(0, color="#333333", lw=1.6, ls=":"))
        self.dots = {
            g: self.move(ax.plot([], [], "o", ms=8, color=c, mec="white")[0])
            for g, c in COLOURS.items()
        }

    def set_curve(self, table, published=None) -> None:
        """Draw a new curve beneath the marker. ``table`` as ``Fits.table`` gives it; ``published`` as ``published_curve``."""
        ax = self.axes[0]
        for artist in [*ax.lines, *ax.collections, *ax.texts]:
            if artist not in self.moving:
                artist.remove()
        plot_ratio_curve(table, published, ax=ax)
        circles = "; circles: published" if published is not None else ""
        ax.set_title(
            f"Accuracy against p ({table['seed'].nunique()} seeds, ± 1 std{circles})",
            loc="left",
            fontsize=12,
        )
        self.redraw()

    def update(self, ratio: float, means: dict[str, float | None]) -> None:
        self.line.set_xdata([ratio, ratio])
        for g, dot in self.dots.items():
            dot.set_data([ratio], [np.nan if means[g] is None else means[g]])


class Boundary(Canvas):
    """The boundary between the chosen classes, exact: both lines, the points, and the shares on the tail's side."""

    def __init__(self):
        super().__init__(6.4, 5.6)
        self.figure.subplots_adjust(left=0.11, right=0.98, top=0.74, bottom=0.1)
        ax = self.axes[0]
        ax.set(ylabel="perpendicular, in the plane of both boundaries")
        self.region = self.move(
            ax.add_patch(
                Polygon(np.zeros((4, 2)), color=COLOURS["few"], alpha=0.10, lw=0, zorder=0)
            )
        )
        self.sets = {}
        for name, (colour, marker, size, alpha) in SETS.items():
            self.sets[name] = self.move(
                ax.plot(
                    [],
                    [],
                    marker,
                    color=colour,
                    ms=size**0.5,
                    alpha=alpha,
                    mew=1.2 if marker == "x" else 0,
                )[0]
            )
        self.lines = {
            "stage 1": self.move(ax.plot([], [], "--", color=BEFORE, lw=2.4)[0]),
            "current": self.move(ax.plot([], [], "-", color=AFTER, lw=2.8)[0]),
        }
        self.legend = {}
        for k, (name, (colour, marker, _, _)) in enumerate(SETS.items()):
            x, y = 0.03 + 0.5 * (k % 2), 0.925 - 0.043 * (k // 2)
            self.figure.text(
                x, y, {"o": "●", "s": "■", "x": "✕"}[marker], color=colour, va="top", fontsize=11
            )
            self.legend[name] = self.move(self.figure.text(x + 0.03, y, "", va="top", fontsize=10))
        self.figure.text(
            0.53, 0.925 - 2 * 0.043, "- -  stage 1", color="#666666", va="top", fontsize=10
        )
        self.figure.text(
            0.68, 0.925 - 2 * 0.043, "—  current (shaded: tail)", color=AFTER, va="top", fontsize=10
        )
        self.title = self.move(self.figure.text(0.02, 0.985, "", va="top", fontsize=13))
        self.limits = None

    def update(
        self, drawn, points: dict[str, np.ndarray], names: tuple[str, str], fresh: bool
    ) -> None:
        """Move everything. ``fresh`` refits the limits; else they grow only where points would leave them."""
        ax, everything = self.axes[0], np.concatenate([p for p in points.values() if len(p)])
        low, high = everything.min(0), everything.max(0)
        margin = 0.08 * (high - low)
        wanted = np.stack([low - margin, high + margin])
        if (
            fresh
            or self.limits is None
            or (low < self.limits[0]).any()
            or (high > self.limits[1]).any()
        ):
            self.limits = (
                wanted
                if fresh or self.limits is None
                else np.stack(
                    [np.minimum(wanted[0], self.limits[0]), np.maximum(wanted[1], self.limits[1])]
                )
            )
            ax.set(
                xlim=self.limits[:, 0],
                ylim=self.limits[:, 1],
                xlabel="along w(tail) − w(head) of stage 1",
            )
            self.redraw()
        reach = 4 * np.linalg.norm(self.limits[1] - self.limits[0])
        for name, (a, b) in (("stage 1", drawn.before), ("current", drawn.after)):
            unit = a / np.linalg.norm(a)
            centre = self.limits.mean(0)
            foot = centre - (centre @ a + b) / (a @ a) * a
            along = np.array([-unit[1], unit[0]]) * reach
            ends = np.stack([foot - along, foot + along])
            self.lines[name].set_data(*ends.T)
        self.region.set_xy(np.concatenate([ends, (ends + unit * reach)[::-1]]))
        for name, xy in points.items():
            self.sets[name].set_data(*xy.T)
            before, after = (
                100 * np.mean(xy @ a + b > 0) if len(xy) else np.nan
                for a, b in (drawn.before, drawn.after)
            )
            self.legend[name].set_text(
                f"{name} ({len(xy)}): {before:.0f} → {after:.0f} % called tail"
            )
        self.title.set_text(
            f"{short(names[0], 16)} (head) against {short(names[1], 16)} (tail): stage 1 → current"
        )


class Flow(Canvas):
    """Where the chosen class's test images go, and what is taken for it: its row and column of the confusion matrix."""

    SHOWN = 7

    def __init__(self):
        super().__init__(6.4, 4.6, 1, 2)
        self.figure.subplots_adjust(left=0.17, right=0.97, top=0.83, bottom=0.12, wspace=0.62)
        self.bars = {}
        for side, ax in zip(("row", "column"), self.axes, strict=True):
            y = np.arange(self.SHOWN + 1)
            for k, name in enumerate(NAMES):
                self.bars[side, name] = [
                    self.move(p)
                    for p in ax.barh(y + 0.27 * (1 - k), np.zeros(len(y)), 0.25, color=NAMES[name])
                ]
            ax.set(ylim=(self.SHOWN + 0.6, -0.6), xlabel="test images")
            ax.grid(axis="y", visible=False)
        for k, (name, colour) in enumerate(NAMES.items()):
            self.figure.text(
                (0.58, 0.74, 0.83)[k], 0.975, f"■ {name}", color=colour, va="top", fontsize=12
            )
        self.title = self.move(self.figure.text(0.02, 0.975, "", va="top", fontsize=13))

    def choose(self, confusions: dict[str, np.ndarray], c: int, classes: tuple[str, ...]) -> None:
        """Fix which classes are shown for class ``c``, by stage 1 and DR, so that nothing jumps while dragging."""
        self.c, self.shown = c, {}
        total = confusions["stage 1"] + confusions["DR"]
        for side, ax in zip(("row", "column"), self.axes, strict=True):
            counts = total[c] if side == "row" else total[:, c]
            others = [k for k in np.argsort(-counts, kind="stable") if k != c][: self.SHOWN - 1]
            self.shown[side] = [c, *others]
            labels = [short(classes[k]) for k in self.shown[side]] + ["all others"]
            ax.set_yticks(range(len(labels)), labels)
            ax.get_yticklabels()[0].set_weight("bold")
            ax.set_title(
                "its images are called …" if side == "row" else "called so, but really …",
                fontsize=12,
            )
        for ax in self.axes:
            ax.set_xlim(0, max(confusions["DR"][c].sum(), 1) * 1.02)
        self.title.set_text(f"Where {short(classes[c], 16)} goes")
        self.redraw()

    def update(self, name: str, confusion: np.ndarray) -> None:
        for side, ax in zip(("row", "column"), self.axes, strict=True):
            counts = confusion[self.c] if side == "row" else confusion[:, self.c]
            values = [counts[k] for k in self.shown[side]]
            values.append(counts.sum() - sum(values))  # all others
            values += [0] * (self.SHOWN + 1 - len(values))
            if (
                max(values) > ax.get_xlim()[1]
            ):  # limits only grow, so that nothing jumps while dragging
                ax.set_xlim(0, max(values) * 1.2)
                self.redraw()
            for bar, value in zip(self.bars[side, name], values, strict=True):
                bar.set_width(value)


class Embedding(Canvas):
    """The t-SNE map of the chosen classes, with the fused features placed into it."""

    def __init__(self):
        super().__init__(6.4, 5.0)
        self.figure.subplots_adjust(left=0.05, right=0.98, top=0.84, bottom=0.06)
        ax = self.axes[0]
        ax.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
        self.head = ax.plot([], [], "o", ms=4, color=COLOURS["many"], alpha=0.5, lw=0)[0]
        self.tail = ax.plot([], [], "^", ms=6, color=COLOURS["few"], alpha=0.9, lw=0)[0]
        self.fused = self.move(ax.plot([], [], "x", ms=7, mew=1.6, color="#CC79A7")[0])
        self.title = self.move(self.figure.text(0.02, 0.98, "", va="top", fontsize=13))
        self.legend = self.figure.text(0.02, 0.915, "", va="top", fontsize=11)
        self.key = None

    def update(self, xy, labels, fused, state, names: tuple[str, str], ratio: float) -> None:
        key = (state.head, state.tail)
        if key != self.key:
            self.key, ax = key, self.axes[0]
            self.head.set_data(*xy[labels == state.head].T)
            self.tail.set_data(*xy[labels == state.tail].T)
            low, high = xy.min(0), xy.max(0)
            span = 0.1 * (high - low)
            ax.set(
                xlim=(low[0] - span[0], high[0] + span[0]),
                ylim=(low[1] - span[1], high[1] + span[1]),
            )
            self.legend.set_text(
                f"●  {short(names[0], 18)} (head)     ▲  {short(names[1], 18)} (tail)     ✕  fused"
            )
            self.redraw()
        self.fused.set_data(*fused.T)
        self.fused.set_visible(True)
        self.title.set_text(
            f"Where the fused features fall, p = {ratio:.2f} (t-SNE map of both classes)"
        )

    def refuse(self, why: str) -> None:
        """Show no map, and say why."""
        self.key = None
        for artist in (self.head, self.tail):
            artist.set_data([], [])
        self.fused.set_visible(False)
        self.legend.set_text("")
        self.title.set_text(why)
        self.redraw()


class Changed(Canvas):
    """Test images whose prediction changed from DR to the current classifier: gained and lost."""

    COLUMNS = 6

    def __init__(self):
        super().__init__(6.4, 5.0, 4, self.COLUMNS)
        self.figure.subplots_adjust(
            left=0.02, right=0.98, top=0.82, bottom=0.09, hspace=0.95, wspace=0.12
        )
        for ax in self.axes:
            ax.axis("off")
        self.pictures = [
            self.move(ax.imshow(np.full((8, 8, 3), 255, np.uint8))) for ax in self.axes
        ]
        self.texts = [
            self.move(
                ax.text(0.5, -0.06, "", transform=ax.transAxes, ha="center", va="top", fontsize=7.2)
            )
            for ax in self.axes
        ]
        self.titles = [
            self.move(self.figure.text(0.02, y, "", va="top", fontsize=12.5, color=c))
            for y, c in ((0.975, "#00714F"), (0.49, COLOURS["few"]))
        ]
        self.figure.subplots_adjust(top=0.9)
        for k, ax in enumerate(self.axes):  # leave room for the second headline
            row, column = divmod(k, self.COLUMNS)
            height, top = 0.125, (0.91, 0.69, 0.425, 0.205)[row]
            ax.set_position([0.02 + column * 0.163, top - height, 0.15, height])

    def update(self, gained, lost, images, words) -> None:
        """``gained`` and ``lost`` all indices; ``images`` index array to pictures; ``words`` index to its caption."""
        half = 2 * self.COLUMNS
        for part, (indices, what) in enumerate(
            ((gained, "DR has them wrong"), (lost, "DR has them right"))
        ):
            self.titles[part].set_text(
                f"{'Gained' if not part else 'Lost'}: {len(indices)} test images ({what})"
                + (", rarest classes first" if len(indices) > half else "")
            )
            shown = indices[:half]
            pixels = images(shown) if len(shown) else []
            for k in range(half):
                picture, text = self.pictures[part * half + k], self.texts[part * half + k]
                picture.set_visible(k < len(shown))
                text.set_text(words(shown[k]) if k < len(shown) else "")
                if k < len(shown):
                    h, w = pixels[k].shape[:2]
                    picture.set_data(pixels[k])
                    picture.set_extent((-0.5, w - 0.5, h - 0.5, -0.5))
                    picture.axes.set(xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
