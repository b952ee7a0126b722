import os

import psutil
import pytest

from h2t.base.errors import Error
from h2t.base.files import MARK, claim, clean, owned, remove, resolve, write_atomic
from h2t.runs import Run


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.parametrize("inside", ["params.yaml", "stage_photos/a.jpg", "labels.npy"])
def test_what_h2t_did_not_make_is_refused_and_stays_as_it_is(tmp_path, inside):
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    (tmp_path / inside).write_text("mine")
    before = tree(tmp_path)
    for create in (True, False):
        with pytest.raises(Error, match="h2t made"):
            Run(tmp_path, create=create)
    assert tree(tmp_path) == before


def test_a_folder_is_marked_first_and_of_one_kind(tmp_path):
    claim(tmp_path / "a", "cache")
    assert owned(tmp_path / "a", "cache") and not owned(tmp_path / "a", "run")
    with pytest.raises(Error, match="no run that h2t made"):
        Run(tmp_path / "a")
    assert [p.name for p in (tmp_path / "a").iterdir()] == [MARK]


def test_a_writer_killed_before_the_mark_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / f"{MARK}.4194399.h2t-tmp").write_text("{")
    claim(tmp_path, "run")
    assert [p.name for p in tmp_path.iterdir()] == [MARK]


def test_what_living_writers_write_stays_and_none_is_signalled(tmp_path, monkeypatch):
    """os.kill(process, 0), the usual question, ends the process on Windows."""
    monkeypatch.setattr(psutil, "pid_exists", lambda process: process == 77)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process was signalled"))
    for writer in (77, 78, os.getpid(), 10**30):
        (tmp_path / f"x.{writer}.h2t-tmp").touch()
    clean(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"x.{10**30}.h2t-tmp", "x.77.h2t-tmp"]


@pytest.mark.parametrize("content", ["", "null", "[1]", '{"h2t": 1}', "[" * 5000, '"run"'])
def test_a_wild_mark_is_no_mark(tmp_path, content):
    (tmp_path / MARK).write_text(content)
    assert not owned(tmp_path, "run")
    with pytest.raises(Error, match="nothing in it is touched"):
        claim(tmp_path, "run")


@pytest.mark.parametrize("name", ["", " ", "s3://bucket/x", "a\0b", "x" * 300, "~nosuchuser/x"])
def test_a_run_that_is_no_directory_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Error, match="name"):
        Run(name)
    assert not list(tmp_path.iterdir())


def test_only_what_was_written_is_removed(tmp_path):
    step = Run(tmp_path / "r").step("stage1")
    step.begin({"seed": 0})
    (step.path / "notes.txt").write_text("mine")
    (tmp_path / "r" / "stage_photos").mkdir()
    (tmp_path / "r" / "stage_photos" / "a.jpg").write_text("mine")
    Run(tmp_path / "r").restart()
    left = sorted(p.name for p in (tmp_path / "r").rglob("*.*") if p.name != ".lock")
    assert left == ["a.jpg", MARK, "notes.txt"]
    write_atomic(tmp_path / "victim", b"")
    write_atomic(tmp_path / "r" / "x", b"")
    remove(tmp_path / "r", ["../victim", "x", "stage_photos", "a\0b/c", ""])
    with pytest.raises(Error, match="cannot remove .*: File name too long"):
        remove(tmp_path / "r", ["n" * 300])
    assert (tmp_path / "victim").exists() and not (tmp_path / "r" / "x").exists()


def test_relative_paths_start_at_the_project_also_from_the_notebooks_folder(tmp_path, monkeypatch):
    (tmp_path / "h2t").mkdir()
    (tmp_path / "notebooks").mkdir()
    for folder in (tmp_path / "notebooks", tmp_path):
        monkeypatch.chdir(folder)
        assert resolve("runs/x") == tmp_path / "runs" / "x"
