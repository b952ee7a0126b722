"""Each loss against a slow loop of its own formula, on extreme counts, in both precisions; and a
new one from the README.
"""

import math
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from h2t import Error, Stage1
from h2t.losses import LOSSES, loss_of
from h2t.losses.class_balanced import class_weights
from h2t.train.device import threads
from tests.helpers import ROOT

COUNTS = [100_000, 5_000, 120, 7, 1]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Five numbers are not worth a second one, which on a busy machine is waited for."""
    with threads():
        yield


def soft(z):
    top = max(z)
    e = [math.exp(v - top) for v in z]
    return [v / sum(e) for v in e]


def by_hand(name, z, y, n):
    """The loss of one image, in double precision with the standard library alone, and its weight in
    the batch's mean.
    """
    log_p = lambda z: z[y] - max(z) - math.log(sum(math.exp(v - max(z)) for v in z))  # noqa: E731
    if name == "ce":
        return -log_p(z), 1.0
    if name == "focal":
        p = soft(z)[y]
        return (1 - p) ** 2 * -log_p(z), 1.0
    if name == "cb":
        raw = [(1 - 0.9999) / (1 - 0.9999**k) for k in n]
        return -log_p(z), raw[y] / sum(raw) * len(n)
    if name == "bsce":
        return -log_p([v + math.log(k) for v, k in zip(z, n, strict=True)]), 1.0
    if name == "la":
        return -log_p([v + math.log(k / sum(n)) for v, k in zip(z, n, strict=True)]), 1.0
    if name in ("ldam", "ride"):  # of one expert RIDE is LDAM
        margin = 0.5 * n[y] ** -0.25 / max(k**-0.25 for k in n)
        return -log_p([v - 30 * margin * (c == y) for c, v in enumerate(z)]), 1.0
    if name == "las":
        e = 0.1 + (0.4 - 0.1) * math.sin(math.pi / 2 * (n[y] - min(n)) / (max(n) - min(n)))
        logs = [v - max(z) - math.log(sum(math.exp(u - max(z)) for u in z)) for v in z]
        return -sum(((1 - e) * (c == y) + e / len(z)) * v for c, v in enumerate(logs)), 1.0
    if name in ("gcl", "reslt"):  # without its cloud, of one branch
        return -log_p(z), 1.0
    raise AssertionError(f"no slow computation for {name}")


def mean_by_hand(name, logits, labels, counts, weight=None):
    terms = [by_hand(name, z, y, counts) for z, y in zip(logits, labels, strict=True)]
    w = [t[1] * (weight[y] if weight else 1.0) for t, y in zip(terms, labels, strict=True)]
    return sum(v * t[0] for v, t in zip(w, terms, strict=True)) / sum(w)


batches = st.lists(
    st.tuples(st.lists(st.floats(-40, 40), min_size=5, max_size=5), st.integers(0, 4)),
    min_size=1,
    max_size=3,
)


def slope(f, rows, i, c, h=1e-5):
    """d f / d rows[i][c], by a central difference."""

    def moved(s):
        return [
            [v + s * h * (k == i and j == c) for j, v in enumerate(row)]
            for k, row in enumerate(rows)
        ]

    return (f(moved(1)) - f(moved(-1))) / (2 * h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=15)
@given(batch=batches, weight=st.sampled_from([None, [0.5, 2.0, 1.0, 3.0, 0.1]]))
def test_value_and_gradient_of_every_loss_are_those_of_a_slow_loop(dtype, batch, weight):
    labels, tolerance = [b[1] for b in batch], 1e-4 if dtype == torch.float32 else 1e-9
    for name in LOSSES:
        z = torch.tensor([b[0] for b in batch], dtype=dtype, requires_grad=True)
        value = loss_of(name)(
            z,
            torch.tensor(labels),
            torch.tensor(COUNTS),
            weight and torch.tensor(weight, dtype=dtype),
        )
        rows = z.detach().double().tolist()

        def slow(rows, name=name):
            return mean_by_hand(name, rows, labels, COUNTS, weight)

        assert value.item() == pytest.approx(slow(rows), rel=tolerance, abs=tolerance), name
        value.backward()
        assert z.grad.isfinite().all() and z.grad.dtype == dtype
        for i in range(len(rows)):
            for c in range(5):
                assert z.grad[i, c].item() == pytest.approx(
                    slope(slow, rows, i, c), rel=1e-3, abs=1e-5
                ), (name, i, c)


anything = st.floats(-(2.0**100), 2.0**100, width=32) | st.floats(-100, 100, width=32)


@settings(max_examples=40)
@given(
    st.lists(st.lists(anything, min_size=5, max_size=5), min_size=2, max_size=2),
    st.integers(0, 4),
    st.sampled_from([None, [1e-3, 2.0, 1.0, 3.0, 0.1]]),
)
def test_no_logits_make_any_loss_nan(rows, label, weight):
    """Of images of any class, on counts from 1 to 100,000."""
    for name in LOSSES:
        z = torch.tensor(rows, requires_grad=True)
        loss = loss_of(name)(
            z,
            torch.tensor([label, 4 - label]),
            torch.tensor(COUNTS),
            weight and torch.tensor(weight),
        )
        loss.backward()
        assert loss.isfinite() and z.grad.isfinite().all(), name


def test_the_slow_loop_tells_the_losses_apart():
    """So that the tests above can fail: none of the formulas is another's on this batch, but for
    those that are one and the same.
    """
    z, y = [[1.0, -2.0, 0.5, 3.0, 0.0], [0.0, 1.0, 2.0, -1.0, -3.0]], [4, 1]
    values = {name: round(mean_by_hand(name, z, y, COUNTS), 6) for name in LOSSES}
    same = {}
    for name, value in values.items():
        same.setdefault(value, []).append(name)
    assert sorted(map(sorted, same.values())) == [
        ["bsce", "la"],
        ["cb"],
        ["ce", "gcl", "reslt"],
        ["focal"],
        ["las"],
        ["ldam", "ride"],
    ]


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=30))
def test_class_balanced_weights_sum_to_the_number_of_classes_and_favour_the_rare(counts):
    w = class_weights(torch.tensor(counts)).numpy()
    assert w.sum() == pytest.approx(len(counts)) and (w > 0).all()
    order = np.argsort(counts, kind="stable")
    assert (np.diff(w[order]) <= 1e-12).all()


def test_balanced_softmax_is_logit_adjustment_at_tau_1():
    z, y, n = (
        torch.randn(8, 5, generator=torch.Generator().manual_seed(0)).double(),
        torch.arange(8) % 5,
        torch.tensor(COUNTS),
    )
    assert loss_of("bsce")(z, y, n).item() == pytest.approx(loss_of("la")(z, y, n).item())


def test_ldam_without_cosines_is_refused():
    with pytest.raises(Error, match="use it with head cosine"):
        Stage1(loss="ldam")
    with pytest.raises(Error, match="loss is 'mine'; choose one of ce, focal, cb, bsce, la, ldam"):
        Stage1(loss="mine")


def test_re_weighting_begins_after_its_share_of_the_epochs():
    from h2t.data.resident import Resident
    from h2t.data.split import Split
    from h2t.train import stage1

    labels = np.repeat(np.arange(3), [8, 3, 1])
    data = Resident(
        Split(np.zeros((12, 8, 8, 1), np.uint8), labels, tuple("abc"), None), [0.5], [0.2]
    )
    counts, config = (
        torch.tensor([8, 3, 1]),
        Stage1(stage1_epochs=4, drw_from=0.5, mixup_alpha=0.0, batch_size=4, crop_padding=0),
    )

    class Recorder:
        """In place of an update: notes the weights that it is given."""

        def __init__(self):
            self.model, self.seen = torch.nn.Identity(), []

        def __call__(self, x, y, other, share, weight, *drawn):
            self.seen.append(weight)
            return torch.zeros(())

    for epoch in (1, 2, 3, 4):
        update = Recorder()
        stage1._epoch(update, data, torch.from_numpy(labels), counts, config, epoch)
        assert len(update.seen) == 3
        for w in update.seen:
            assert (
                w is None
                if epoch <= 2
                else torch.allclose(w.double(), class_weights(counts), rtol=1e-5)
            )


def test_the_readmes_new_loss_trains(tmp_path):
    """CONTRIBUTING's example, as written: its file and its entry in a copy of the package, and its
    command.
    """
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text[text.index("## A loss of your own") :]
    file = re.search(r"`(h2t/losses/\w+\.py)`", section)[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    entry = re.search(r'`("\w+": "\w+",)`', section)[1]
    command = re.search(r"```sh\nuv run (h2t .*?)\n```", section, re.S)[1]
    assert len(code.splitlines()) < 30
    shutil.copytree(ROOT / "h2t", tmp_path / "h2t", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "notebooks",
        tmp_path / "notebooks",
        ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"),
    )
    (tmp_path / file).write_text(code)
    registry = tmp_path / "h2t" / "losses" / "__init__.py"
    registry.write_text(registry.read_text().replace('    "ce"', f'    {entry}\n    "ce"'))
    short = [
        "--plain",
        "-p",
        "stage1_epochs",
        "1",
        "-p",
        "stage2_epochs",
        "1",
        "-p",
        "bn_statistics",
        "none",
        "-p",
        "run",
        str(tmp_path / "run"),
    ]
    # before what a machine with a GPU was given besides
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "h2t", *command.split()[1:], *short],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name = entry.split('"')[1]
    assert f"loss: {name}" in (tmp_path / "run" / "stage1" / "params.yaml").read_text()


def test_label_aware_smoothing_takes_most_from_the_largest_class_and_bears_equal_ones():
    from h2t.losses.label_aware_smoothing import smoothing

    e = smoothing(torch.tensor([100, 50, 1]), 0.4, 0.1)
    assert e.tolist() == pytest.approx([0.4, 0.1 + 0.3 * math.sin(math.pi / 2 * 49 / 99), 0.1])
    assert smoothing(torch.tensor([7, 7]), 0.4, 0.1).tolist() == pytest.approx([0.1, 0.1])
    z, y, n = (
        torch.randn(6, 5, generator=torch.Generator().manual_seed(1)),
        torch.arange(6) % 5,
        torch.tensor(COUNTS),
    )
    plain = loss_of("las")(z, y, n, smooth_head=0.0, smooth_tail=0.0)
    assert plain.item() == pytest.approx(loss_of("ce")(z, y, n).item(), rel=1e-6)
