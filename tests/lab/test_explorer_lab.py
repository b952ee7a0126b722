"""Notebook 05 in JupyterLab: drag, run its cells again, change a setting, save, close the page
and open it again."""

import os

import pytest

from h2t import train_stage1
from tests import browser as b
from tests import gestures as g
from tests.helpers import digits_run, stage1_config

chromium, lab = b.chromium, b.lab  # fixtures
SLIDER, STATUS = ".h2tx input[type=range]", ".h2tx .status"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("lab") / "run")
    train_stage1(run, stage1_config(stage1_epochs=12), progress=False)
    return run


def current(page) -> str:
    return page.locator(".h2tx .numbers tbody tr").last.inner_text()


def ready(page) -> None:
    page.wait_for_selector(".h2tx:not(.waiting) .bar", timeout=120_000)
    page.wait_for_function(
        "() => document.querySelector('.h2tx').h2t.store.curve?.complete", timeout=60_000
    )


def test_notebook_05_by_mouse_and_keyboard(chromium, lab, trained):
    with b.window(chromium, lab) as page:
        given = {"run": repr(str(trained)), "views": "2"}
        b.open_notebook(page, lab, "05_fusion_explorer.ipynb", given)
        b.run_all(page, 240)
        ready(page)
        start = current(page)
        page.locator(SLIDER).scroll_into_view_if_needed()
        there = f"{float(page.locator('.h2tx .ratio').input_value()) + 0.1:.2f}"
        for _ in range(10):
            page.locator(SLIDER).press("ArrowRight")
        page.wait_for_function(f"() => document.querySelector('.h2tx .ratio').value === '{there}'")
        box = page.locator(SLIDER).bounding_box()
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.36 * box["width"], y)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.95 * box["width"], y, steps=20)
        page.mouse.up()
        assert float(page.locator(".h2tx .ratio").input_value()) > 0.9
        assert current(page) != start
        if folder := os.environ.get("H2T_SCREENSHOTS"):
            g.screenshot(page, f"{folder}/lab_1366.png", 1366, 768)
        page.get_by_role("button", name="Save figures").click()
        page.wait_for_function(
            f"() => document.querySelector('{STATUS}').textContent.includes('files saved')"
        )
        assert (trained / "explorer" / "explored" / "curve.svg").exists()
        page.get_by_role("button", name="Reset").click()
        page.wait_for_timeout(200)
        assert current(page) == start
        b.run_all(page, 240)  # again in one kernel: one explorer, not two
        ready(page)
        assert page.locator(".h2tx .bar").count() == 1
        page.wait_for_timeout(200)
        assert current(page) == start
        assert b.errors(page) == [] and "Traceback" not in lab.log.read_text()
