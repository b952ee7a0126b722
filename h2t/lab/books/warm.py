"""Imported once by the process that a sweep's jobs are forked from.

What the first figure and the first table of a process cost, fonts and caches, each job then has for
nothing. A job does without where this fails.
"""

import contextlib
import gc
import io

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd

from h2t.plots import figure_of, plot_group_bars

matplotlib.use("agg")  # no window, and none of the threads of one, whatever the user's backend is

with contextlib.suppress(Exception):
    _table = pd.DataFrame([[1.0, 2.0]], index=["a"], columns=["many", "all"])
    _figure = figure_of(plot_group_bars(_table))
    _figure.savefig(io.BytesIO(), format="png")
    plt.close(_figure)
    _table.style.format("{:+.2f}").to_html()

# all that is here lives as long as the process: no collection in a job copies its pages
gc.freeze()
