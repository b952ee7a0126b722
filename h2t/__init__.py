"""h2t: feature fusion from head to tail, an interactive workbench for long-tailed recognition.

Its rooms, each on what stands before it:

    base: errors, files, readers, random streams, tables
    encoders: frozen networks of others
    losses: one idea a file
    data: images, long tails, loaders
    models: networks and classifiers
    fusion: the method, two pure functions
    metrics: accuracy by group, calibration
    runs: the run directory, which is all that passes from one step to the next
    heads: methods that train a classifier on frozen features
    recipes: parameters, methods by name, published numbers
    train: both stages, exact and on a bank of features
    plots: a table in, Axes out
    exchange: checkpoints in, models and predictions out
    estimator: H2T for scikit-learn
    pipeline: a run from end to end
    lab: notebooks, the explorer, the toy of notebook 00
    study: sweeps, comparisons, reports, images of one's own
    cli: the command line

Importing it does no work: every public name below is loaded on first use.
"""

import importlib

from h2t.base.errors import Error

__version__ = "0.2.0"

_PUBLIC = {
    "H2TClassifier": "h2t.estimator",
    "Run": "h2t.runs",
    "table": "h2t.study.compare.table",
    "report": "h2t.study.report.site",
    "Data": "h2t.recipes.parameters",
    "Stage1": "h2t.recipes.parameters",
    "Stage2": "h2t.recipes.parameters",
    "load": "h2t.data.sources",
    "prepare": "h2t.train.prepare",
    "dataset": "h2t.train.rundata",
    "train_stage1": "h2t.pipeline",
    "train_stage2": "h2t.pipeline",
    "fuse": "h2t.fusion",
    "channel_mask": "h2t.fusion",
}
__all__ = ["Error", "__version__", *_PUBLIC]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'h2t' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return sorted(__all__)
