"""The explorer in headless Chromium: saved as one file, and as a page with its server. By mouse,
keyboard and touch."""

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner

from h2t import metrics
from h2t.cli import main
from h2t.lab.explorer import page as explorer_page
from h2t.lab.explorer.engine import Explorer
from h2t.train.cached import fit as fitting
from tests.bench import explorer as bench
from tests.lab import explorer_reference as reference
from tests.lab import explorer_window as w

chromium = w.chromium  # a fixture
SLIDER, RATIO, STATUS = w.SLIDER, w.RATIO, w.STATUS
opened, still, inside, numbers, shot = w.opened, w.still, w.inside, w.numbers, w.shot
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "cost $5 and $\\frac{",
    "_hidden' \" %&#~|*`[",
    "鳥" * 30,
    "\u202emirrored",
    "",
    "a" * 300,
    "&lt;b&gt;",
    "line\nbreak",
)
# --- one file


def test_the_saved_file_says_what_python_computes(chromium, saved, engine):
    """Accuracies of all positions, from the file as they are and once more from its quantised
    features and weights."""
    assert saved.stat().st_size <= 1_000_000
    with opened(chromium, saved.as_uri(), offline=True) as page:
        own, again = inside(
            page,
            """[...store.fits.keys()].sort((a, b) => a - b).map(p => {
                const fit = store.fits.get(p);
                let right = 0;
                for (let k = 0; k < store.T; k++) {
                    const z = store.logits(fit, store.feature(k));
                    if (z.indexOf(Math.max(...z)) === store.labels[k]) right++;
                }
                return [store.means(fit.correct), 100 * right / store.T];
            }).reduce(([a, b], [m, r]) => [[...a, m], [...b, r]], [[], []])""",
        )
        assert len(own) == 101
        golden = fitting.fit(engine.bank, [0.0, 0.17, 0.3, 0.92], [0], engine.recipe)
        for r, p in enumerate((0, 17, 30, 92)):
            how = engine.labels, engine.bank.counts, engine.bank.scheme
            means = metrics.summary(golden.logits(r).numpy(), *how)
            means = {g: means[g] for g in own[p]}
            assert own[p] == pytest.approx(means, abs=0.1)
            assert again[p] == pytest.approx(means["all"], abs=0.15)  # one image is 0.14
        shares = page.evaluate("() => document.querySelectorAll('.h2tx .tile canvas').length")
        assert shares > 0


def test_a_file_of_fewer_positions_opens_at_one_of_them(chromium, saved):
    with opened(chromium, saved.as_uri(), offline=True) as page:
        few = "(store.base.positions = [0, 20, 40, 60, 80, 100], app.begin({...store.base, p: 25}))"
        inside(page, few)
        still(page)
        assert (
            page.locator(RATIO).input_value()
            == "0.20"
            == f"{inside(page, 'app.now().p') / 100:.2f}"
        )


def test_the_boundary_in_the_browser_is_pythons(chromium, saved, engine):
    with opened(chromium, saved.as_uri(), offline=True) as page:
        state = reference.changed(engine, fusion_ratio=0.6)
        inside(page, "app.set({p: 60})")
        still(page)
        found = inside(
            page,
            """app.figures[2].shares""",
        )
        drawn, points = reference.boundary(engine, state)
        for name, xy in points.items():
            share = 100 * np.mean(xy @ drawn.after[0] + drawn.after[1] > 0)
            assert found[name][-1] == pytest.approx(share, abs=2), name


