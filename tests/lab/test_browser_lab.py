"""Notebook 00 in JupyterLab, driven by keyboard and mouse in headless Chromium: drag, type,
choose, save, reset, reload."""

import os

import numpy as np
import pytest

from tests import browser as b
from tests import gestures as g

chromium, lab = b.chromium, b.lab  # fixtures


# --- notebook 00 ----------------------------------------------------------------------------------

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
    g.type_value(opened, "0.3")
    g.wait_until_still(opened)
    return opened


def own_row(page) -> list[float]:
    """The numbers of the last row: tail's region, head, tail, balanced, at the current ratio."""
    return [float(v) for v in g.text_of(page, NUMBERS_00).splitlines()[-1].split(")")[-1].split()]


def test_slider_by_keyboard_by_mouse_and_by_typing(notebook):
    page = notebook
    assert b.errors(page) == []
    assert g.slider_value(page) == pytest.approx(0.3)

    pixels, numbers, source = g.picture(page), g.text_of(page, NUMBERS_00), g.picture_source(page)
    g.press(page, "ArrowRight", 5)
    g.wait_for_new_picture(page, source)
    g.wait_until_still(page)
    assert g.slider_value(page) == pytest.approx(0.35)
    assert (g.picture(page) != pixels).any(-1).mean() > 0.005
    assert "p = 0.35" in g.text_of(page, NUMBERS_00) and g.text_of(page, NUMBERS_00) != numbers

    before = own_row(page)
    pixels = g.picture(page)
    g.drag(page, 0.8)
    g.wait_until_still(page)
    assert g.slider_value(page) == pytest.approx(0.8, abs=0.02)
    after = own_row(page)
    assert after[0] > before[0] and after[1] < before[1], (
        "the tail's region must grow and the head pay"
    )
    assert (g.picture(page) != pixels).any(-1).mean() > 0.05
    assert f"p = {g.slider_value(page):.2f}" in g.text_of(page, NUMBERS_00)

    g.type_value(page, "7")
    g.wait_until_still(page)
    assert g.slider_value(page) == 1.0 and "p = 1.00" in g.text_of(page, NUMBERS_00)
    g.type_value(page, "not a number")
    g.wait_until_still(page)
    assert g.slider_value(page) == 1.0

    g.drag(page, 0.0)
    g.wait_until_still(page)
    assert g.slider_value(page) == 0.0
    assert own_row(page) == [
        float(v) for v in g.text_of(page, NUMBERS_00).splitlines()[-2].split(")")[-1].split()
    ], "p = 0 is DR"
    assert b.errors(page) == []


def test_the_newest_value_wins_without_a_backlog_and_nothing_jumps(notebook):
    page = notebook
    g.slider(page)
    for _ in range(10):  # every single press is answered
        source = g.picture_source(page)
        g.press(page, "ArrowRight")
        g.wait_for_new_picture(page, source)

    # Count the pictures and watch the size of the image while the slider is dragged back and forth
    # in 200 moves.
    page.evaluate("""() => {
        const image = document.querySelector('img.widget-image, .widget-image img'), seen =
        window.seen = [];
        new MutationObserver(() => seen.push(image.getBoundingClientRect().height)).observe(image,
        {attributeFilter: ['src']});
    }""")
    top = page.locator("img.widget-image").bounding_box()
    for share in (0.9, 0.1, 0.9, 0.4):
        g.drag(page, share, steps=50)
    expected = f"p = {g.slider_value(page):.2f}"
    page.wait_for_function(
        f"() => document.querySelector('{NUMBERS_00}').innerText.includes('{expected}')",
        timeout=20_000,
    )
    g.wait_until_still(page)
    heights = page.evaluate("window.seen")
    assert 0 < len(heights) < 150, "pictures of values long passed were drawn"
    assert expected in g.text_of(page, NUMBERS_00)
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
            g.screenshot(page, f"{folder}/00_{width}_picture{k}.png")
        for k in range(3):
            solutions.nth(k).scroll_into_view_if_needed()
            g.screenshot(page, f"{folder}/00_{width}_solution{k}.png")
        page.locator(".jp-OutputArea-output").last.scroll_into_view_if_needed()
        g.screenshot(page, f"{folder}/00_{width}_end.png")
    assert b.errors(page) == []
