"""Notebook 05 in JupyterLab, driven in headless Chromium: drag, type, choose, save, reset, reload."""

import os

import pytest

from h2t import train_stage1
from tests import browser as b
from tests.helpers import digits_run, stage1_config

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


def test_the_explorer_by_keyboard_and_mouse(explorer, trained):
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
    assert b.errors(page) == []
    if folder := os.environ.get("H2T_SCREENSHOTS"):
        for width in (1280, 1920):
            b.screenshot(page, f"{folder}/explorer_{width}.png", width, 1400)
