"""Calibration against a loop over images and bins."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2t import metrics
from tests.test_metrics import outputs, prediction


@given(outputs(), st.integers(1, 20))
def test_calibration_is_what_a_loop_bins(out, bins):
    logits, labels = out
    table = metrics.calibration(logits, labels, bins)
    assert (
        list(table.columns) == ["lower", "upper", "count", "confidence", "accuracy"]
        and len(table) == bins
    )
    inside = [[] for _ in range(bins)]
    edges = [float(e) for e in np.linspace(0, 1, bins + 1)]
    for row, label in zip(logits, labels, strict=True):
        z = [float(v) for v in row]
        confidence = 1 / math.fsum(math.exp(v - max(z)) for v in z)
        for b in range(bins):
            # 1e-12: a confidence on an edge may be rounded to either side of it
            if edges[b] + 1e-12 < confidence <= edges[b + 1] + 1e-12:
                inside[b].append((confidence, prediction(row) == label))
                break
    on_edge = any(abs(c - e) < 1e-12 and 0 < e < 1 for b in inside for c, _ in b for e in edges)
    if not on_edge:
        assert table["count"].tolist() == [len(b) for b in inside]
        for row, members in zip(table.itertuples(), inside, strict=True):
            if members:
                assert row.confidence == pytest.approx(
                    100 * sum(c for c, _ in members) / len(members)
                )
                assert row.accuracy == pytest.approx(
                    100 * sum(h for _, h in members) / len(members)
                )
            else:
                assert math.isnan(row.confidence) and math.isnan(row.accuracy)
        gap = sum(
            len(b) * abs(sum(h for _, h in b) - sum(c for c, _ in b)) / len(b) for b in inside if b
        )
        assert metrics.ece(logits, labels, bins) == pytest.approx(100 * gap / len(labels), abs=1e-9)
    assert table["count"].sum() == len(labels)
    assert (table["lower"].iloc[0], table["upper"].iloc[-1]) == (0, 100)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    table = metrics.calibration(
        np.zeros((4, 2)), np.array([0, 0, 0, 1]), bins=2
    )  # confidence is exactly one half
    assert table["count"].tolist() == [4, 0]
    assert table.loc[0, "accuracy"] == 75 and table.loc[0, "confidence"] == 50
    assert metrics.ece(np.zeros((4, 2)), np.array([0, 0, 0, 1]), bins=2) == pytest.approx(25)


def test_ece_of_the_certain_and_wrong_is_100_and_of_the_certain_and_right_0():
    sure = 1e4 * np.eye(4)
    assert metrics.ece(sure, np.arange(4)) == pytest.approx(0)
    assert metrics.ece(sure, (np.arange(4) + 1) % 4) == pytest.approx(100)
