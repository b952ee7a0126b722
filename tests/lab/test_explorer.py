"""The explorer's engine, frames and session without a browser, and notebook 05 by papermill."""

import copy
import dataclasses
import gc
import json
import shutil
import threading
import weakref

import numpy as np
import papermill
import pytest
import torch

from h2t import Error, Run
from h2t.lab.explorer import frames, widget
from h2t.lab.explorer.engine import Explorer
from h2t.lab.explorer.feed import Feed
from h2t.lab.explorer.session import Session
from h2t.lab.payload import Quantised, join, pack
from h2t.train.cached import fit as fitting
from tests.helpers import ROOT, digits_run, stage2_config
from tests.lab import explorer_reference as reference
from tests.lab.explorer_reference import unpack

BOOK = ROOT / "notebooks" / "05_fusion_explorer.ipynb"
QUICK = dict(stage2_epochs=2, batch_size=64, crop_padding=1, flip=False, precision="fp32")


@pytest.fixture
def session(engine):
    one = Session(engine)
    yield one
    one.close()


def newest(session, slot):
    return unpack(session.feed.frames[slot][1])


def answer(session):
    return newest(session, "status")[0]


def settled(session):
    assert session.idle.wait(120)
    return session


# --- the format


def test_a_frame_gives_back_what_was_put_in():
    exact = {
        "u1": np.arange(7, dtype=np.uint8),
        "u2": np.full((2, 3), 700, np.uint16),
        "u4": np.full((1, 2), 70_000, np.uint32),
        "none": np.zeros((0, 4), np.uint8),
        "f4": np.float32([[0.5, -2e9]]),
    }
    reals = np.random.default_rng(0).normal(size=(5, 6)) * 3 + 1
    frame = pack(
        "base",
        {"names": ['<img src=x onerror="alert(1)">', "é"]},
        **exact,
        fine=Quantised(reals, "i2"),
        rough=Quantised(reals, "u1"),
    )
    meta, arrays = unpack(frame)
    assert meta["kind"] == "base" and meta["names"][1] == "é"
    for name, array in exact.items():
        assert arrays[name].dtype == array.dtype and np.array_equal(arrays[name], array)
    assert np.abs(arrays["fine"] - reals).max() <= np.abs(reals).max() / 32767
    assert np.abs(arrays["rough"] - reals).max() <= np.ptp(reals) / 255
    assert join([frame, frame])[4 : 4 + len(frame)] == frame
    assert frame.startswith(b"H2TF")


# --- the engine


def test_the_fits_behind_the_slider_are_the_cached_stage2(session, engine):
    settled(session)
    seen = {}
    for slot in [s for s in session.feed.frames if s.startswith("fits")]:
        meta, arrays = newest(session, slot)
        for k, alike in enumerate(meta["positions"]):
            seen |= {p: (arrays["weight"][k], arrays["correct"][k]) for p in alike}
    assert sorted(seen) == list(range(101))
    for p in (0, 1, 37, 100):
        alone = fitting.fit(engine.bank, [p / 100], [0], session.recipe)
        weight, correct = seen[p]
        assert np.abs(weight - alone.weight[0, 0].numpy()).max() < 1e-4
        right = alone.logits().argmax(1).numpy() == engine.labels
        assert np.array_equal(correct, np.bincount(engine.labels[right], minlength=10))


def test_drawn_sides_are_the_classifiers_decisions_for_every_point(engine):
    state = reference.changed(engine, fusion_ratio=0.6)
    drawn, points = reference.boundary(engine, state)
    fitted, features = engine.classifiers(state), reference.points(engine, state)
    for (weight, bias), (a, b) in (
        (fitted[engine.at_zero], drawn.before),
        (fitted["current"], drawn.after),
    ):
        for name, z in features.items():
            logits = torch.from_numpy(z).double() @ weight.double().T + bias.double()
            says_tail = (logits[:, state.tail] > logits[:, state.head]).numpy()
            assert np.array_equal(points[name] @ a + b > 0, says_tail), name


