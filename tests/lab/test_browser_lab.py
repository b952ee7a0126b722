"""Notebooks 00 and 05 in JupyterLab, driven by keyboard and mouse in headless Chromium: drag, type, choose, save, reset, reload."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from h2t import train_stage1
from tests import browser as b
from tests.helpers import ROOT, digits_run, stage1_config

chromium, lab = b.chromium, b.lab  # fixtures


# --- notebook 00 ------------------------------------------------------------------------------------------------------

FAST = {"seeds": "2", "ratios": "[0.3, 0.5]", "num_features": "16"}
NUMBERS_00 = ".widget-html-content"


@pytest.fixture(scope="module")
def opened(chromium, lab):
    with b.window(chromium, lab) as page:
        b.open_notebook(page, lab, "00_why_fusion_works.ipynb", FAST)
        b.run_all(page)
        page.wait_for_selector(".widget-slider")
        yield page


@pytest.fixture
def notebook(opened):
    """Notebook 00 as it is when all its cells have run."""
    opened.set_viewport_size({"width": 1280, "height": 900})
    b.type_value(opened, "0.3")
    b.wait_until_still(opened)
    return opened


def own_row(page) -> list[float]:
    """The numbers of the last row: tail's region, head, tail, balanced, at the current ratio."""
    return [float(v) for v in b.text_of(page, NUMBERS_00).splitlines()[-1].split(")")[-1].split()]


def test_slider_by_keyboard_by_mouse_and_by_typing(notebook):
    page = notebook
    assert b.errors(page) == []
    assert b.slider_value(page) == pytest.approx(0.3)

    pixels, numbers, source = b.picture(page), b.text_of(page, NUMBERS_00), b.picture_source(page)
    b.press(page, "ArrowRight", 5)
    b.wait_for_new_picture(page, source)
    b.wait_until_still(page)
    assert b.slider_value(page) == pytest.approx(0.35)
    assert (b.picture(page) != pixels).any(-1).mean() > 0.005
    assert "p = 0.35" in b.text_of(page, NUMBERS_00) and b.text_of(page, NUMBERS_00) != numbers

    before = own_row(page)
    pixels = b.picture(page)
    b.drag(page, 0.8)
    b.wait_until_still(page)
    assert b.slider_value(page) == pytest.approx(0.8, abs=0.02)
    after = own_row(page)
    assert after[0] > before[0] and after[1] < before[1], (
        "the tail's region must grow and the head pay"
    )
    assert (b.picture(page) != pixels).any(-1).mean() > 0.05
    assert f"p = {b.slider_value(page):.2f}" in b.text_of(page, NUMBERS_00)

    b.type_value(page, "7")
    b.wait_until_still(page)
    assert b.slider_value(page) == 1.0 and "p = 1.00" in b.text_of(page, NUMBERS_00)
    b.type_value(page, "not a number")
    b.wait_until_still(page)
    assert b.slider_value(page) == 1.0

    b.drag(page, 0.0)
    b.wait_until_still(page)
    assert b.slider_value(page) == 0.0
    assert own_row(page) == [
        float(v) for v in b.text_of(page, NUMBERS_00).splitlines()[-2].split(")")[-1].split()
    ], "p = 0 is DR"
    assert b.errors(page) == []


def test_the_newest_value_wins_without_a_backlog_and_nothing_jumps(notebook):
    page = notebook
    b.slider(page)
    for _ in range(10):  # every single press is answered
        source = b.picture_source(page)
        b.press(page, "ArrowRight")
        b.wait_for_new_picture(page, source)

    # Count the pictures and watch the size of the image while the slider is dragged back and forth in 200 moves.
    page.evaluate("""() => {
        const image = document.querySelector('img.widget-image, .widget-image img'), seen = window.seen = [];
        new MutationObserver(() => seen.push(image.getBoundingClientRect().height)).observe(image, {attributeFilter: ['src']});
    }""")
    top = page.locator("img.widget-image").bounding_box()
    for share in (0.9, 0.1, 0.9, 0.4):
        b.drag(page, share, steps=50)
    expected = f"p = {b.slider_value(page):.2f}"
    page.wait_for_function(
        f"() => document.querySelector('{NUMBERS_00}').innerText.includes('{expected}')",
        timeout=20_000,
    )
    b.wait_until_still(page)
    heights = page.evaluate("window.seen")
    assert 0 < len(heights) < 150, "pictures of values long passed were drawn"
    assert expected in b.text_of(page, NUMBERS_00)
    assert np.ptp(heights) < 1 and page.locator("img.widget-image").bounding_box() == top, (
        "the picture jumps"
    )
    assert b.errors(page) == []


