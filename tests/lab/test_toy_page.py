"""The toy in headless Chromium, saved as one file: by mouse, finger and keyboard."""

import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from h2t import Error
from h2t.base import rng
from h2t.cli import main
from h2t.lab.toy import classes as toy
from h2t.lab.toy import front as toy_front
from tests.helpers import ROOT
from tests.lab import explorer_window as w
from tests.lab.explorer_reference import unpack

chromium = w.chromium  # a fixture
DECAY = 1e-3


@pytest.fixture(scope="module")
def why(tmp_path_factory):
    file = tmp_path_factory.mktemp("toy") / "why.html"
    done = CliRunner().invoke(main, ["teach", "--save", str(file)])
    assert done.exit_code == 0 and str(file) in done.output
    return file.as_uri()


@pytest.fixture(scope="module")
def window(chromium, why):
    with w.opened(chromium, why, offline=True) as page:
        yield page


@pytest.fixture
def page(window):
    """The window as it was opened."""
    window.mouse.move(0, 0)
    window.get_by_role("button", name="Reset").click()
    w.still(window)
    return window


def data():
    return [
        toy.two_classes(*n, 2, 4.0, rng.torch_generator(0, f"toy/{part}"))
        for part, n in (("train", (500, 5)), ("test", (2000, 2000)))
    ]


def expected(points, labels, test_set, p):
    """What Python finds: the classifier, its numbers, pull and push."""
    draws = toy.fused_draws(points, labels, p, rng.torch_generator(0, "toy/draws"))
    found = toy.train(*draws, DECAY)
    pull, push = toy.forces(*found, *draws)
    return [*found[0].tolist(), found[1].item()], toy.regions(*found, *test_set), [pull, push]


def row(page, k=-1) -> list[float]:
    cells = page.locator(".h2tx .numbers tbody tr").nth(k).locator("td").all_inner_texts()
    return [float(c) for c in cells]


def to(page, ratio: str) -> None:
    page.locator(w.RATIO).fill(ratio)
    page.locator(w.RATIO).press("Enter")
    w.still(page)


def place(page, k: int) -> tuple[float, float]:
    """Where a point is drawn on the screen."""
    x, y = w.inside(
        page,
        "[app.figures[0].x(app.points[2 * a]), app.figures[0].y(app.points[2 * a + 1])]",
        k,
    )
    box = page.locator(".h2tx .plane canvas").bounding_box()
    return box["x"] + x, box["y"] + y


def moved(page):
    """The points as the page has them, as Python takes them."""
    points = w.inside(page, "[...app.points]")
    return torch.tensor(points, dtype=torch.float64).view(-1, 2)


def test_the_browser_trains_what_python_trains(page):
    train_set, test_set = data()
    for p in (0.0, 0.07, 0.3, 0.5, 1.0):
        to(page, str(p))
        theta, numbers, both = expected(*train_set, test_set, p)
        assert w.inside(page, "app.now") == pytest.approx(theta, rel=1e-3, abs=1e-4)
        assert row(page) == pytest.approx(list(numbers.values()), abs=0.06)  # one point is 0.05
        measured = w.inside(page, "app.figures[1].measured")["solid (H2T)"]
        assert measured == pytest.approx([f.item() for f in both], abs=1e-4)


def test_a_tail_point_is_dragged_and_everything_follows(page):
    train_set, test_set = data()
    tail, before = 500, [row(page, k) for k in range(3)]
    page.mouse.move(*place(page, tail))
    assert "training point of the tail" in page.locator(".h2tx .tip").inner_text()
    page.mouse.down()
    x, y = place(page, 0)
    page.mouse.move(x, y, steps=8)
    page.mouse.up()
    w.still(page)
    points = moved(page)
    assert points[tail].numpy() == pytest.approx(points[0].numpy(), abs=0.2)
    assert (points[:tail] == train_set[0][:tail].float()).all(), "only what is dragged moves"
    numbers = expected(points, train_set[1], test_set, 0.3)[1]
    assert row(page) == pytest.approx(list(numbers.values()), abs=0.06)
    assert all(a != b for a, b in zip(before, [row(page, k) for k in range(3)], strict=True))
    page.mouse.move(x + 60, y + 60)  # no longer held
    w.still(page)
    assert (moved(page) == points).all()
    page.get_by_role("button", name="Reset").click()
    w.still(page)
    assert [row(page, k) for k in range(3)] == before


