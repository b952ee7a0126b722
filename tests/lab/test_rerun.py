"""Notebooks are for running again: backwards, and once more in one kernel with other parameters."""

import ast
import json
import os

import pytest

from h2t import Error
from h2t.lab.books import execute as notebooks
from h2t.lab.books import inline
from h2t.lab.books.parameters import _typed
from tests.helpers import ROOT, execute_inline, processes

BOOKS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
SHORT = {"views": 2, "precision": "fp32"}
# what makes each notebook quick, and what is another the third time; {0} and {1} are two runs
FAST = {
    "00": [{"seeds": 2, "ratios": [0.3, 0.5], "num_features": 8}, {"fusion_ratio": 0.5}],
    "01": [{"run": "{0}"}, {"run": "{1}", "imbalance_factor": 10.0}],
    "02": [{"run": "{0}", "stage1_epochs": 2}, {"run": "{1}", "stage1_epochs": 3}],
    "03": [
        {"run": "{0}", "stage2_epochs": 1, "compare_ratios": [0.0, 0.5], "compare_seeds": 2},
        {"run": "{1}", "fusion_ratio": 0.6, "compare_seeds": 0},
    ],
    "04": [{"run": "{0}"}, {"run": "{1}", "head_class": 1}],
    "05": [{"run": "{0}", "settings": {"stage2_epochs": 1}}, {"settings": {"fusion_ratio": 0.6}}],
    "06": [{"root": "{root}", "choose": "method in ['DR', 'DR + H2T']"}, {"measure": "few"}],
}


def source(cell) -> str:
    return "".join(cell["source"])


def tagged(book):
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    return next(c for c in cells if "parameters" in c["metadata"].get("tags", []))


def with_parameters(book, values) -> str:
    declared = notebooks.declared(book)
    spec = {n: (values.get(n, default), kind) for n, (default, kind) in declared.items()}
    return "".join(f"{n}: {kind} = {v!r}\n" for n, (v, kind) in spec.items())


def three_times(book, folder, fill):
    """A notebook whose cells run once, backwards one by one, and again with other parameters."""
    notebook = json.loads(book.read_text(encoding="utf-8"))
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    first, other = ({n: fill(v) for n, v in p.items()} for p in FAST[book.stem[:2]])
    first = {n: v for n, v in SHORT.items() if n in notebooks.declared(book)} | first
    texts = [source(c) for c in code[1:]]
    ways = [with_parameters(book, first), *texts], texts[::-1]
    ways += ([with_parameters(book, {**first, **other}), *texts],)
    cells = [
        {**code[1], "id": f"c-{w}-{k}", "source": text, "metadata": {}}
        for w, way in enumerate(ways)
        for k, text in enumerate(way)
    ]
    folder.mkdir(exist_ok=True)
    written = folder / book.name
    written.write_text(json.dumps({**notebook, "cells": cells}), encoding="utf-8")
    return written


def execute(run, books, pipe):
    """Execute notebooks and send for each whether it came to its end."""
    os.environ["H2T_FIGURES"] = ""  # neither written
    inline.FIGURES += "\n%config InlineBackend.figure_formats = set()"  # nor shown
    for book in books:
        try:
            execute_inline(run, [book], {})
            pipe.send(True)
        except Error:
            pipe.send(False)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """All notebooks, each three times, one after the other in one process."""
    root = tmp_path_factory.mktemp("again") / "runs"

    def fill(value):
        if isinstance(value, list):
            return [fill(v) for v in value]
        return value.format(root / "a", root / "b", root=root) if isinstance(value, str) else value

    books = [book for book in BOOKS if book.stem[:2] in FAST]  # 07 trains for minutes
    written = [three_times(book, root.parent / "books", fill) for book in books]
    here, there = processes().Pipe(duplex=False)
    process = processes().Process(target=execute, args=(root / "log", written, there))
    process.start()
    there.close()
    ended = [here.recv() for _ in written]
    process.join()
    copies = [root / "log" / "notebooks" / book.name for book in written]
    texts = [json.loads(copy.read_text(encoding="utf-8")) for copy in copies]
    return dict(zip(FAST, zip(ended, texts, strict=True), strict=True))


@pytest.mark.parametrize("number", FAST)
def test_it_runs_out_of_order_and_again_with_other_parameters(executed, number):
    ended, notebook = executed[number]
    outputs = [(c["id"], o) for c in notebook["cells"] for o in c.get("outputs", [])]
    failed = [(k, o["evalue"]) for k, o in outputs if o["output_type"] == "error"]
    assert not failed and ended


@pytest.mark.parametrize("number", FAST)
def test_no_cell_ends_in_a_value_that_nobody_reads(executed, number):
    for cell in executed[number][1]["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/plain", []))
            assert "PosixPath(" not in text and text.strip() not in ("[]", "None"), cell["source"]


def names_set(cell) -> set[str]:
    """What a cell names for all other cells: not what stays in a function or a comprehension."""
    found, todo = set(), [ast.parse(source(cell))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        inner = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FunctionDef)
        if not isinstance(node, inner):
            todo += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("book", BOOKS, ids=lambda p: p.stem)
def test_no_cell_names_anything_as_a_parameter_is_named(book):
    own, taken = tagged(book), set(notebooks.declared(book))
    for cell in json.loads(book.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and source(cell) != source(own):
            assert not names_set(cell) & taken
            assert "globals()" not in source(cell) or "read(globals()" in source(cell).replace(
                "read(\n    globals()", "read(globals()"
            )


PARAMETERS = 'run: str = "runs/x"  # where\nseed: int = 0\n'


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ([PARAMETERS], ["run", "seed"]),
        (["x = 1", PARAMETERS.replace("seed", "sead")], ["run", "sead"]),
        ([PARAMETERS, "# Parameters\nseed = 3\nloss = 'ce'\n"], ["seed", "loss", "run", "seed"]),
        ([PARAMETERS, "x = 5"], []),  # a cell between: what the namespace holds is all there is
        (["x = 5"], []),
        (["# Parameters\nseed = 3"], []),
        ([PARAMETERS, "%%time"], []),
        (["seed: int = 3\n_mine = 4"], ["seed"]),
        ([], []),
    ],
)
def test_what_the_parameters_cell_names_is_read_from_the_cell_itself(cells, names):
    assert _typed(cells) == names