def test_fused_points_take_the_named_share_of_channels(engine):
    none = reference.fused(engine, reference.changed(engine, fusion_ratio=0.0))
    some = reference.fused(engine, reference.changed(engine, fusion_ratio=0.25))
    assert none.shape == some.shape == (60, 64)
    assert ((none != some).sum(1) <= 16).all() and (none != some).any(1).all()


def test_the_pair_to_start_with_is_really_confused(engine):
    head, tail = engine.pairs[0]
    taken = lambda h, t: ((engine.labels == t) & (engine.first.argmax(1) == h)).sum()  # noqa: E731
    assert engine.bank.counts[head] > engine.bank.counts[tail]
    assert taken(head, tail) == max(taken(h, t) for h, t in engine.pairs) > 0
    assert engine.opening(3, -1).head == 3 and engine.opening(-1, 3).tail == 3


def test_stage_1_is_that_of_the_run(engine, trained):
    arrays = unpack(frames.base(engine, engine.start, True))[1]
    logits, labels = Run(trained).step("stage1").outputs()
    right = labels[logits.argmax(1) == labels]
    assert np.array_equal(arrays["correct"], np.bincount(right, minlength=10))
    again = engine.predict(*engine.stage1) == engine.labels
    assert arrays["correct_again"].sum() == again.sum()


def test_what_is_too_much_for_a_file_is_thinned_and_the_engine_stays(engine):
    few = copy.copy(engine)
    few.limit(5_000)
    assert few.positions == tuple(range(0, 101, 20)) and engine.positions == tuple(range(101))
    (_, arrays), whole = unpack(frames.base(few, few.start, False)), len(engine.labels)
    assert len(arrays["test"]) * engine.bank.num_features <= 5_000 < whole * 64
    assert np.array_equal(arrays["labels"], engine.labels[arrays["index"]])
    correct = unpack(frames.base(engine, engine.start, False))[1]["correct"]
    assert np.array_equal(arrays["correct"], correct), "accuracies are those of all images"
    held = [len(unpack(frames.of_class(few, c))[1]["train"]) for c in range(10)]
    assert min(held) >= 1 and sum(held) <= 5_000 // 64 + 10


# --- the session


def test_the_newest_setting_wins_and_ends_what_was_at_work(engine, monkeypatch):
    """A fit that would take minutes is given up at once for the next one, and leaves nothing
    behind."""
    session = Session(engine)
    slow = dict(frames.settings_of(session.recipe), stage2_epochs=200)
    for rate in (0.01, 0.02, 0.03):
        session.handle({"do": "settings", **slow, "stage2_lr": rate})
    assert not session.idle.is_set()
    session.handle({"do": "settings", **slow, "stage2_epochs": 1})
    settled(session)
    for slot in list(session.feed.frames):
        if slot.startswith("fits") or slot == "curve":
            assert newest(session, slot)[0]["settings"]["stage2_epochs"] == 1
    session.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage2_epochs": 1_000_000}, "stage2_epochs is 1000000"),
        ({"stage2_epochs": 1000}, "stage2_epochs is 1000; the explorer takes 1 to 200"),
        ({"stage2_epochs": 0}, "stage2_epochs is 0"),
        ({"stage2_lr": 1e9}, "stage2_lr is 1000000000.0"),
        ({"stage2_lr": -1.0}, "stage2_lr is -1.0"),
        ({"seed": 2**40}, "seed is"),
        ({"seed": -3}, "seed is -3"),
        ({"fusion": "../x"}, "fusion is"),
        ({"stage2_epochs": None}, "stage2_epochs is None"),
    ],
)
def test_a_value_out_of_range_is_refused_and_the_word_goes_with_the_next(session, change, message):
    before = session.recipe
    session.handle({"do": "settings", **frames.settings_of(before), **change})
    assert session.recipe == before
    assert answer(session)["bad"] and message in answer(session)["text"]
    session.handle({"do": "settings", **frames.settings_of(before)})
    assert not answer(session)["bad"] and answer(session)["text"] == ""


