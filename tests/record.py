"""``python -m tests.record RUN OUT.webp``: a run's explorer, dragged in headless Chromium, as an
animation. The README's first picture is one of a CIFAR-100-LT run."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from PIL import Image

from h2t.lab.explorer import page as explorer_page
from h2t.lab.explorer.engine import Explorer
from h2t.train.cached.steps import recipe_of
from tests.browser import CHROMIUM, FLAGS

WIDTH, HEIGHT, SCALE = 900, 546, 1.5  # as README shows it, at the density of most screens
MOST = 2_000_000  # bytes
SLIDER = ".h2tx input[type=range]"
# where the slider is, by frame: there and back, resting where something is to be read
WAY = [(0, 8), (30, 10), (30, 10), (100, 22), (100, 8), (30, 16), (30, 10)]
POINTER = """() => {
    const dot = document.createElement('div');
    dot.style = 'position: fixed; z-index: 99; width: 18px; height: 18px; margin: -9px;' +
        'border-radius: 50%; background: #d55e0088; border: 2px solid #fff; pointer-events: none';
    document.body.append(dot);
    document.addEventListener('pointermove', (e) => {
        dot.style.left = `${e.clientX}px`;
        dot.style.top = `${e.clientY}px`;
    }, true);
}"""


def positions() -> list[float]:
    """The slider's positions, eased between the stops of ``WAY``."""
    found, here = [], 0.0
    for to, frames in WAY:
        share = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, frames + 1) / frames)
        found += list(here + (to - here) * share)
        here = to
    return found


def record(url: str) -> list[Image.Image]:
    """The frames of one way of the slider on a page."""
    from playwright.sync_api import sync_playwright

    frames = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        size = {"width": WIDTH, "height": HEIGHT}
        page = chromium.new_page(viewport=size, device_scale_factor=SCALE)
        page.goto(url)
        page.wait_for_selector("#explorer:not(.waiting) .bar")
        page.evaluate(POINTER)
        box = page.locator(SLIDER).bounding_box()
        x = lambda p: box["x"] + 8 + p / 100 * (box["width"] - 16)  # noqa: E731
        y = box["y"] + box["height"] / 2
        page.mouse.move(x(float(page.locator(SLIDER).input_value())), y)
        page.mouse.down()
        for p in positions():
            page.mouse.move(x(p), y)
            page.evaluate("() => new Promise((r) => requestAnimationFrame(() => setTimeout(r)))")
            frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        chromium.close()
    return frames


def save(frames: list[Image.Image], out: Path, fps: int = 12) -> int:
    """Write frames as animated WebP, as fine as ``MOST`` bytes allow. Returns: its bytes."""
    for quality in (80, 65, 50, 35, 20):
        how = {"duration": 1000 // fps, "loop": 0, "quality": quality, "method": 4}
        frames[0].save(out, save_all=True, append_images=frames[1:], **how)
        if out.stat().st_size <= MOST:
            break
    return out.stat().st_size


@click.command()
@click.argument("run")
@click.argument("out", type=Path)
@click.option("--page", type=Path, help="A saved explorer of the run, instead of a new one.")
def main(run, out, page):
    """Record RUN's explorer as OUT, animated WebP."""
    with tempfile.TemporaryDirectory() as folder:
        if page is None:
            page = Path(folder) / "explorer.html"
            explorer_page.save(Explorer(run, recipe_of(run), views=2), page)
        size = save(record(page.resolve().as_uri()), out)
    click.echo(f"{out}: {size / 1e6:.2f} MB")
    sys.exit(size > MOST)


if __name__ == "__main__":
    main()
