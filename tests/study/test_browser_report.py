"""A whole report, notebook 06 executed, opened from the disk in headless Chromium."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import CHROMIUM, FLAGS, ROOT
from tests.study.test_report import executed
from tests.synthetic import sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sweep over seeds and ratios, reported by the command a user types. Returns: its root."""
    root = sweep(tmp_path_factory.mktemp("made") / "my sweep", seeds=2, ratios=(0.1, 0.3))
    executed(
        root / "if50" / "p0.1 s0" / "notebooks" / "02_stage1.ipynb", "# 02 · A notebook of a run?"
    )
    done = subprocess.run(
        [sys.executable, "-m", "h2t", "report", str(root)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == f"report: {root / 'report' / 'index.html'}\n"
        and "pages: 100%" in done.stderr
    )
    return root


def test_notebook_06_shows_every_figure_and_writes_the_tables(made):
    cells = json.loads((made / "notebooks" / "06_compare_runs.ipynb").read_text())["cells"]
    pictures = [sum("image/png" in o.get("data", {}) for o in c.get("outputs", [])) for c in cells]
    assert sorted(p for p in pictures if p) == [
        1,
        1,
        1,
    ]  # means, ratio curve, cost
    text = "".join("".join(o.get("text", "")) for c in cells for o in c.get("outputs", []))
    assert (
        "10 finished steps in 6 runs; 10 of them chosen." in text
        and "Every group is alike but for its seeds." in text
    )
    assert "all, against DR, BN sees both:" in text
    assert {p.name for p in (made / "comparison").iterdir()} >= {
        "comparison.md",
        "comparison.tex",
        "averages.csv",
        "tests.csv",
        "06_means_0.png",
        "06_ratio_curves.pdf",
    }


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on the PATH (Debian: apt install chromium)")
    pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: uv sync --group dev"
    )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.problems, page.asked = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console",
        lambda message: (
            page.problems.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    page.close()


def test_links_lead_there_and_back_and_nothing_is_asked_of_a_network(made, page):
    """Set H2T_SCREENSHOTS to a folder to keep the pictures and look at them."""
    index = (made / "report" / "index.html").as_uri()
    page.goto(index)
    names = page.locator("a").all_inner_texts()
    assert names == ["The comparison", "02_stage1"]
    assert page.locator("h1").inner_text() == "my sweep: 4 runs"
    for k, title in enumerate(
        ("06 · Which of these runs is really better?", "02 · A notebook of a run?")
    ):
        page.locator("a").nth(k).click()
        assert page.locator("h1").first.inner_text() == title
        page.get_by_text("All runs").click()
        assert page.url == index
    if folder := os.environ.get("H2T_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "report_index.png", full_page=True)
    assert all(url.startswith(("file:", "data:")) for url in page.asked) and page.problems == []


def test_code_is_hidden_and_one_click_away(made, page):
    page.goto((made / "report" / "06_compare_runs.html").as_uri())
    code = page.locator("details.code pre")
    assert code.count() >= 10 and not any(code.nth(k).is_visible() for k in range(code.count()))
    page.locator("details.code summary").first.click()
    assert code.nth(0).is_visible() and not code.nth(1).is_visible()
    page.get_by_role("button").click()
    assert (
        all(code.nth(k).is_visible() for k in range(code.count()))
        and page.get_by_role("button").inner_text() == "Hide all code"
    )
    page.get_by_role("button").click()
    assert not any(code.nth(k).is_visible() for k in range(code.count())) and page.problems == []


def test_the_figures_are_there_and_nothing_is_wider_than_the_window(made, page):
    page.goto((made / "report" / "06_compare_runs.html").as_uri())
    pictures = page.locator("img")
    assert pictures.count() == 3
    for k in range(3):
        pictures.nth(k).scroll_into_view_if_needed()
        pixels = np.asarray(
            Image.open(io.BytesIO(pictures.nth(k).screenshot())).convert("RGB")
        ).astype(int)
        assert 0.01 < (pixels < 200).any(2).mean() < 0.6, f"picture {k} is blank"
        if folder := os.environ.get("H2T_SCREENSHOTS"):
            pictures.nth(k).screenshot(path=Path(folder) / f"report_{k}.png")
    for width in (1280, 700):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


def test_the_index_sorts_and_finds(made, page):
    page.goto((made / "report" / "index.html").as_uri())
    heads = page.locator("#runs th").all_inner_texts()
    assert heads[:2] == ["run", "fusion_ratio"] and heads[-2:] == ["seconds", "notebooks"]
    k = heads.index("stage 1")

    def column():
        return [
            float(t)
            for t in page.locator(f"#runs tbody tr td:nth-child({k + 1})").all_inner_texts()
            if t
        ]

    page.locator("#runs th").nth(k).click()
    assert column() == sorted(column(), reverse=True) and len(set(column())) > 1  # the best first
    page.locator("#runs th").nth(k).click()
    assert column() == sorted(column())
    page.locator("#find").fill("if50 p0.1")
    assert page.locator("#runs tbody tr:visible").count() == 2 and page.problems == []


def test_on_an_a4_sheet_every_column_of_every_table_is_there(made, page):
    """703 pixels are 186 mm, the sheet less its margins."""
    page.set_viewport_size({"width": 703, "height": 1030})
    page.emulate_media(media="print")
    for name in ("index", "06_compare_runs"):
        page.goto((made / "report" / f"{name}.html").as_uri())
        right = page.locator("td, th").evaluate_all(
            "cells => cells.map(c => c.getBoundingClientRect().left + c.scrollWidth)"
        )
        assert len(right) > 20 and max(right) <= 704, name
