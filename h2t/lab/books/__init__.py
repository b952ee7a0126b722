"""Notebooks: run from recipes by papermill, and what their cells call.

apart.py: a recipe through the notebooks, in a process of their own
cells.py: where the notebooks are, their code, the parameters they declare
copies.py: a working copy of them, and JupyterLab opened on it
execute.py: recipes checked, what is done already, and papermill to execute a notebook
inline.py: a papermill engine in this process
live.py: figures that follow training, and widgets with a picture for paper
parameters.py: the parameters of a notebook's tagged cell, checked
verdicts.py: the sentences of the notebooks, computed from their numbers
warm.py: what the process that jobs are forked from has imported and drawn beforehand
"""

import os

# of the debugger that ipykernel loads: a warning to every terminal
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