def test_slider_by_mouse_by_keyboard_and_by_typing(chromium, saved):
    with opened(chromium, saved.as_uri()) as page:
        assert page.locator(RATIO).input_value() == "0.30"
        before, pixels = numbers(page), page.locator(".h2tx .three").screenshot()
        page.locator(SLIDER).focus()
        page.keyboard.press("End")
        still(page)
        assert page.locator(RATIO).input_value() == "1.00" and numbers(page) != before
        assert page.locator(".h2tx .three").screenshot() != pixels
        page.keyboard.press("ArrowLeft")
        assert page.locator(RATIO).input_value() == "0.99"
        box = page.locator(SLIDER).bounding_box()
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.98 * box["width"], y)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], y, steps=20)
        page.mouse.up()
        still(page)
        assert float(page.locator(RATIO).input_value()) == pytest.approx(0.5, abs=0.03)
        type_ratio(page, "0,05")
        assert page.locator(RATIO).input_value() == "0.05"
        top = page.locator(".h2tx .three").bounding_box()
        for bad in ("7", "nonsense", "", "-1"):
            type_ratio(page, bad)
            assert page.locator(RATIO).input_value() == "0.05"
            assert "from 0 to 1" in page.locator(STATUS).inner_text()
            assert page.locator(".h2tx .three").bounding_box() == top, "the page jumps"
        type_ratio(page, "0.3")
        assert page.locator(STATUS).inner_text() == "" and numbers(page) == before
        page.keyboard.press("Home")
        page.get_by_role("button", name="Reset").click()
        still(page)
        assert numbers(page) == before


def type_ratio(page, text: str) -> None:
    page.locator(RATIO).fill(text)
    page.locator(RATIO).press("Enter")
    still(page)


def test_classes_images_tabs_and_pins_answer(chromium, saved):
    with opened(chromium, saved.as_uri()) as page:
        other = inside(
            page, "store.byCount.find(c => c !== app.state.head && c !== app.state.tail)"
        )
        x, y = inside(
            page,
            "app.figures[0].hits.filter(h => h.about().title === a).map(h => [h.x, h.y])[0]",
            str(other),
        )  # fmt
        box = page.locator(".h2tx .classes canvas").bounding_box()
        page.mouse.move(box["x"] + x, box["y"] + y)
        assert "training images" in page.locator(".h2tx .tip").inner_text()
        page.mouse.click(box["x"] + x, box["y"] + y)
        still(page)
        state = inside(page, "app.state")
        assert other in (state["head"], state["tail"]) and state["look"] == other
        page.locator(".h2tx .tile").first.click()
        assert inside(page, "app.state.image") is not None
        page.get_by_role("tab", name="Changed images").focus()
        for name in ("Where a class goes", "Map", "Fusion by BN statistics"):
            page.keyboard.press("ArrowRight")
            still(page)
            assert page.get_by_role("tab", name=name).get_attribute("aria-selected") == "true"
            shot(page, f"tab_{name[:3]}")
        assert "own BN statistics" in page.locator(".h2tx .statistics").inner_text()
        page.get_by_role("button", name="Pin").click()
        page.locator(SLIDER).focus()
        page.keyboard.press("End")
        still(page)
        rows = page.locator(".h2tx .numbers tbody th").all_inner_texts()
        assert rows[-2] == "pinned p 0.30" and rows[-1] == "now, p 1.00"
        page.wait_for_timeout(400)
        address = page.url
        assert "p=100" in address and "tab=statistics" in address
        page.reload()
        page.wait_for_selector("#explorer:not(.waiting) .bar")
        still(page)
        assert inside(page, "[app.state.p, app.state.tab, app.state.look]") == [
            100,
            "statistics",
            other,
        ]  # fmt


def test_a_lasso_on_the_map_lists_images_and_saves_them(chromium, saved):
    with opened(chromium, saved.as_uri(), height=1300) as page:
        page.get_by_role("tab", name="Map").click()
        still(page)
        assert "t-SNE map of 719 test images" in page.locator(".h2tx .map figcaption").inner_text()
        box = page.locator(".h2tx .map > canvas").bounding_box()
        corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.02)]
        at = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in corners]
        page.mouse.move(*at[0])
        page.mouse.down()
        for corner in at[1:]:
            page.mouse.move(*corner, steps=8)
        page.mouse.up()
        still(page)
        assert page.locator(".h2tx .map .tile").count() == 60
        count = int(page.locator(".h2tx .map .note").inner_text().split()[0])
        with page.expect_download() as download:
            page.get_by_role("button", name="Save list").click()
        lines = download.value.path().read_text().splitlines()
        assert len(lines) == count + 1 > 600 and lines[0] == "test image,label,prediction"


