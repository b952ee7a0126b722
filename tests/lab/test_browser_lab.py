"""Notebooks 00 and 05 in JupyterLab, in headless Chromium: drag, run cells again, restart the
kernel, open a second tab. What needs no kernel is tested on the saved pages, which are quicker."""

import pytest

from tests import browser as b
from tests.lab import explorer_window as w

chromium, lab = b.chromium, b.lab  # fixtures
FAST = {"seeds": "2", "ratios": "[0.3, 0.5]", "num_features": "16"}
LAST = ".h2tx .numbers tbody tr:last-child"


@pytest.fixture
def page(chromium, lab):
    with b.window(chromium, lab) as page:
        yield page
        assert b.errors(page) + lab.faults() == []


def restart(page, command: str = "kernelmenu:restart") -> None:
    """Restart the kernel as a user does: only JupyterLab itself knows when it is there again, and
    a cell sent to the old one is never answered."""
    b.menu(page, command.split("menu:")[0].capitalize(), command)
    page.click(".jp-Dialog .jp-mod-accept")


def run_again(page, seconds: float = 240, run=b.run_all) -> None:
    """Run all cells again: what they showed is closed, and there once."""
    old = page.evaluate_handle("document.querySelector('.h2tx')")
    page.evaluate("old => { old.old = true; }", old)
    run(page, seconds)
    page.wait_for_selector(".h2tx:not(.waiting) .bar")
    page.wait_for_function("old => !old.isConnected && !old.children.length", arg=old)
    assert page.locator(".h2tx").count() == 1


def restart_and_run_all(page, seconds: float) -> None:
    b.forget_numbers(page)
    restart(page, "runmenu:restart-and-run-all")
    b.wait_until_run(page, seconds)


def fits(page) -> None:
    """Pictures and widgets lie within the panel at two widths."""
    for width in (1280, 800):
        page.set_viewport_size({"width": width, "height": 900})
        w.still(page)
        panel = page.locator(".jp-NotebookPanel").bounding_box()
        for part in page.locator(".jp-OutputArea-output img, .h2tx").all():
            box = part.bounding_box()
            assert panel["x"] <= box["x"], "something is cut off"
            assert box["x"] + box["width"] <= panel["x"] + panel["width"] + 1, "it is cut off"
        page.locator(".h2tx").scroll_into_view_if_needed()
        w.shot(page, f"lab_{width}_{page.locator('.h2tx .figure').count()}")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_notebook_00(page, lab):
    b.open_notebook(page, lab, "00_why_fusion_works.ipynb", FAST)
    b.run_all(page)
    page.wait_for_selector(LAST)
    start = page.locator(LAST).inner_text()
    page.locator(w.SLIDER).press("End")
    page.wait_for_function("text => document.querySelector('.h2tx').h2t.p === 1")
    w.still(page)
    assert page.locator(LAST).inner_text() != start
    fits(page)
    solutions = page.locator("details:not(.h2tx details)")
    assert solutions.count() == 3
    for one in solutions.all():
        assert not one.locator("pre").is_visible()
        one.locator("summary").click()
        assert one.locator("pre").is_visible()
    restart(page)
    page.locator(w.SLIDER).press("Home")  # nothing asks the kernel
    w.still(page)
    own = page.locator(".h2tx .numbers tbody tr td").all_inner_texts()
    assert own[-4:] == own[-8:-4], "p = 0 is DR"
    run_again(page, run=restart_and_run_all)
    assert page.locator(LAST).inner_text() == start


def ready(page) -> None:
    page.wait_for_selector(".h2tx:not(.waiting) .bar", timeout=120_000)
    page.wait_for_function("() => document.querySelector('.h2tx').h2t.store.curve", timeout=60_000)


def test_notebook_05(page, lab, trained):
    b.open_notebook(
        page, lab, "05_fusion_explorer.ipynb", {"run": repr(str(trained)), "views": "2"}
    )
    b.run_all(page, 240)
    ready(page)
    start, slider = page.locator(LAST).inner_text(), page.locator(w.SLIDER)
    there = f"{float(page.locator(w.RATIO).input_value()) + 0.1:.2f}"
    for _ in range(10):
        slider.press("ArrowRight")
    assert page.locator(w.RATIO).input_value() == there
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.36 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"], y, steps=20)
    page.mouse.up()
    w.still(page)
    assert float(page.locator(w.RATIO).input_value()) > 0.9
    assert page.locator(LAST).inner_text() != start
    fits(page)
    with page.expect_download(lambda d: d.suggested_filename == "explored-curve.svg"):
        page.get_by_role("button", name="Save figures").click()
    page.get_by_role("button", name="Reset").click()
    w.still(page)
    assert page.locator(LAST).inner_text() == start
    two_tabs(page, lab)
    run_again(page)  # in one kernel: one explorer, not two
    ready(page)
    assert page.locator(LAST).inner_text() == start


def two_tabs(page, lab) -> None:
    """A second tab shows the same session, and has a slider of its own."""
    b.menu(page, "File", "docmanager:save")
    page.wait_for_selector(".jp-NotebookPanel:not(.jp-mod-dirty)")
    second = page.context.new_page()
    second.set_default_timeout(60_000)
    name = "05_fusion_explorer.ipynb"
    second.goto(f"{lab.url}/lab/workspaces/second/tree/{name}?token={lab.token}&reset")
    ready(second)
    second.locator(w.SLIDER).press("Home")
    assert second.locator(w.RATIO).input_value() == "0.00"
    assert page.locator(w.RATIO).input_value() != "0.00"
    second.close()
