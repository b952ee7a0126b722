"""A papermill engine that runs a notebook's cells in this process, with the imports that are there.

A kernel of their own would cost each notebook seconds to start and to import. Only for processes
that do nothing else and may die with their work: a command, or a job of a sweep.
"""

from __future__ import annotations

import functools

from ipykernel.inprocess import InProcessKernelManager
from nbclient.exceptions import CellExecutionComplete, CellExecutionError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine
from traitlets.config import Config

# Figures fit their margins themselves: cutting them to size again would draw each a second time,
# and drawing them at the end of a cell, before they are shown, once more.
FIGURES = """%matplotlib inline
%config InlineBackend.print_figure_kwargs = {'bbox_inches': None}
__import__('matplotlib.pyplot').pyplot.uninstall_repl_displayhook()"""


@functools.cache
def _kernel():
    """This process's one kernel: IPython's shell is a singleton."""
    # what the cells of many jobs say does not belong in the user's history, one file for all
    manager = InProcessKernelManager(config=Config(HistoryManager={"enabled": False}))
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    return manager.kernel, client


class _Client(PapermillNotebookClient):
    """papermill's loop over the cells, nbclient's reading of messages, a kernel in this process."""

    def execute(self, **how):
        self.reset_execution_trackers()
        self.kernel, self.kc = _kernel()
        self.kernel.shell.reset()
        self._run(FIGURES, silent=True)
        self.papermill_execute_cells()
        self.nb.metadata["language_info"] = dict(self.kernel.language_info)
        self.set_widgets_metadata()
        return self.nb

    def execute_cell(self, cell, index, *args, **kwargs):
        if cell.cell_type != "code" or not cell.source.strip():
            return cell
        self.clear_before_next_output = False
        cell["metadata"]["execution"] = {}
        messages, reply = self._run(cell.source, store_history=True)
        for message in messages:
            try:
                self.process_message(message, cell, index)
            except CellExecutionComplete:
                break
        if reply["status"] == "error":
            raise CellExecutionError.from_cell_and_msg(cell, reply)
        return cell

    def _run(self, code: str, **how) -> tuple[list[dict], dict]:
        """What a piece of code printed and showed, as messages, and the reply to it."""
        request = self.kc.execute(code, **how)
        self.kernel.stdout.flush()
        self.kernel.stderr.flush()
        messages = self.kc.iopub_channel.get_msgs()
        replies = self.kc.shell_channel.get_msgs()
        own = (m for m in replies if m["parent_header"].get("msg_id") == request)
        return messages, next(own)["content"]


class InlineEngine(Engine):
    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
        # papermill saves the file twice a cell; nobody watches this one
        save, nb_man.save = nb_man.save, lambda **how: None
        try:
            return _Client(nb_man, kernel_name=kernel_name).execute()
        finally:
            nb_man.save = save
