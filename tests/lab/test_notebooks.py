"""The contract of a notebook, and the recipes and parameters that go into it."""

import json
import re
import sys

import papermill
import pytest
import yaml

from h2t import Error, Run
from h2t.lab.books import apart
from h2t.lab.books import execute as notebooks
from h2t.recipes import parameters as config
from tests.helpers import ROOT
from tests.lab.jobs import ALL, BOOKS, RECIPES, cli, no_files

__all__ = ["no_files"]
SERIES = sorted((ROOT / "notebooks").glob("0*.ipynb"))


def test_each_notebook_runs_by_papermill_itself(tmp_path, no_files):
    out = tmp_path / "01.ipynb"
    papermill.execute_notebook(
        BOOKS[0],
        out,
        {"run": str(tmp_path / "run"), "imbalance_factor": 10.0},
        progress_bar=False,
        kernel_name="python3",
    )
    assert json.loads((tmp_path / "run" / "split.json").read_text())["imbalance_factor"] == 10.0
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'imbalance_factor'"):
        papermill.execute_notebook(
            BOOKS[0],
            out,
            {"run": str(tmp_path / "bad"), "imbalance_facto": 5.0},
            progress_bar=False,
            kernel_name="python3",
        )
    assert not (tmp_path / "bad").exists()


def begin(book, **given):
    """Execute a notebook's first two cells after the parameters, without a kernel."""
    here = {name: value for name, (value, _) in notebooks.declared(book).items()}
    here |= {**given, "__name__": "notebook"}
    cells = [source for tags, source in notebooks.code_cells(book) if "parameters" not in tags]
    for source in cells[:2]:
        exec(source, here)


def test_a_value_out_of_range_is_refused_and_nothing_made(tmp_path):
    with pytest.raises(Error, match="imbalance_factor is 0.5"):
        begin(BOOKS[0], run=str(tmp_path / "bad"), imbalance_factor=0.5)
    assert not (tmp_path / "bad").exists()


def written(path, *cells):
    """A notebook of these code cells."""
    one = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    made = [{**one, "id": f"c-{k}", "source": source} for k, source in enumerate(cells)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    notebook = {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))
    return path


def test_notebooks_run_in_this_environment_and_a_mistake_is_one_sentence(tmp_path, monkeypatch):
    """Also where another python3 comes first on Jupyter's path."""
    foreign = tmp_path / "share" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"}
    (foreign / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    cells = "import sys; print(sys.prefix)", "import h2t; raise h2t.Error('p is 3; set it to 0')"
    book = written(tmp_path / "small.ipynb", *cells)
    run = Run(tmp_path / "run")
    with pytest.raises(Error, match="^p is 3; set it to 0$"):
        apart.execute_apart(run, [book], {}, progress=False)
    copy = json.loads((run.path / "notebooks" / book.name).read_text())
    outputs = [o for c in copy["cells"] for o in c.get("outputs", [])]
    assert "".join(next(o["text"] for o in outputs if "text" in o)).strip() == sys.prefix
    failed = next(o for o in outputs if o["output_type"] == "error")
    assert failed["traceback"] == ["Error: p is 3; set it to 0"]


def test_where_papermill_is_not_installed_the_way_without_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "find_spec", lambda name: None)
    result = cli("run", RECIPES[-1], "-p", "run", tmp_path / "run")
    assert result.exit_code == 2
    said = "Error: papermill is not installed, so notebooks cannot run; train with --plain"
    assert result.output.splitlines()[-1] == said