@pytest.mark.parametrize(
    ("width", "height", "how"),
    [
        (1366, 768, {}),
        (1920, 1080, {"color_scheme": "dark"}),
        (800, 900, {}),
        (390, 800, {"has_touch": True, "is_mobile": True}),
    ],
)
def test_it_fits_the_window_and_the_slider_stays(chromium, saved, width, height, how):
    with opened(chromium, saved.as_uri(), width, height, **how) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width > 1000:
            for name in ("classes", "curve", "boundary"):
                box = page.locator(f".h2tx .{name} canvas").bounding_box()
                assert box["y"] + box["height"] <= height, f"{name} is below the first screen"
        shot(page, f"page_{width}")
        page.mouse.wheel(0, 5000) if not how.get("has_touch") else page.evaluate(
            "window.scrollTo(0, 5000)"
        )
        page.wait_for_timeout(300)
        room = page.evaluate("document.documentElement.scrollHeight") - height
        assert page.evaluate("window.scrollY") == pytest.approx(max(0, room), abs=2)
        for part in (SLIDER, ".h2tx .numbers tbody tr:last-child"):
            box = page.locator(part).bounding_box()
            assert 0 <= box["y"] <= height / 3, f"{part} has left the screen"
        shot(page, f"page_{width}_down")
        if how.get("has_touch"):
            box = page.locator(SLIDER).bounding_box()
            page.touchscreen.tap(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
            still(page)
            assert float(page.locator(RATIO).input_value()) > 0.6


def test_lecture_mode_is_slider_numbers_and_one_figure(chromium, saved):
    with opened(chromium, f"{saved.as_uri()}?lecture") as page:
        visible = lambda: [  # noqa: E731
            n for n in ("classes", "curve", "boundary") if page.locator(f".h2tx .{n}").is_visible()
        ]
        assert visible() == ["boundary"] and page.get_by_role("tab").count() == 0
        box = page.locator(".h2tx .boundary canvas").bounding_box()
        assert box["y"] + box["height"] <= 768
        page.get_by_role("button", name="Ratio curve").click()
        still(page)
        assert visible() == ["curve"]
        shot(page, "lecture")
        page.get_by_role("button", name="Lecture").click()
        assert len(visible()) == 3


def test_hostile_names_are_text(chromium, engine, tmp_path):
    other = Explorer(engine.run, engine.recipe, views=2)
    other.bank = dataclasses.replace(other.bank, classes=HOSTILE)
    file = explorer_page.save(other, tmp_path / "hostile.html")
    with opened(chromium, file.as_uri(), offline=True) as page:
        for c in range(10):
            inside(page, "app.look(a)", c)
            for tab in ("flow", "map", "changed", "statistics"):
                inside(page, "app.set({tab: a})", tab)
                still(page)
        inside(page, "app.figures.filter(f => f.svg && f.canvas).map(f => f.svg())")
        assert page.locator(".h2tx img").count() == 0
        options = page.get_by_label("head class").locator("option").all_inner_texts()
        assert any(o.startswith("<img src=x onerror") for o in options)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1366


def test_figures_are_saved_as_png_and_svg(chromium, saved):
    with opened(chromium, saved.as_uri()) as page:
        files = []
        page.on("download", lambda d: files.append(d))
        page.get_by_role("button", name="Save figures").click()
        page.wait_for_function(
            "() => document.querySelector('.status').textContent.includes('saved')"
        )
        page.wait_for_timeout(500)
        kinds = {f.suggested_filename: f.path().read_bytes() for f in files}
        assert {"explored-curve.png", "explored-boundary.svg"} <= set(kinds)
        assert kinds["explored-curve.png"].startswith(b"\x89PNG")
        assert b"<svg" in kinds["explored-boundary.svg"]


def test_dragging_is_drawn_and_leaves_no_memory_behind(chromium, saved):
    """Speed itself is measured by ``python -m tests.bench explorer``."""
    _, latencies, growth = bench.drag(chromium, saved.as_uri(), 2)
    assert len(latencies) > 10 and growth < 20


def test_a_file_that_cannot_be_written_is_said(trained, tmp_path):
    cli = CliRunner().invoke(
        main, ["explore", str(trained), "--views", "2", "--save", str(tmp_path)]
    )
    assert cli.exit_code == 2 and "name a file" in cli.output
