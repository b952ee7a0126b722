"""The command line: thin, and imports what a command needs only when it runs.

options.py: the group, common options, and the table of a run's accuracies
training.py: run, sweep, reproduce, recipes, methods, parameters
studies.py: lab, explore, teach, report, heads, control, select
models.py: evaluate, predict, export, import, pack, bank
"""

from h2t.cli import training, studies, models  # isort: skip: the order of their commands
from h2t.cli.options import main

__all__ = ["main", "models", "studies", "training"]
