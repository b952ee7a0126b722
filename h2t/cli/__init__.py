"""The command line: thin, and imports what a command needs only when it runs.

options.py: the group, common options, and the table of a run's accuracies
training.py: run, sweep, reproduce, methods, parameters
studies.py: control, heads, select, recipes, report, explore, teach, lab
models.py: pack, import, evaluate, predict, export, bank
"""

from h2t.cli.models import bank, evaluate, export, import_, pack, predict
from h2t.cli.options import main
from h2t.cli.studies import control, explore, heads, lab, recipes, report, select, teach
from h2t.cli.training import methods, parameters, reproduce, run, sweep

__all__ = [
    "bank",
    "control",
    "evaluate",
    "explore",
    "export",
    "heads",
    "import_",
    "lab",
    "main",
    "methods",
]
__all__ += [
    "pack",
    "parameters",
    "predict",
    "recipes",
    "report",
    "reproduce",
    "run",
    "select",
    "sweep",
    "teach",
]
