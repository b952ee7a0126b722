"""The figure of notebook 00, and the notebook itself through papermill."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import papermill as pm
import pytest
import torch
from PIL import Image

from h2t.base import rng
from h2t.lab.toy import classes as toy
from h2t.lab.toy import figure as toy_figure
from tests.lab.test_toy import data

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_why_fusion_works.ipynb"
FAST = {"seeds": 2, "ratios": [0.3, 0.5], "num_features": 16}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_figure_is_of_its_ratio_and_its_table_is_what_regions_gives():
    train_set, test_set = data(n_head=300), data(1, 200, 200)
    first, table = toy_figure.plane_figure(train_set, test_set, 0.2, 1e-3)
    other, more = toy_figure.plane_figure(train_set, test_set, 0.6, 1e-3)
    assert (pixels(other) != pixels(first)).mean() > 0.02
    assert more.loc["DR (p = 0)"].equals(table.loc["DR (p = 0)"])
    draws = toy.fused_draws(*train_set, 0.2, rng.torch_generator(0, "toy/draws"))
    found = toy.regions(*toy.train(*draws, 1e-3), *test_set)
    assert table.iloc[2].tolist() == [round(v, 1) for v in found.values()]


def test_every_drawn_half_plane_and_line_lies_where_the_classifier_decides():
    weight, bias = torch.tensor([1.5, -0.4]).double(), torch.tensor(0.8).double()
    corners = toy_figure.half_plane(weight, bias) @ weight + bias
    assert torch.allclose(corners[:2], torch.zeros(2).double(), atol=1e-9)
    assert (corners[2:] > 0).all()


def figures(notebook) -> dict[str, list[bytes]]:
    return {
        cell["id"]: [
            base64.b64decode(o["data"]["image/png"])
            for o in cell["outputs"]
            if "image/png" in o.get("data", {})
        ]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    }


def run(tmp_path: Path, source: Path = NOTEBOOK, **parameters):
    out = tmp_path / "out.ipynb"
    pm.execute_notebook(
        source,
        out,
        {**FAST, **parameters},
        progress_bar=False,
        cwd=str(tmp_path),
        kernel_name="python3",
    )
    return json.loads(out.read_text())


def test_the_notebook_and_its_solutions_run_without_a_browser(tmp_path):
    """Fast parameters, every figure there, no error; each solution, run at the end, holds what it
    asserts."""
    source = json.loads(NOTEBOOK.read_text())
    solutions = [
        s
        for c in source["cells"]
        for s in re.findall(r"```python\n(.*?)```", "".join(c["source"]), re.DOTALL)
    ]
    assert len(solutions) == 3
    for k, solution in enumerate(solutions):
        cell = {
            "cell_type": "code",
            "id": f"s-{k}",
            "metadata": {},
            "source": solution,
            "outputs": [],
            "execution_count": None,
        }
        source["cells"].append(cell)
    (tmp_path / "with_solutions.ipynb").write_text(json.dumps(source))
    # solutions 2 and 3 are about many dimensions, as the notebook's own default is
    done = run(tmp_path, tmp_path / "with_solutions.ipynb", num_features=64)
    drawn = [png for pngs in figures(done).values() for png in pngs]
    assert len(drawn) == 5
    for png in drawn:
        picture = pixels(png)
        assert picture.shape[0] > 300 and picture.shape[1] > 600 and picture.std() > 20
    outputs = [o for c in done["cells"] for o in c.get("outputs", [])]
    assert not [o for o in outputs if o["output_type"] == "error"]
    text = "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")
    assert re.search(r"the tail's region grows from \d+ % at p = 0 to \d+ %", text)
    assert any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in outputs)


def test_a_bad_parameter_stops_the_notebook_with_one_message(tmp_path):
    with pytest.raises(pm.PapermillExecutionError) as caught:
        run(tmp_path, fusion_ratio=1.5)
    assert caught.value.ename == "Error" and "fusion_ratio is 1.5" in caught.value.evalue
