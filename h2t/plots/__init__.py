"""Figures: each ``plot_x`` draws one, returns its Axes and changes no global setting.

Many, medium and few have the same three colours everywhere, told apart by the colour-blind (Okabe
and Ito) as well, and nothing else has them. All accuracies are in percent; a group without classes
is named as empty.

style.py: colours, fonts, axes, legends, saving
data.py: the long tail, and images of it
training.py: learning curves, accuracy by group, the ratio curve
classes.py: accuracy by class, confusion, weight norms, calibration
space.py: swapped channels, decision boundaries, maps
compare.py: many runs: means, curves, ratios, cost
control.py: fusion by BN statistics
heads.py: what heads on frozen features gain
"""

from .classes import *  # noqa: F403
from .compare import *  # noqa: F403
from .control import *  # noqa: F403
from .data import *  # noqa: F403
from .heads import *  # noqa: F403
from .space import *  # noqa: F403
from .style import *  # noqa: F403
from .training import *  # noqa: F403
