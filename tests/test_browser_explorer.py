"""Notebook 05 in JupyterLab, driven in headless Chromium: drag, type, choose, save, reset, reload."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from h2t import train_stage1
from tests import browser as b
from tests.helpers import ROOT, digits_run, stage1_config

chromium, lab, page = b.chromium, b.lab, b.page  # fixtures
BOOK = "05_fusion_explorer.ipynb"
NUMBERS, STATUS = ".h2t-numbers", ".h2t-status"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("browser") / "run")
    train_stage1(run, stage1_config(stage1_epochs=12), progress=False)
    return run


@pytest.fixture
def explorer(page, lab, trained):
    b.open_notebook(page, lab, BOOK, {"run": repr(str(trained)), "views": "2"})
    b.run_all(page, 240)
    page.wait_for_selector(".h2t-explorer .widget-slider")
    page.wait_for_selector(".h2t-explorer img")
    return page


def current(page) -> str:
    return page.locator(NUMBERS).first.inner_text().splitlines()[-1]


def test_the_explorer_by_keyboard_and_mouse(explorer, trained, lab):
    page = explorer
    assert b.errors(page) == []
    assert page.locator(".h2t-explorer img").count() == 6
    for k in range(6):
        assert b.picture(page, k).std() > 5  # no blank figure
    start, pixels = current(page), [b.picture(page, k) for k in range(6)]
    b.press(page, "ArrowRight", 10)
    b.wait_until_still(page, 1500)
    assert b.slider_value(page) == pytest.approx(0.4) and current(page) != ""
    b.drag(page, 0.9)
    b.wait_until_still(page, 2500)
    assert b.slider_value(page) == pytest.approx(0.9, abs=0.03) and current(page) != start
    assert all((b.picture(page, k) != pixels[k]).any() for k in range(6))
    b.type_value(page, "7")
    b.wait_until_still(page, 2500)
    assert b.slider_value(page) == 1.0

    page.get_by_label("stage-2 epochs").fill("0")
    page.get_by_label("stage-2 epochs").press("Enter")
    page.wait_for_function(f"() => document.querySelector('{STATUS}')?.textContent.includes('stage2_epochs is 0')")
    page.get_by_label("tail class").select_option(index=5)
    page.get_by_role("button", name="Save figures").click()
    page.wait_for_function(f"() => document.querySelector('{STATUS}')?.textContent.includes('six figures saved')", timeout=60_000)
    assert len(list((trained / "explorer" / "explored").glob("*.png"))) == 6

    page.get_by_role("button", name="Reset to the recipe").click()
    b.wait_until_still(page, 2500)
    assert b.slider_value(page) == pytest.approx(0.3) and current(page) == start
    assert b.errors(page) == [] and "Traceback" not in lab.log.read_text()
    if folder := os.environ.get("H2T_SCREENSHOTS"):
        for width in (1280, 1920):
            b.screenshot(page, f"{folder}/explorer_{width}.png", width, 1400)


def test_the_page_needs_its_token_and_follows_the_slider(chromium, trained):
    """``h2t explore`` in Chromium: refused without the token; with it the figures, no code, and the slider at work."""
    pytest.importorskip("voila", reason="voila is not installed: uv sync --group dev")
    command = [sys.executable, "-m", "h2t.cli", "explore", str(trained), "--views", "2", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    try:
        url = next(line.strip() for line in server.stdout if "http://" in line)
        assert url.startswith("http://127.0.0.1:") and "token=" in url
        page = context.new_page()
        page.set_default_timeout(90_000)
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        wait_for_port(url)
        page.goto(url.split("?")[0])
        assert page.locator(".h2t-explorer").count() == 0 and page.get_by_label("Password or token").or_(page.locator("input[type=password]")).count()
        page.goto(url)
        page.wait_for_selector(".h2t-explorer img")
        b.wait_until_still(page, 1500)
        assert page.locator(".h2t-explorer img").count() == 6 and not page.get_by_text("check_notebook").count()  # no code
        start, old = current(page), b.picture(page, 0)
        b.press(page, "ArrowRight", 20)
        b.wait_until_still(page, 2000)
        assert b.slider_value(page) == pytest.approx(0.45, abs=0.011) and current(page) != start and (b.picture(page, 0) != old).any()
        page.reload()
        page.wait_for_selector(".h2t-explorer img")
        b.wait_until_still(page, 1500)
        assert current(page) == start and problems == []
        if folder := os.environ.get("H2T_SCREENSHOTS"):
            for width in (1280, 1920):
                b.screenshot(page, f"{folder}/page_{width}.png", width, 1400)
    finally:
        context.close()
        server.send_signal(signal.SIGINT)
        assert server.wait(30) in (0, 130)


def wait_for_port(url, seconds=60):
    address = url.split("//")[1].split("/")[0].split(":")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as s:
            if s.connect_ex((address[0], int(address[1]))) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"nothing listens at {url}")


def test_a_page_that_cannot_be_served_says_why(tmp_path, trained):
    from click.testing import CliRunner

    from h2t.cli import main

    cli = lambda *a: CliRunner().invoke(main, ["explore", *map(str, a), "--no-browser"])  # noqa: E731
    assert "there is no run directory" in cli(tmp_path / "none").output
    run, _ = digits_run(tmp_path / "run")
    assert "has no finished stage 1; train one with `h2t run RECIPE -p run" in cli(run).output
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = cli(trained, "--views", 2, "--port", s.getsockname()[1])
    assert taken.exit_code == 2 and "cannot listen on 127.0.0.1:" in taken.output
