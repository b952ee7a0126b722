"""The fusion explorer as a page in the browser, served by Voila, without notebook chrome."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from pathlib import Path

from h2t.base.errors import Error
from h2t.lab.explorer.engine import Explorer
from h2t.recipes.parameters import Stage2
from h2t.runs import Run

BOOK = "05_fusion_explorer.ipynb"


def write_page(run: Run, recipe: Stage2, views: int) -> Path:
    """Write notebook 05, with a run's parameters set, as ``explorer/fusion_explorer.ipynb`` of the run."""
    from papermill.iorw import load_notebook_node, write_ipynb
    from papermill.parameterize import parameterize_notebook

    from h2t.lab.books.execute import declared, find

    book = find() / BOOK
    known = declared(book)
    parameters = {k: v for k, v in recipe.to_dict().items() if k in known} | {
        "run": str(run.path),
        "views": views,
    }
    page = run.path / "explorer" / "fusion_explorer.ipynb"
    page.parent.mkdir(exist_ok=True)
    write_ipynb(parameterize_notebook(load_notebook_node(str(book)), parameters), str(page))
    return page


def serve(
    run: Run | str,
    recipe: Stage2,
    *,
    views: int = 4,
    ip: str = "127.0.0.1",
    port: int = 0,
    browser: bool = True,
) -> None:
    """Open the explorer of a run as a page and serve it until Ctrl-C. Who opens it needs the token in its address.

    Arguments: ``views`` of the feature bank, built first where it is not there; ``ip`` to listen on (127.0.0.1: this
    machine alone; 0.0.0.0: any); ``port``, 0 for a free one; ``browser`` whether to open one here.
    Raises: ``h2t.Error`` with the mend where Voila or something in the run is missing, or the port is taken.
    """
    try:
        from voila.app import Voila
    except ImportError:
        raise Error(
            "the page needs Voila; start it with `uv run --extra page h2t explore RUN`, or `pip install voila`"
        ) from None
    run = Run(run, create=False)
    Explorer(
        run, recipe, views=views
    )  # builds the bank, and says what is missing, before anybody waits for a page
    page, port, token = write_page(run, recipe, views), _free(ip, port), secrets.token_urlsafe(24)
    app = Voila()
    app.initialize(
        [
            str(page),
            "--no-browser",
            f"--port={port}",
            f"--Voila.ip={ip}",
            "--Voila.port_retries=0",
            "--Voila.log_level=WARN",
        ]
    )
    app.token = token  # not on the command line, where every user of the machine could read it
    url = f"http://{'127.0.0.1' if ip in ('', '0.0.0.0') else ip}:{port}/?token={token}"
    print(f"the explorer of {run.path} is at\n  {url}\nStop it with Ctrl-C.", flush=True)
    if browser:
        threading.Timer(1.0, webbrowser.open, (url,)).start()
    app.start()


def _free(ip: str, port: int) -> int:
    """The port, or a free one for 0. Raises ``h2t.Error`` where it cannot be had."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((ip, port))
        except OSError as e:
            raise Error(
                f"cannot listen on {ip}:{port}: {e.strerror}; choose another with --ip and --port"
            ) from None
        return s.getsockname()[1]
