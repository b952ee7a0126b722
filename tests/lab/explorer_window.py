"""The explorer or the toy in a window of headless Chromium, for the tests that drive them."""

import contextlib
import os

from tests import browser as b

chromium = b.chromium
SLIDER, RATIO, STATUS = ".h2tx input[type=range]", ".h2tx .ratio", ".h2tx .status"


@contextlib.contextmanager
def opened(chromium, url, width=1366, height=768, **how):
    """A page in a profile of its own; what it asked of others and what went wrong must be
    nothing."""
    context = chromium.new_context(viewport={"width": width, "height": height}, **how)
    page = context.new_page()
    page.set_default_timeout(30_000)
    problems, asked = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda d: (problems.append(d.message), d.dismiss()))
    page.on("request", lambda r: asked.append(r.url))
    page.goto(url)
    page.wait_for_selector("#explorer:not(.waiting) .bar")
    still(page)
    yield page
    own = (url.split("#")[0].split("?")[0], "blob:", "data:")
    assert problems == [] and [u for u in asked if not u.startswith(own)] == []
    context.close()


def still(page) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")


def inside(page, code: str, *arguments):
    """Evaluate JavaScript with ``app`` and ``store`` at hand."""
    known = "const app = document.querySelector('#explorer').h2t; const store = app.store;"
    text = f"([a]) => {{ {known} return {code}; }}"
    return page.evaluate(text, [*arguments, None][:1])


def numbers(page) -> list[str]:
    return page.locator(".h2tx .numbers tbody tr").last.inner_text().split()


def shot(page, name: str) -> None:
    """Keep a picture to look at, in ``$H2T_SCREENSHOTS``."""
    if folder := os.environ.get("H2T_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")
