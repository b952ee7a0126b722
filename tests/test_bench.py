"""The bench: what it compares is the same network, and its verdict follows its numbers."""

import copy

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from h2t import models
from tests.bench import loader as bench_loader
from tests.bench import plain
from tests.bench import steps as bench
from tests.bench.__main__ import bench as main


def test_the_published_way_of_writing_the_network_computes_the_same():
    ours = models.build("resnet20", 10)
    theirs = plain.as_published(copy.deepcopy(ours))
    x = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    for model in (ours, theirs):
        model(x).logsumexp(1).sum().backward()
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize(
    ("ratio", "bf16", "code"), [(1.29, False, 1), (1.31, False, 0), (1.9, True, 1), (2.1, True, 0)]
)
def test_check_exits_1_where_the_target_is_missed(tmp_path, monkeypatch, ratio, bf16, code):
    from h2t.train import device as step

    def rows(stage, device, steps):
        common = {
            "stage": f"stage {stage}",
            "precision": "fp32",
            "ms_per_step": 1.0,
            "spread_ms": 0.0,
            "images_per_s": 1,
        }
        return [
            {**common, "loop": loop, "ratio": r, "network_share": ""}
            for loop, r in (("plain", 1.0), ("h2t", ratio))
        ]

    monkeypatch.setattr(bench, "_compare", rows)
    monkeypatch.setattr(step, "native_bf16", lambda device: bf16)
    out = CliRunner().invoke(
        main,
        ["--check", "--out", str(tmp_path / "rows.csv"), "--device", "cpu"],
        catch_exceptions=False,
    )
    assert out.exit_code == code and ("missed" in out.output) == bool(code)
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 4 + 1
    assert (
        CliRunner().invoke(main, ["--out", str(tmp_path / "rows.csv"), "--device", "cpu"]).exit_code
        == 0
    )


@pytest.fixture
def few_photographs(monkeypatch):
    for name, value in (
        ("IMAGES", 10),
        ("BATCH", 4),
        ("ROUNDS", 1),
        ("CLASSES", 2),
        ("SIZES", {"300x260": (300, 260)}),
    ):
        monkeypatch.setattr(bench_loader, name, value)


def test_the_loaders_that_are_compared_give_the_same_images(few_photographs, tmp_path):
    bench_loader.write_photographs(tmp_path, (300, 260), 10)
    cpu, loaders = torch.device("cpu"), (bench_loader._image_folder, bench_loader._streamed)
    for what, same in (("test", True), ("training", False)):
        theirs, ours = (list(make(tmp_path, what, cpu, 1)[0]()) for make in loaders)
        assert [x.shape for x, _ in theirs] == [x.shape for x, _ in ours]
        assert (
            all(
                torch.allclose(x, z, atol=1e-4) and torch.equal(y, v)
                for (x, y), (z, v) in zip(theirs, ours, strict=True)
            )
            == same
        )
        x, z = (torch.cat([x for x, _ in epoch]) for epoch in (theirs, ours))
        assert abs(x.mean() - z.mean()) < 0.5 and 0.5 < x.std() / z.std() < 2


@pytest.mark.parametrize(("target", "code"), [(1e-6, 0), (1e6, 1)])
def test_bench_loader_measures_and_judges(few_photographs, tmp_path, monkeypatch, target, code):
    monkeypatch.setattr(bench_loader, "TARGET", target)
    monkeypatch.setenv("H2T_WORKERS", "1")
    out = CliRunner().invoke(
        main,
        ["loader", "--check", "--device", "cpu", "--out", str(tmp_path / "rows.csv")],
        catch_exceptions=False,
    )
    assert out.exit_code == code and ("missed" in out.output) == bool(code), out.output
    rows = pd.read_csv(tmp_path / "rows.csv")[:-1]  # the last is the verdict
    assert (
        len(rows) == 6 and (rows["images per s"] > 0).all() and (rows["cpu ms per image"] > 0).all()
    )
