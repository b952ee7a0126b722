"""What a person does with a page: move sliders, look at pictures; the helpers take the page."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image


def slider(page, k: int = 0):
    """The handle of the k-th slider on the page, scrolled into view."""
    handle = page.locator(".widget-slider .noUi-handle").nth(k)
    handle.scroll_into_view_if_needed()
    return handle


def slider_value(page, k: int = 0) -> float:
    """The number beside the k-th slider; the handle's own aria-valuenow is rounded to one
    decimal."""
    return float(page.locator(".widget-slider .widget-readout").nth(k).inner_text())


def press(page, key: str, times: int = 1, k: int = 0, delay_ms: float = 0) -> None:
    """Focus the k-th slider and press a key: ArrowRight, ArrowLeft, PageUp, Home, End."""
    slider(page, k).focus()
    for _ in range(times):
        page.keyboard.press(key)
        if delay_ms:
            page.wait_for_timeout(delay_ms)


def drag(page, share: float, k: int = 0, steps: int = 20) -> None:
    """Take the k-th slider with the mouse and drag it to a share of its track in [0, 1], in
    ``steps`` moves."""
    handle = slider(page, k).bounding_box()
    track = page.locator(".widget-slider .noUi-base").nth(k).bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(
        track["x"] + share * track["width"], handle["y"] + handle["height"] / 2, steps=steps
    )
    page.mouse.up()


def type_value(page, text: str, k: int = 0) -> None:
    """Type into the number beside the k-th slider and press Enter."""
    readout = page.locator(".widget-slider .widget-readout").nth(k)
    readout.scroll_into_view_if_needed()
    readout.click()
    page.keyboard.press("Control+A")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def picture_source(page, k: int = 0) -> str:
    """The address of the k-th ``ipywidgets.Image``; it changes with every new picture."""
    return page.locator("img.widget-image, .widget-image img").nth(k).get_attribute("src")


def picture(page, k: int = 0) -> np.ndarray:
    """The pixels of the k-th ``ipywidgets.Image`` as sent, (H, W, 3) int."""
    coded = page.evaluate(
        """async src => {
            const bytes = new Uint8Array(await (await fetch(src)).arrayBuffer());
            let text = ''; for (const b of bytes) text += String.fromCharCode(b);
            return btoa(text);
        }""",
        picture_source(page, k),
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))).convert("RGB")).astype(int)


def wait_for_new_picture(page, old_source: str, k: int = 0, seconds: float = 20) -> None:
    """Wait until the k-th widget picture is another one than that of ``old_source`` and has been
    decoded."""
    page.wait_for_function(
        """([old, k]) => {
            const image = document.querySelectorAll('img.widget-image, .widget-image img')[k];
            return image && image.src !== old && image.complete && image.naturalWidth;
        }""",
        arg=[old_source, k],
        timeout=seconds * 1000,
        polling=5,
    )


def wait_until_still(page, quiet_ms: float = 600, k: int = 0, seconds: float = 30) -> None:
    """Wait until the k-th widget picture has not changed for a while."""
    end, last, since = time.monotonic() + seconds, picture_source(page, k), time.monotonic()
    while time.monotonic() - since < quiet_ms / 1000:
        page.wait_for_timeout(50)
        now = picture_source(page, k)
        if now != last:
            last, since = now, time.monotonic()
        assert time.monotonic() < end, "the picture does not come to rest"


def text_of(page, selector: str, k: int = 0) -> str:
    """The visible text of the k-th match."""
    return page.locator(selector).nth(k).inner_text()


def screenshot(page, path: str | Path, width: int = 0, height: int = 900) -> Path:
    """Save what the window shows as PNG, at another width if one is given. Returns: the path."""
    if width:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(500)  # JupyterLab lays its panels out again
    page.screenshot(path=str(path))
    return Path(path)
