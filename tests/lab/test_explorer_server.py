"""The explorer's server: pages that share a session, its token, and the command until Ctrl-C."""

import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from h2t.cli import main
from h2t.lab import server
from h2t.lab.explorer import page as explorer_page
from h2t.lab.explorer.session import Session
from tests.helpers import ROOT
from tests.lab import explorer_window as pages

chromium = pages.chromium  # a fixture
opened, inside, STATUS = pages.opened, pages.inside, pages.STATUS


@pytest.fixture
def served(engine):
    session = Session(engine)
    with server.Server(explorer_page.page(engine), session) as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield one
        one.shutdown()
        session.close()
        thread.join(10)


def test_two_pages_share_settings_and_what_is_wrong_is_said(chromium, served):
    with opened(chromium, served.url) as page, opened(chromium, served.url) as second:
        page.locator("summary").click()
        epochs = page.get_by_label("stage-2 epochs")
        for bad in ("1000000", "0", "2.5", "many"):
            epochs.fill(bad)
            epochs.press("Enter")
            assert "a whole number from 1 to 200" in page.locator(STATUS).inner_text()
            assert epochs.input_value() == "3"
        epochs.fill("1")
        epochs.press("Enter")
        for one in (page, second):
            one.wait_for_function(
                "() => document.querySelector('#explorer').h2t.store.settings.stage2_epochs === 1"
            )
        assert page.locator(STATUS).inner_text() == ""
        assert served.session.idle.wait(60)
        page.get_by_label("name to save under").fill("n/../n")
        page.get_by_role("button", name="Save classifier").click()
        page.wait_for_selector(".h2tx .status.bad")
        assert "it names a folder" in page.locator(STATUS).inner_text()
        page.get_by_label("name to save under").fill("served")
        page.get_by_role("button", name="Save classifier").click()
        page.wait_for_function(
            "() => document.querySelector('.status').textContent.includes('saved as stage2-served')"
        )
        assert served.session.engine.run.step("stage2-served").done
        page.reload()
        page.wait_for_selector("#explorer:not(.waiting) .bar")
        assert inside(page, "store.settings.stage2_epochs") == 1


def test_the_page_needs_its_token(served):
    for path in ("/", "/?token=wrong", "/frames?since=0", "/frames?token="):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(served.url.split("/?")[0] + path, timeout=10)
        assert refused.value.code == 403
    with urllib.request.urlopen(served.url, timeout=10) as answer:
        assert b"The explorer" in answer.read()


def test_the_command_serves_until_ctrl_c(trained):
    command = [sys.executable, "-m", "h2t", "explore", str(trained), "--no-browser"]
    process = subprocess.Popen(
        [*command, "--views", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        # what is started in the background of a script ignores Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        url = next(line.strip() for line in process.stdout if "http://" in line)
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.status == 200
        taken = url.split(":")[2].split("/")[0]
        cli = CliRunner().invoke(
            main, ["explore", str(trained), "--views", "2", "--no-browser", "--port", taken]
        )
        assert cli.exit_code == 2 and "cannot listen on 127.0.0.1:" in cli.output
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=180)[0]
    assert process.returncode == 0 and "has ended" in rest and "Traceback" not in rest