def test_it_fits_the_window_and_solutions_open(notebook, tmp_path):
    """Set H2T_SCREENSHOTS to a folder to keep the pictures and look at them."""
    page = notebook
    folder = os.environ.get("H2T_SCREENSHOTS", tmp_path)
    pictures, solutions = page.locator(".jp-OutputArea-output img"), page.locator("details")
    assert pictures.count() == 5 and solutions.count() == 3
    assert not any(solutions.nth(k).locator("pre").is_visible() for k in range(3))
    for k in range(3):
        solutions.nth(k).locator("summary").click()
        assert solutions.nth(k).locator("pre").is_visible()
    for width in (1280, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(500)
        panel = page.locator(".jp-NotebookPanel").bounding_box()
        for k in range(5):
            pictures.nth(k).scroll_into_view_if_needed()
            box = pictures.nth(k).bounding_box()
            assert (
                box["x"] >= panel["x"]
                and box["x"] + box["width"] <= panel["x"] + panel["width"] + 1
            ), f"picture {k} is cut off"
            b.screenshot(page, f"{folder}/00_{width}_picture{k}.png")
        for k in range(3):
            solutions.nth(k).scroll_into_view_if_needed()
            b.screenshot(page, f"{folder}/00_{width}_solution{k}.png")
        page.locator(".jp-OutputArea-output").last.scroll_into_view_if_needed()
        b.screenshot(page, f"{folder}/00_{width}_end.png")
    assert b.errors(page) == []


# --- notebook 05 ------------------------------------------------------------------------------------------------------

NUMBERS, STATUS = ".h2t-numbers", ".h2t-status"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("browser") / "run")
    train_stage1(run, stage1_config(stage1_epochs=12), progress=False)
    return run


@pytest.fixture
def explorer(chromium, lab, trained):
    with b.window(chromium, lab) as page:
        b.open_notebook(
            page, lab, "05_fusion_explorer.ipynb", {"run": repr(str(trained)), "views": "2"}
        )
        b.run_all(page, 240)
        page.wait_for_selector(".h2t-explorer .widget-slider")
        page.wait_for_selector(".h2t-explorer img")
        yield page


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
    page.wait_for_function(
        f"() => document.querySelector('{STATUS}')?.textContent.includes('stage2_epochs is 0')"
    )
    page.get_by_label("tail class").select_option(index=5)
    page.get_by_role("button", name="Save figures").click()
    page.wait_for_function(
        f"() => document.querySelector('{STATUS}')?.textContent.includes('six figures saved')",
        timeout=60_000,
    )
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
    command = [
        sys.executable,
        "-m",
        "h2t.cli",
        "explore",
        str(trained),
        "--views",
        "2",
        "--no-browser",
    ]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
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
        assert (
            page.locator(".h2t-explorer").count() == 0
            and page.get_by_label("Password or token")
            .or_(page.locator("input[type=password]"))
            .count()
        )
        page.goto(url)
        page.wait_for_selector(".h2t-explorer img")
        b.wait_until_still(page, 1500)
        assert (
            page.locator(".h2t-explorer img").count() == 6
            and not page.get_by_text("check_notebook").count()
        )  # no code
        start, old = current(page), b.picture(page, 0)
        b.press(page, "ArrowRight", 20)
        b.wait_until_still(page, 2000)
        assert (
            b.slider_value(page) == pytest.approx(0.45, abs=0.011)
            and current(page) != start
            and (b.picture(page, 0) != old).any()
        )
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