def test_points_are_moved_by_keyboard(page):
    canvas = page.locator(".h2tx .plane canvas")
    start = moved(page)
    canvas.focus()
    for key in ("ArrowRight", "ArrowUp", " ", "ArrowDown"):
        canvas.press(key)
    w.still(page)
    step = (moved(page) - start).numpy()
    assert step[500] == pytest.approx([0.1, 0.1], abs=1e-5)
    assert step[501] == pytest.approx([0, -0.1], abs=1e-5) and np.count_nonzero(step) == 3


def test_the_sentence_says_what_the_numbers_say(page):
    """Fusion helps where DR leaves the tail too little, and does not elsewhere: both are said."""
    for p in ("0", "0.1", "1"):
        to(page, p)
        (dr, now), said = (row(page, 1), row(page, 2)), page.locator(".h2tx .verdict").inner_text()
        change = float(re.search(r"by ([−+][\d.]+) points", said)[1].replace("−", "-"))
        assert change == pytest.approx(now[3] - dr[3], abs=0.11)
    assert change < -10, "at p = 1 fusion does harm"


def test_a_ratio_out_of_range_is_refused(page):
    for bad in ("7", "nonsense", "", "-1"):
        to(page, bad)
        assert page.locator(w.RATIO).input_value() == "0.30"
        assert "from 0 to 1" in page.locator(w.STATUS).inner_text()


@pytest.mark.parametrize("size", [(1366, 768), (390, 800)], ids=str)
def test_it_fits_the_window_and_answers_a_finger(chromium, why, size):
    phone = {"has_touch": True, "is_mobile": True} if size[0] < 800 else {"has_touch": True}
    with w.opened(chromium, why, *size, **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        w.shot(page, f"toy_{size[0]}")
        start = moved(page)
        x, y = place(page, 500)
        touch = page.context.new_cdp_session(page)
        for kind, at in (("Start", 0), ("Move", 30), ("Move", 60), ("End", None)):
            points = [] if at is None else [{"x": x, "y": y + at}]
            event = {"type": f"touch{kind}", "touchPoints": points}
            touch.send("Input.dispatchTouchEvent", event)
        w.still(page)
        assert (moved(page) - start)[500, 1] < -0.5, "a finger drags the point, up to down"
        assert page.evaluate("window.scrollY") == 0, "and does not scroll the page with it"


def test_it_starts_where_notebook_00_does():
    book = json.loads((ROOT / "notebooks" / "00_why_fusion_works.ipynb").read_text())
    (cell,) = [c for c in book["cells"] if "parameters" in c["metadata"].get("tags", [])]
    own = {}
    exec("".join(cell["source"]), own)
    train_set, test_set = (
        toy.two_classes(*n, 2, own["separation"], rng.torch_generator(own["seed"], f"toy/{part}"))
        for part, n in (("train", (own["n_head"], own["n_tail"])), ("test", (2000, 2000)))
    )
    ratio, decay = own["fusion_ratio"], own["weight_decay"]
    theirs = toy_front.frame(train_set, test_set, ratio, decay, own["seed"])
    ours = toy_front.frame(*data(), 0.3, DECAY)
    assert ours == theirs and unpack(ours)[0]["p"] == 30
    assert toy_front.start() == ours


def test_bad_input_ends_in_one_message():
    train_set, test_set = data()
    with pytest.raises(Error, match="in 2 dimensions; these have 3"):
        toy_front.frame((torch.zeros(9, 3), train_set[1][:9]), test_set, 0.3, DECAY)
    with pytest.raises(Error, match="fusion_ratio is 1.5"):
        toy_front.frame(train_set, test_set, 1.5, DECAY)


def test_a_file_that_h2t_did_not_write_stays(tmp_path):
    own = tmp_path / "why.html"
    own.write_text("my notes")
    done = CliRunner().invoke(main, ["teach", "--save", str(own)])
    assert done.exit_code == 2 and "no page of h2t" in done.output
    assert own.read_text() == "my notes"
    for _ in range(2):  # its own is written anew
        done = CliRunner().invoke(main, ["teach", "--save", str(tmp_path / "new.html")])
        assert done.exit_code == 0
