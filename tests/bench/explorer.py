"""How long a user of the fusion explorer waits: for the classifiers, and from a move of the
slider to the pixels."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from h2t.lab import front
from h2t.lab.payload import Quantised, pack
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
    "move to pixels, map of 50,000 points, median, ms": 33.0,
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

    from h2t.lab.explorer import page
    from h2t.lab.explorer.engine import Explorer
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
        file = page.save(engine, Path(folder) / "explorer.html")
        size = file.stat().st_size / 1e6
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            opening, latencies, growth = drag(chromium, file.as_uri(), SECONDS)
            large = Path(folder) / "large.html"
            large.write_bytes(front.page("a large map", "explorer_page", crowded()))
            _, crowd, _ = drag(chromium, f"{large.as_uri()}#tab=map", 10)
            chromium.close()
    median, late = np.quantile(latencies, [0.5, 0.95])
    found = (trained, curve, size, opening, median, late, growth, np.median(crowd))
    return dict(zip(TARGETS, found, strict=True))


def crowded(points: int = 50_000, size: int = 100, dim: int = 16) -> list[bytes]:
    """Frames of a run that was made up: so many test images, all on the map."""
    random, settings = np.random.default_rng(0), {"fusion": "swap", "fusing_branch": "instance"}
    settings |= {"stage2_epochs": 1, "stage2_lr": 0.1, "seed": 0}
    labels = random.integers(0, size, points).astype(np.uint8)
    counts = np.geomspace(500, 5, size).astype(np.uint32)
    wrong = [np.where(random.random(points) < 0.4, (labels + 1) % size, labels) for _ in range(102)]
    right = [np.bincount(labels[w == labels], minlength=size).astype(np.uint32) for w in wrong]
    groups = {"many": range(35), "medium": range(35, 70), "few": range(70, size)}
    meta = {
        "live": False,
        "classes": [f"class {c}" for c in range(size)],
        "groups": {g: list(members) for g, members in groups.items()},
        "scale": None,
        "experts": 1,
        "positions": list(range(101)),
        "p": 30,
        "head": 0,
        "tail": size - 1,
        "pairs": [[0, size - 1]],
        "at_zero": "DR",
        "statistics": "balanced",
        "settings": settings,
        "choices": {"fusion": ["swap"], "fusing_branch": ["instance"]},
        "limits": {},
        "published": None,
        "steps": [],
    }
    weights = Quantised(random.normal(size=(101, size, dim)), "i2")
    one = Quantised(random.normal(size=(size, dim)), "i2")
    common = {"labels": labels, "index": np.arange(points, dtype=np.uint32)}
    common |= {"first": wrong[0].astype(np.uint8), "sure": np.full(points, 200, np.uint8)}
    common |= {"correct": right[0], "correct_again": right[0], "counts": counts}
    common |= {"totals": np.bincount(labels, minlength=size).astype(np.uint32)}
    test = Quantised(random.normal(size=(points, dim)), "u1")
    bias = np.zeros((size,), np.float32)
    base = pack("base", meta, test=test, weight=one, bias=bias, **common)
    fits = pack(
        "fits",
        {"settings": settings, "positions": [[p] for p in range(101)]},
        weight=weights,
        bias=np.zeros((101, size), np.float32),
        predicted=np.stack(wrong[1:]).astype(np.uint8),
        correct=np.stack(right[1:]),
    )
    of_map = pack(
        "map",
        {"done": True, "few": 0},
        xy=random.normal(size=(points, 2)).astype(np.float32),
        index=common["index"],
    )
    return [base, fits, of_map]


def drag(chromium, url: str, seconds: float) -> tuple[float, np.ndarray, float]:
    """Open a page and drag its slider to and fro. Returns: seconds to its first figure,
    milliseconds from each move to its pixels, and by how many MB the page's memory grew."""
    page = chromium.new_page(viewport={"width": 1366, "height": 768})
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#explorer:not(.waiting) .bar")
    opening = time.perf_counter() - start
    page.wait_for_timeout(1500)
    if "tab=map" in url:  # and in the colours that follow the slider
        page.get_by_label("colour of the map's points").select_option("changed")
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
