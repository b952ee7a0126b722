"""How long a user of the fusion explorer waits: for the classifiers, and from a move of the
slider to the pixels."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from tests.bench.harness import Rows
from tests.browser import CHROMIUM, FLAGS

SECONDS = 60  # of dragging
TARGETS = {  # seconds or as named, for CIFAR-100-LT at IF = 100 on two CPU cores
    "all positions of the slider trained": 10.0,
    "ratio curve, 11 ratios x 5 seeds": 10.0,
    "saved page, MB": 8.0,
    "saved page to the first figure": 3.0,
    "move to pixels, median, ms": 33.0,
    "move to pixels, 95th percentile, ms": 80.0,
    "growth of memory while dragging, MB": 5.0,
}
# From an input event to the frame after the one drawn for it: by then its pixels are shown.
WATCH = """() => {
    window.latencies = [];
    document.querySelector('#explorer').addEventListener('h2t-drawn', ({detail}) =>
        requestAnimationFrame(() => window.latencies.push(performance.now() - detail.began)));
}"""


def bench_explorer(found: Rows, run: str | Path) -> None:
    """Time the explorer on a run with data and a finished stage 1.

    The bank (2 views) is opened, or built first; the saved page is dragged by the mouse in
    headless Chromium for ``SECONDS``. Raises: ``h2t.Error`` where the run lacks something.
    """
    values = _measure(run)
    for name, target in TARGETS.items():
        found.judge(name, values[name], target)


def _measure(run) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    from h2t.lab.explorer.engine import Explorer
    from h2t.lab.explorer.front import save_page
    from h2t.lab.explorer.session import Session
    from h2t.train.cached.steps import recipe_of

    engine = Explorer(run, recipe_of(run), views=2)
    start = time.perf_counter()
    session, number, trained = Session(engine), 0, 0.0
    while not session.idle.is_set():
        number, _ = session.feed.since(number, 1)
        if not trained and "curve" in session.feed.frames:
            trained = time.perf_counter() - start
    curve = time.perf_counter() - start - trained
    session.close()
    with tempfile.TemporaryDirectory(prefix="h2t-bench-") as folder:
        file = save_page(engine, Path(folder) / "explorer.html")
        size = file.stat().st_size / 1e6
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            opening, latencies, growth = drag(chromium, file.as_uri(), SECONDS)
            chromium.close()
    median, late = np.quantile(latencies, [0.5, 0.95])
    return dict(zip(TARGETS, (trained, curve, size, opening, median, late, growth), strict=True))


def drag(chromium, url: str, seconds: float) -> tuple[float, np.ndarray, float]:
    """Open a page and drag its slider to and fro. Returns: seconds to its first figure,
    milliseconds from each move to its pixels, and by how many MB the page's memory grew."""
    page = chromium.new_page(viewport={"width": 1366, "height": 768})
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#explorer:not(.waiting) .bar")
    opening = time.perf_counter() - start
    page.wait_for_timeout(1500)
    page.evaluate(WATCH)
    cdp = page.context.new_cdp_session(page)
    _move(page, 5)
    before = _memory(cdp)
    page.evaluate("() => { window.latencies.length = 0; }")
    _move(page, seconds)
    page.wait_for_timeout(500)
    found, after = page.evaluate("() => window.latencies"), _memory(cdp)
    page.close()
    return opening, np.array(found), (after - before) / 1e6


def _move(page, seconds: float) -> None:
    """Drag the slider with the mouse from end to end and back, a full way in two seconds."""
    box = page.locator(".h2tx input[type=range]").bounding_box()
    x = lambda share: box["x"] + 8 + share * (box["width"] - 16)  # noqa: E731
    y, start = box["y"] + box["height"] / 2, time.perf_counter()
    page.mouse.move(x(0), y)
    page.mouse.down()
    while (gone := time.perf_counter() - start) < seconds:
        page.mouse.move(x(0.5 - 0.5 * np.cos(np.pi * gone / 2)), y)
        time.sleep(0.012)
    page.mouse.up()


def _memory(cdp) -> float:
    cdp.send("HeapProfiler.collectGarbage")
    return cdp.send("Runtime.getHeapUsage")["usedSize"]