def test_requests_that_are_none_are_answered_and_do_no_harm(session):
    for message in (
        {"do": "class", "class": 99},
        {"do": "class"},
        {"do": "class", "class": "x"},
        {"do": "save", "name": "../evil", "p": 0},
        {"do": "save", "name": "n" * 300, "p": 0},
        {"do": "save", "name": "a", "p": 7},
        {"do": "save", "name": "a"},
        {"do": "settings"},
    ):
        session.handle(message)
        assert answer(session)["bad"], message
    session.handle({"do": "nothing"})
    session.handle({"do": "images", "index": [10**6, -5]})
    settled(session)


def test_opening_again_ends_the_one_before(trained):
    """The cell of a notebook runs again and again: no thread, no bank and no widget stays."""
    before = threading.active_count()
    sessions = []
    for _ in range(3):
        panel = widget.explore(trained, QUICK, views=2)
        sessions.append(weakref.ref(panel.session))
    assert sum(t.name == "explorer" for t in threading.enumerate()) == 2
    panel.close()
    del panel
    gc.collect()
    assert threading.active_count() <= before
    assert [s() for s in sessions] == [None] * 3


def test_a_fit_that_fails_is_said_and_nobody_waits_for_it(engine, monkeypatch):
    monkeypatch.setattr(fitting, "fit", lambda *a, **how: 1 / 0)
    session = Session(engine)
    with pytest.raises(Error, match="ZeroDivisionError"):
        session.finish()
    session.close()


def test_a_feed_gives_each_reader_what_it_has_not_seen():
    feed = Feed()
    feed.put("a", b"1")
    feed.put("b", b"2")
    number, found = feed.since(0)
    assert found == [b"1", b"2"] and feed.since(number) == (number, [])
    feed.put("a", b"3")
    assert feed.since(number)[1] == [b"3"] and feed.since(-1)[1] == [b"2", b"3"]
    for k in range(200):
        feed.put(f"images-{k}", b"x")
    assert len(feed.frames) < 70 and "a" in feed.frames


def test_a_classifier_is_saved_that_notebook_05_repeats(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    engine = Explorer(run, stage2_config(fusion_ratio=0.3), views=2)
    session = Session(engine)
    session.handle({"do": "save", "name": "mine", "p": 0.55})
    assert "saved as stage2-mine" in answer(session)["text"]
    session.close()
    recipe = dataclasses.replace(session.recipe, fusion_ratio=0.55)
    right = engine.predict(*engine.fit(recipe)) == engine.labels
    result = Run(run).step("stage2-mine").result
    assert result["last"]["all"] == pytest.approx(100 * right.mean())
    again = shutil.copytree(trained, tmp_path / "again")
    out, given = tmp_path / "05.ipynb", {"settings": recipe.to_dict(), "save_as": "mine"}
    given |= {"run": str(again), "views": 2, "head_class": 0, "tail_class": 9}
    papermill.execute_notebook(BOOK, out, given, progress_bar=False, kernel_name="python3")
    ours, theirs = (Run(r).step("stage2-mine").weights() for r in (run, again))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    cells = json.loads(out.read_text())["cells"]
    outputs = [o for c in cells for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not [o for o in outputs if o["output_type"] == "error"]


def test_what_a_run_lacks_is_said_with_the_mend(trained, tmp_path):
    with pytest.raises(Error, match="no run directory .*h2t run"):
        widget.explore(tmp_path / "none")
    run, _ = digits_run(tmp_path / "run")
    with pytest.raises(Error, match="has no finished stage 1; train one with `h2t run RECIPE"):
        widget.explore(run)
    with pytest.raises(Error, match="tail_class is 77; the run has classes 0 to 9"):
        widget.explore(trained, QUICK, views=2, tail_class=77)
    with pytest.raises(Error, match="both 3"):
        widget.explore(trained, QUICK, views=2, head_class=3, tail_class=3)
    with pytest.raises(Error, match="stage2_epochs is 1000; the explorer"):
        widget.explore(trained, {"stage2_epochs": 1000}, views=2)
    with pytest.raises(Error, match="no ratio to drag"):
        widget.explore(trained, {"stage2_method": "tau", "fusion_ratio": 0.0})
