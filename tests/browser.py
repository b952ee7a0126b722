"""JupyterLab in headless Chromium, for tests that drive a notebook as a person does.

Use: ``chromium, lab = browser.chromium, browser.lab`` gives a test module the fixtures ``lab`` (a
server) and ``chromium``, both once a module, since each takes seconds to start; ``window`` opens a
page in it. The helpers below take the page. Where there is no
Chromium or no playwright the tests skip with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SETTINGS = {
    "notebook-extension/tracker": {
        "windowingMode": "none"
    },  # cells that are out of sight stay in the page, to be read
    "apputils-extension/notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
        "doNotDisturbMode": True,
    },
}
# What JupyterLab itself logs as an error where nothing is wrong.
HARMLESS = ("favicon", "/api/workspaces", "/static/lang", "/lab/api/translations")


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, token, and the folder it serves, a copy of the checkout's
    notebooks."""

    url: str
    token: str
    folder: Path
    log: Path

    def rest(self, path: str, method: str = "GET"):
        """Call the server's REST API. Returns: the decoded answer, None where it is empty."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def faults(self) -> list[str]:
        """How the tracebacks in its log end, but for those of a window that closed meanwhile."""
        ends = re.findall(r"^Traceback .*\n(?:[ ].*\n)*(.*)", self.log.read_text(), re.MULTILINE)
        return [end for end in ends if "ClosedError" not in end]

    def end_sessions(self, but=()) -> None:
        """Shut the kernels down, which outlive the page that started them, except those of these
        sessions."""
        for session in self.rest("sessions"):
            if session["id"] not in but:
                self.rest(f"sessions/{session['id']}", "DELETE")


def free_port() -> int:
    """A TCP port on loopback that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _need_a_browser() -> None:
    if CHROMIUM is None:
        pytest.skip(
            "no chromium or google-chrome on the PATH: the browser tests need one "
            "(Debian: apt install chromium)"
        )
    pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: uv sync --group dev"
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """JupyterLab on a free port, with its settings and a copy of the notebooks in a temporary
    folder."""
    _need_a_browser()
    base = tmp_path_factory.mktemp("lab")
    folder = base / "notebooks"
    shutil.copytree(
        ROOT / "notebooks", folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "runs")
    )
    names = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    )
    env = {
        **os.environ,
        **{name: str(base / name.lower()) for name in names},
        "JUPYTERLAB_SETTINGS_DIR": str(base / "settings"),
    }
    for name, settings in SETTINGS.items():
        extension, plugin = name.split("/")
        file = base / "settings" / "@jupyterlab" / extension / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(settings))
    port, token, log = free_port(), secrets.token_hex(16), base / "jupyter.log"
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    with log.open("w") as out:
        server = subprocess.Popen(
            command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT
        )
    running = Lab(f"http://127.0.0.1:{port}", token, folder, log)
    try:
        _wait_for_server(running, server)
        yield running
        running.end_sessions()
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for_server(lab: Lab, server: subprocess.Popen, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            lab.rest("status")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"jupyter lab did not start:\n{lab.log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def chromium():
    """Chromium, once a test module; closed with it, because playwright keeps an event loop while
    it is open."""
    _need_a_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def window(chromium, lab: Lab):
    """A window of 1280 x 900 in a profile of its own, its kernels deleted afterwards.
    ``page.problems`` lists what its console reported as errors."""
    before = [session["id"] for session in lab.rest("sessions")]
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(f"uncaught: {error}"))
    page.on("console", lambda message: _note(page.problems, message))
    try:
        yield page
        page.goto("about:blank")  # or the notebook asks the server for a kernel again
    finally:
        context.close()
        lab.end_sessions(before)


def _note(problems: list[str], message) -> None:
    where = message.location.get("url", "") if message.location else ""
    if message.type == "error" and not any(part in where + message.text for part in HARMLESS):
        problems.append(f"{message.text} ({where})")


def open_notebook(page, lab: Lab, name: str, parameters: dict[str, str] | None = None) -> None:
    """Open a notebook in a clean workspace, as it is in the checkout, and wait until its cells and
    its kernel are there.

    Arguments: ``name`` of the file; ``parameters`` name to Python source, which replace those of
    the parameters cell.
    """
    notebook = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            known = {line.split(":")[0]: k for k, line in enumerate(cell["source"])}
            for key, value in (parameters or {}).items():
                cell["source"][known[key]] = f"{key} = {value}\n"
    (lab.folder / name).write_text(json.dumps(notebook), encoding="utf-8")
    page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}&reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    _until(
        page,
        lambda: any(
            s["kernel"]["execution_state"] == "idle"
            for s in lab.rest("sessions")
            if s["path"] == name
        ),
        60,
        "a kernel",
    )


def run_all(page, seconds: float = 180) -> None:
    """Click Run, Run All Cells, and wait until every code cell has run or one of them has
    failed."""
    forget_numbers(page)
    menu(page, "Run", "runmenu:run-all")
    wait_until_run(page, seconds)


def forget_numbers(page) -> None:
    """Take the numbers off the cells, so that those of an earlier run are not taken for new."""
    page.eval_on_selector_all(".jp-InputPrompt", "all => all.forEach(p => (p.textContent = ''))")


def menu(page, title: str, command: str) -> None:
    """Click an entry of the menu bar, named by the command it stands for."""
    page.click(f'.lm-MenuBar-item:has-text("{title}")')
    page.click(f'.lm-Menu-item[data-command="{command}"]')


def wait_until_run(page, seconds: float = 180) -> None:
    """Wait until every non-empty code cell bears a number, or a cell shows an error."""
    page.wait_for_function(
        """() => {
            const panel = '.jp-NotebookPanel:not(.lm-mod-hidden)';
            const cells = [...document.querySelectorAll(panel + ' .jp-CodeCell')];
            const done = c => /\\[\\d+\\]/.test(c.querySelector('.jp-InputPrompt').textContent);
            const empty = c => !c.querySelector('.cm-content')?.textContent.trim();
            const failed =
            document.querySelector('[data-mime-type="application/vnd.jupyter.error"]');
            return cells.length && (failed || cells.every(c => done(c) || empty(c)));
        }""",
        timeout=seconds * 1000,
    )


def errors(page) -> list[str]:
    """What went wrong so far: tracebacks and stderr in outputs, widgets that did not show, errors
    in the console."""
    shown = page.eval_on_selector_all(
        '[data-mime-type="application/vnd.jupyter.error"], '
        '[data-mime-type="application/vnd.jupyter.stderr"]',
        "nodes => nodes.map(n => n.textContent)",
    )
    broken = page.eval_on_selector_all(
        ".jp-OutputArea-output", "nodes => nodes.map(n => n.textContent)"
    )
    return shown + [t for t in broken if "Error displaying widget" in t] + page.problems


def _until(page, condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} after {seconds} s"
        page.wait_for_timeout(100)
