"""Figures: each ``plot_x(table, ax=None)`` draws one, returns its Axes, and changes no global setting.

Many, medium and few have the same three colours everywhere, told apart by the colour-blind (Okabe and Ito) as well, and
nothing else has them. All accuracies are in percent; a group without classes is named as empty.
"""

from h2t.plots.classes import (
    plot_class_accuracy,
    plot_confusion,
    plot_confusion_groups,
    plot_reliability,
    plot_weight_norms,
)
from h2t.plots.compare import plot_cost, plot_curves, plot_means, plot_ratio_curves
from h2t.plots.control import plot_control, plot_effects
from h2t.plots.data import plot_counts, plot_strip
from h2t.plots.heads import plot_head_gains
from h2t.plots.space import SETS, plot_boundary, plot_embedding, plot_mask
from h2t.plots.style import (
    AFTER,
    BEFORE,
    COLOURS,
    FUSED,
    METHODS,
    STEPS,
    STYLE,
    TEXT,
    figure_of,
    place,
    save,
    short,
    title,
)
from h2t.plots.training import (
    plot_agreement,
    plot_group_bars,
    plot_learning_curves,
    plot_ratio_curve,
    published_curve,
)

__all__ = [
    "AFTER",
    "BEFORE",
    "COLOURS",
    "FUSED",
    "METHODS",
    "SETS",
    "STEPS",
    "STYLE",
    "TEXT",
    "figure_of",
    "place",
    "plot_agreement",
    "plot_boundary",
    "plot_class_accuracy",
    "plot_confusion",
    "plot_confusion_groups",
    "plot_control",
    "plot_cost",
    "plot_counts",
    "plot_curves",
    "plot_effects",
    "plot_embedding",
    "plot_group_bars",
    "plot_learning_curves",
    "plot_head_gains",
    "plot_mask",
    "plot_means",
    "plot_ratio_curve",
    "plot_ratio_curves",
    "plot_reliability",
    "plot_strip",
    "plot_weight_norms",
    "published_curve",
    "save",
    "short",
    "title",
]