@pytest.mark.parametrize("book", BOOKS[1:], ids=lambda p: p.stem)
def test_without_a_run_a_notebook_says_how_to_make_one_and_makes_nothing(book, tmp_path):
    run = tmp_path / "none"
    with pytest.raises(Error, match=f"no run directory {run}; make it with `h2t run RECIPE -p run"):
        begin(book, run=str(run))
    assert not run.exists()
    begun = Run(run, create=True)
    missing = "is not finished; train it" if book == BOOKS[3] else "has no data yet; prepare it"
    with pytest.raises(Error, match=f"{missing} .*`h2t run RECIPE -p run {begun.path}`"):
        begin(book, run=str(run))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            ["fusion_ration", "0.3"],
            "unknown parameter 'fusion_ration'; did you mean 'fusion_ratio' or",
        ),
        (["fusion_ratio", "1.5"], "fusion_ratio is 1.5; it must be in [0, 1]"),
        (["fusion_ratio", "much"], "fusion_ratio is 'much' (str); it must be a number"),
        (["stage1_epochs", "2.5"], "stage1_epochs is 2.5 (float); it must be a whole number"),
        (["imbalance_factor", "0.1"], "imbalance_factor is 0.1; it must be in [1, 1000000]"),
        (["run", "3"], "run is 3 (int)"),
        (["compare_seeds", "-1"], "compare_seeds is -1; it must be in [0, 100]"),
        (["compare_ratios", "[0.0, 1.5]"], "compare_ratios is 1.5; it must be in [0, 1]"),
        (
            ["compare_ratios", "[]"],
            "compare_ratios is empty; name at least one ratio, or set compare_seeds to 0",
        ),
        (["views", "0"], "views is 0; it must be in [1, 64]"),
        (
            ["stage2_method", "mislas", "-p", "head", "cosine"],
            "method mislas changes the lengths of the classifier's rows",
        ),
        (["stage2_method", "gcl"], "method gcl lowers cosines"),
        (
            ["source", "npz", "-p", "root", "/none.npz"],
            "source is 'npz', but there is nothing at root '/none.npz'; set it with `-p root PATH`",
        ),
        (
            ["source", "places_lt", "-p", "root", "/tmp:/none", "-p", "loader", "streamed"],
            "source is 'places_lt', but there is nothing at root '/none'",
        ),
        (
            ["checkpoint", "none.pth.tar"],
            "there is no checkpoint none.pth.tar; set it with `-p checkpoint FILE`",
        ),
        (["pretrained", "none.pth"], "pretrained none.pth does not exist; name a file of weights"),
    ],
)
def test_bad_parameters_are_refused_before_any_work(tmp_path, pairs, message):
    for how in ([], ["--plain"]):
        result = cli("run", RECIPES[-1], *how, "-p", "run", tmp_path / "run", "-p", *pairs)
        assert (
            result.exit_code == 2
            and f"Error: {message}" in result.output
            and not (tmp_path / "run").exists()
        )


def test_a_recipe_with_an_unknown_parameter_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("source: digits\nlearning_rate: 0.1\n")
    result = cli("run", tmp_path / "r.yaml")
    assert result.exit_code == 2 and "unknown parameter 'learning_rate'" in result.output
    assert "none.yaml does not exist" in cli("run", tmp_path / "none.yaml").output


@pytest.mark.parametrize("book", SERIES, ids=lambda p: p.stem)
def test_the_contract_of_a_notebook(book):
    cells = json.loads(book.read_text())["cells"]
    first = "".join(cells[0]["source"])
    question = first.split("\n")[0]
    assert question.startswith(f"# {book.stem[:2]} · ") and question.endswith("?")
    assert "**Cost:**" in first and not re.search(r"\d+ (minutes|hours)", first)  # measured
    links = re.findall(r"\]\((\w+\.ipynb)\)", first.split("**Series:**")[1])
    assert links == [other.name for other in SERIES if other != book]
    tagged = [k for k, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", [])]
    assert tagged == [1] and notebooks.declared(book)
    for cell in cells[2:]:
        if cell["cell_type"] == "code":
            lines = [k for k in cell["source"] if not k.startswith(("from ", "import "))]
            assert len(lines) <= 18
            assert not any(line.startswith("class ") for line in cell["source"])
    assert any(line.startswith("assert ") for line in cells[-1]["source"])


@pytest.mark.parametrize("book", BOOKS, ids=lambda p: p.stem)
def test_notebook_parameters_are_the_fields_of_their_step(book):
    step = {"01": config.Data, "02": config.Stage1, "03": config.Stage2}.get(book.stem[:2])
    declared = notebooks.declared(book)
    values = {k: v for k, (v, _) in declared.items()}
    own = {*config.Beside().to_dict()} if book.stem[:2] == "03" else set()
    if step:
        assert {*step().to_dict(), "run", *own} == set(declared)
        step.of(values)
    recipe = yaml.safe_load(RECIPES[-1].read_text())
    assert RECIPES[-1].stem == "digits"
    assert {k: v for k, v in values.items() if k in recipe} == {
        k: v for k, v in recipe.items() if k in values
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_valid(recipe):
    parameters, books = notebooks.load_recipe(recipe, {})
    assert books == BOOKS and parameters["run"] == f"runs/{recipe.stem}"


@pytest.mark.parametrize("recipe", [p for p in ALL if p not in RECIPES], ids=lambda p: p.stem)
def test_every_sweep_is_valid(recipe):
    from h2t.study.sweep.plan import plan

    planned = plan(recipe)
    assert planned.root.name == recipe.stem and len(planned.points) > 1 and "seed" in planned.axes


def test_values_are_read_as_papermill_reads_them():
    read = notebooks.parse_value
    assert [read(x) for x in ("3", "0.5", "1e-3", "true", "digits", "[0.8, 0.9]", "")] == [
        3,
        0.5,
        0.001,
        True,
        "digits",
        [0.8, 0.9],
        "",
    ]
    assert [read(x) for x in ("[5e-4, ce, 2]", "{from: 1e-4, to: 1e-3}")] == [
        [0.0005, "ce", 2],
        {"from": 0.0001, "to": 0.001},
    ]
