"""The report as files: which pages there are, what they hold, when they are made again."""

import json
import re
import time
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from click.testing import CliRunner

import h2t
from h2t import Error
from h2t.cli import main
from h2t.study.report import site as report
from tests.synthetic import adopt, make_run, sweep

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "notebooks" / "06_compare_runs.ipynb"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
PIXEL += "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ODD = "a b#c?d%&'é<i>"  # everything that a link, a page or a file system might take amiss


def executed(path, title="# Title?", **outputs):
    """Write an executed notebook with a picture, a table, a widget and a stream."""
    new = nbformat.v4
    data = [
        {"image/png": PIXEL, "text/plain": "fig"},
        {"text/html": "<table><tr><td>7</td></tr></table>"},
        {
            "application/vnd.jupyter.widget-view+json": {
                "model_id": "x",
                "version_major": 2,
                "version_minor": 0,
            },
            "text/plain": "0%|  | 0/10",
        },
    ]
    out = [new.new_output("display_data", d) for d in data] + [
        new.new_output("stream", name="stdout", text="said\n")
    ]
    book = new.new_notebook(
        cells=[new.new_markdown_cell(title), new.new_code_cell("secret = 1 + 1", outputs=out)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Runs to report; notebook 06 is not really executed."""
    root = two_runs(tmp_path / "my runs")
    book = root / "notebooks" / BOOK.name
    monkeypatch.setattr(report, "_compare", lambda *a: book if book.exists() else executed(book))
    return root


def two_runs(root):
    """Two runs with notebooks, one of them with copied steps, and one that never finished."""
    a, b = make_run(root / ODD), make_run(root / "deep" / "b", ratio=0.1)
    adopt(a, b, "stage1", "stage2-dr", "stage2-dr-both")
    executed(a / "notebooks" / "01_dataset.ipynb")
    executed(b / "notebooks" / "02_stage1.ipynb")
    executed(b / "notebooks" / "03_stage2.part.ipynb")
    make_run(root / "failed", seed=5, names=())
    (root / "failed" / "stage1" / "result.json").unlink()
    executed(root / "failed" / "notebooks" / "02_stage1.ipynb")
    return root


def links(page):
    return [
        unquote(unescape(x))
        for x in re.findall(r'href="([^"#:]+)"', page.read_text(encoding="utf-8"))
    ]


def test_there_is_a_page_for_each_notebook_and_every_link_leads_to_one(root):
    index = report.report(root, progress=False)
    assert index == root / "report" / "index.html"
    pages = {p.relative_to(index.parent).as_posix() for p in index.parent.rglob("*.html")}
    assert pages == {
        "index.html",
        "06_compare_runs.html",
        f"runs/{ODD}/01_dataset.html",
        "runs/deep/b/02_stage1.html",
        "runs/failed/02_stage1.html",
    }
    assert set(links(index)) == pages - {"index.html"}
    for page in pages:
        for link in links(index.parent / page):
            assert (index.parent / page).parent.joinpath(link).resolve().is_file(), (page, link)


def test_a_page_needs_nothing_from_anywhere(root):
    report.report(root, progress=False)
    for page in (root / "report").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"""(src|<link[^>]*href)\s*=\s*["'](?!data:)""", text), page
        assert (
            "@import" not in text
            and not re.search(r"url\((?!['\"]?data:)", text)
            and "require" not in text
            and "MathJax" not in text
        )
    text = (root / "report" / "runs" / ODD / "01_dataset.html").read_text(encoding="utf-8")
    assert (
        f"data:image/png;base64,{PIXEL}" in text.replace("\n", "")
        and "<td>7</td>" in text
        and "said" in text
    )
    assert "0/10" not in text and "model_id" not in text  # a progress bar is no result
    assert (
        re.search(r'<details class="code"><summary>code</summary>.*secret.*</details>', text, re.S)
        and "<details open" not in text
    )


def test_the_index_has_a_row_a_run_and_names_what_is_left_out(root):
    text = report.report(root, progress=False).read_text(encoding="utf-8")
    body = text.split("<tbody>")[1].split("</tbody>")[0]
    first = re.compile(r'<td class="text">(.*?)</td>')
    rows = {unescape(first.search(r)[1]): r for r in body.split("<tr>")[1:]}
    assert set(rows) == {ODD, "deep/b"}
    tables = h2t.table(root, copies=True, save=False)
    for name, row in rows.items():
        for value in tables[tables["run"] == name]["all"]:
            assert f"{value:.2f}" in row
    assert (
        rows["deep/b"].count("copied") == 3
        and "copied" not in rows[ODD]
        and '<th data-sort="" class="">fusion_ratio</th>' in text
    )
    left = unescape(text.split("Left out")[1])
    assert (
        "failed: stage1" in left
        and "is not finished" in left
        and "<i>" not in text.replace(unescape(text), "")
    )


def test_what_has_not_changed_is_not_rendered_again(root):
    index = report.report(root, progress=False)
    pages = {p: p.stat().st_mtime_ns for p in index.parent.rglob("*.html") if p != index}
    time.sleep(0.02)
    executed(root / "deep" / "b" / "notebooks" / "02_stage1.ipynb", "# Another title?")
    executed(root / ODD / "notebooks" / "04_analysis.ipynb")
    (root / "failed" / "notebooks" / "02_stage1.ipynb").unlink()
    report.report(root, progress=False)
    now = {p: p.stat().st_mtime_ns for p in index.parent.rglob("*.html") if p != index}
    changed = {p.relative_to(index.parent).as_posix() for p in now if now[p] != pages.get(p)}
    assert changed == {"runs/deep/b/02_stage1.html", f"runs/{ODD}/04_analysis.html"}
    assert not (index.parent / "runs" / "failed").exists()
    assert "Another title?" in (index.parent / "runs/deep/b/02_stage1.html").read_text()


def test_a_damaged_notebook_is_named_and_the_others_are_rendered(root):
    (root / "deep" / "b" / "notebooks" / "02_stage1.ipynb").write_text('{"cells": [')
    index = report.report(root, progress=False)
    assert "deep/b/notebooks/02_stage1.ipynb: cannot be rendered" in index.read_text()
    assert (
        index.parent / "runs" / ODD / "01_dataset.html"
    ).exists() and "runs/deep/b/02_stage1.html" not in links(index)


def test_nothing_is_deleted_that_the_report_did_not_write(root, tmp_path):
    """A folder with a made.json of somebody else is refused; one of ours that names files outside,
    or behind a link, leads to no deletion there."""
    victim, out = tmp_path / "victim.txt", tmp_path / "out"
    named = json.dumps({"../victim.txt": "1", "mine.txt": "2", "link/victim.txt": "3"})
    out.mkdir()
    for file in (victim, out / "mine.txt"):
        file.write_text("mine")
    (out / "made.json").write_text(named)
    with pytest.raises(Error, match="is no report that h2t made"):
        report.report(root, out, progress=False)
    assert {p.name for p in out.iterdir()} == {"made.json", "mine.txt"} and victim.exists()
    (out / "made.json").unlink()
    (out / "mine.txt").unlink()
    report.report(root, out, progress=False)
    (out / "made.json").write_text(named)
    (out / "link").symlink_to(tmp_path)
    report.report(root, out, progress=False)
    assert victim.read_text() == "mine" and (out / "link").is_symlink()


def test_runs_that_are_there_for_others_are_no_rows(tmp_path, monkeypatch):
    root = sweep(tmp_path / "many", seeds=2, ratios=(0.1, 0.3))
    monkeypatch.setattr(
        report, "_compare", lambda root, *a: executed(root / "notebooks" / BOOK.name)
    )
    executed(root / "shared" / "if50 s0" / "notebooks" / "02_stage1.ipynb")
    text = report.report(root, progress=False).read_text(encoding="utf-8")
    assert "<h1>many: 4 runs</h1>" in text and "shared" not in text


def test_links_between_notebooks_lead_to_pages(root):
    series = "**Series:** [01](01_dataset.ipynb) · [06](06_compare_runs.ipynb) · [07](07_x.ipynb)"
    executed(root / ODD / "notebooks" / "02_stage1.ipynb", series)
    index = report.report(root, progress=False)
    page = index.parent / "runs" / ODD / "02_stage1.html"
    assert set(links(page)) >= {"01_dataset.html", "../../06_compare_runs.html"}
    assert ".ipynb" not in page.read_text() and "07" in page.read_text()


def test_a_report_elsewhere_and_of_one_run(root, tmp_path):
    index = report.report(root, tmp_path / "out" / "there", progress=False)
    assert index == tmp_path / "out" / "there" / "index.html" and not (root / "report").exists()
    index = report.report(root / ODD, tmp_path / "single", progress=False)
    assert {p.relative_to(index.parent).as_posix() for p in index.parent.rglob("*.html")} == {
        "index.html",
        "06_compare_runs.html",
        "runs/01_dataset.html",
    }
    assert set(links(index)) == {"06_compare_runs.html", "runs/01_dataset.html"}


def test_mistakes_end_in_one_message(root, tmp_path):
    def said(*arguments):
        out = CliRunner().invoke(main, ["report", *map(str, arguments)], catch_exceptions=False)
        assert (
            out.exit_code == 2
            and out.output.count("Error: ") == 1
            and "Traceback" not in out.output
        )
        return out.output

    assert "there is no folder of runs" in said(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no finished step of a run" in said(tmp_path / "empty", "--out", tmp_path / "x")
    (tmp_path / "file").write_text("")
    assert "is a file; name a directory" in said(root, "--out", tmp_path / "file")
    for folder in (root, root / ODD, root / "deep"):
        assert "is no report that h2t made" in said(root, "--out", folder)
    assert "cannot be written to s3://b/x" in said(root, "--out", "s3://b/x")
    assert "unknown parameter 'measur'; did you mean 'measure'" in said(root, "-p", "measur", "few")
    assert "measure is 3 (int)" in said(root, "-p", "measure", "3")


def test_every_notebook_says_where_it_stands_in_the_series():
    books = sorted(BOOK.parent.glob("*.ipynb"))
    for book in books:
        text = "".join(json.loads(book.read_text())["cells"][0]["source"])
        series = text.split("**Series:**")[1].split("\n\n")[0]
        linked = re.findall(r"\]\((\w+\.ipynb)\)", series)
        assert linked == [other.name for other in books if other != book], book
        assert re.search(rf"\*\*{book.stem[:2]} ", series), book
