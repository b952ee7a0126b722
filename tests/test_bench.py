"""The bench: what it compares is the same network, and its verdict follows its numbers."""

import copy

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from h2t import bench, models
from h2t.cli import main


def test_the_published_way_of_writing_the_network_computes_the_same():
    ours = models.build("resnet20", 10)
    theirs = bench._as_published(copy.deepcopy(ours))
    x = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    for model in (ours, theirs):
        model(x).logsumexp(1).sum().backward()
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize(("ratio", "bf16", "code"), [(1.29, False, 1), (1.31, False, 0), (1.9, True, 1), (2.1, True, 0)])
def test_check_exits_1_where_the_target_is_missed(tmp_path, monkeypatch, ratio, bf16, code):
    from h2t.train import step

    def rows(stage, device, steps):
        common = {"stage": stage, "precision": "fp32", "ms_per_step": 1.0, "spread_ms": 0.0, "images_per_s": 1}
        return [{**common, "loop": loop, "ratio": r, "network_share": ""} for loop, r in (("plain", 1.0), ("h2t", ratio))]

    monkeypatch.setattr(bench, "_compare", rows)
    monkeypatch.setattr(step, "native_bf16", lambda device: bf16)
    out = CliRunner().invoke(main, ["bench", "--check", "--out", str(tmp_path / "rows.csv"), "--device", "cpu"], catch_exceptions=False)
    assert out.exit_code == code and ("missed" in out.output) == bool(code)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 4
    assert CliRunner().invoke(main, ["bench", "--out", str(tmp_path / "rows.csv"), "--device", "cpu"]).exit_code == 0
