"""The explorer's engine and panel without a browser, and notebook 05 by papermill."""

import json
import shutil
import threading

import numpy as np
import papermill
import pytest
import torch
import yaml

from h2t import Error, Run, train_stage1, train_stage2
from h2t.lab.books.live import explore
from h2t.lab.explorer.boundary import tail_side
from h2t.lab.explorer.panel import FIGURES
from h2t.train.cached import bank as banking
from h2t.train.cached import fit as fitting
from h2t.train.cached.steps import compare, recipe_of
from tests.helpers import ROOT, digits_run, stage1_config, stage2_config, train_cached

BOOK = ROOT / "notebooks" / "05_fusion_explorer.ipynb"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run, _ = digits_run(tmp_path_factory.mktemp("explorer") / "run")
    train_stage1(run, stage1_config(stage1_epochs=15), progress=False)
    banking.build_bank(run, stage2_config(), 2, progress=False)
    return run


@pytest.fixture(scope="module")
def opened(trained):
    return explore(trained, stage2_config(fusion_ratio=0.3), views=2, progress=False)


@pytest.fixture
def panel(opened):
    """The explorer as it opens."""
    opened.show_state(opened.origin)
    opened.settle()
    return opened


def test_the_fit_behind_the_slider_is_the_cached_stage2(panel):
    recipe = stage2_config(fusion_ratio=0.4)
    alone = fitting.fit(panel.engine.bank, [0.4], [0], recipe)
    weight, bias = panel.engine.fit(recipe)
    assert torch.allclose(weight, alone.weight[0, 0], atol=1e-6) and torch.allclose(
        bias, alone.bias[0, 0], atol=1e-6
    )


def test_drawn_sides_are_the_classifiers_decisions_for_every_point(panel):
    state = panel.state.change(fusion_ratio=0.6)
    drawn, points = panel.engine.boundary(state)
    features = panel.engine.points(state)
    for (weight, bias), line in (
        (panel.engine.stage1, drawn.before),
        (panel.engine.fit(state.recipe), drawn.after),
    ):
        for name, z in features.items():
            logits = torch.from_numpy(z).double() @ weight.double().T + bias.double()
            says_tail = (logits[:, state.tail] > logits[:, state.head]).numpy()
            assert np.array_equal(tail_side(points[name], line), says_tail), name


def test_fused_points_take_the_named_share_of_channels(panel):
    none = panel.engine.fused(panel.state.change(fusion_ratio=0.0))
    some = panel.engine.fused(panel.state.change(fusion_ratio=0.25))
    assert none.shape == some.shape == (60, 64)
    assert ((none != some).sum(1) <= 16).all() and (none != some).any(1).all()


def test_moving_the_slider_moves_pictures_and_numbers(panel):
    before, numbers = {k: p.value for k, p in panel.pictures.items()}, panel.numbers.value
    panel.controls["fusion_ratio"].value = 0.9
    panel.settle()
    after = {k: p.value for k, p in panel.pictures.items()}
    assert {k for k in FIGURES if before[k] != after[k]} == set(
        FIGURES
    ) and panel.numbers.value != numbers
    panel.reset.click()
    panel.settle()
    assert panel.controls["fusion_ratio"].value == 0.3 and panel.numbers.value == numbers
    assert {k: p.value for k, p in panel.pictures.items()} == before  # back to the very pixels


def test_the_newest_value_wins_and_nothing_piles_up(panel, monkeypatch):
    """A fit that takes as long as the whole drag: of its hundred values only the first, which was at work, and the last are fitted."""
    fits, dragged, real = [], threading.Event(), panel.engine.fit
    monkeypatch.setattr(
        panel.engine,
        "fit",
        lambda recipe: (fits.append(recipe.fusion_ratio), dragged.wait(60), real(recipe))[2],
    )
    for k in range(100):
        panel.controls["fusion_ratio"].value = round(0.31 + k / 200, 3)
    dragged.set()
    panel.settle()
    ratios = set(fits) - {0.0, 0.3}  # DR, and what the explorer opened with
    assert panel.state.recipe.fusion_ratio in ratios and len(ratios) <= 2
    assert "p = 0.8" in panel.figures["map"].title.get_text()


def test_classes_branch_epochs_and_rate_can_be_changed(panel):
    panel.controls["tail"].value = 5
    panel.controls["fusing_branch"].value = "reversed"
    panel.controls["stage2_epochs"].value = 2
    panel.controls["stage2_lr"].value = 0.1
    panel.settle()
    recipe = panel.state.recipe
    assert (panel.state.tail, recipe.fusing_branch, recipe.stage2_epochs, recipe.stage2_lr) == (
        5,
        "reversed",
        2,
        0.1,
    )
    assert "5 (tail)" in panel.figures["boundary"].title.get_text()


@pytest.mark.parametrize(
    ("control", "value", "message"),
    [
        ("stage2_epochs", 0, "stage2_epochs is 0"),
        ("stage2_lr", -1.0, "stage2_lr is -1.0"),
        ("seed", -3, "seed is -3"),
        ("tail", 0, "must differ"),
    ],
)
def test_a_value_out_of_range_is_refused_politely(panel, control, value, message):
    before, pixels = panel.controls[control].value, panel.pictures["boundary"].value
    panel.controls[control].value = value
    assert panel.controls[control].value == before and message in panel.status.value
    panel.settle()
    assert panel.pictures["boundary"].value == pixels


def test_a_state_is_saved_as_figures_classifier_and_recipe(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    panel = explore(run, stage2_config(fusion_ratio=0.3), views=2, progress=False)
    panel.controls["fusion_ratio"].value = 0.55
    panel.settle()
    panel.name.value = "mine"
    for button in panel.saves.values():
        button.click()
    folder = run / "explorer" / "mine"
    assert {p.name for p in folder.iterdir()} == {
        f"{n}.{e}" for n in FIGURES for e in ("png", "pdf")
    } | {"recipe.yaml"}
    result = Run(run).step("stage2-mine").result
    assert result["cached"]["views"] == 2 and result["last"]["all"] == pytest.approx(
        panel.engine.accuracy(panel.engine.logits(panel.engine.fit(panel.state.recipe)))[1]["all"]
    )
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["fusion_ratio"] == 0.55 and recipe["save_as"] == "mine"
    again = shutil.copytree(trained, tmp_path / "again")
    papermill.execute_notebook(
        BOOK,
        tmp_path / "05.ipynb",
        {**recipe, "run": str(again)},
        progress_bar=False,
        kernel_name="python3",
    )
    ours, theirs = (Run(r).step("stage2-mine").weights() for r in (run, again))
    assert all(
        torch.equal(ours[k], theirs[k]) for k in ours
    )  # the recipe reproduces the classifier
    outputs = [
        o
        for c in json.loads((tmp_path / "05.ipynb").read_text())["cells"]
        for o in c.get("outputs", [])
    ]
    assert [o for o in outputs if "image/png" in o.get("data", {})] and not [
        o for o in outputs if o["output_type"] == "error"
    ]
    panel.name.value = "../evil"
    panel.saves["recipe"].click()
    assert "variant is &#x27;../evil&#x27;" in panel.status.value


def test_what_a_run_lacks_is_said_with_the_mend(trained, tmp_path):
    with pytest.raises(Error, match="no run directory .*h2t run"):
        explore(tmp_path / "none")
    run, _ = digits_run(tmp_path / "run")
    with pytest.raises(
        Error, match="has no finished stage 1; train one with `h2t run RECIPE -p run"
    ):
        explore(run)
    with pytest.raises(Error, match="tail_class is 77; the run has classes 0 to 9"):
        explore(trained, stage2_config(), views=2, tail_class=77, progress=False)


def test_the_cached_stage2_is_a_step_and_stands_beside_the_exact_one(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    result = train_cached(run, stage2_config(fusion_ratio=0.3), "cached", views=2)
    assert result == Run(run).step("stage2-cached").result and result["cached"]["views"] == 2
    with pytest.raises(Error, match="already has stage2-cached"):
        train_cached(run, stage2_config(fusion_ratio=0.5), "cached", views=2)
    table = compare(run, stage2_config(), [0.0, 0.3], [0], views=2, progress=False)
    assert len(table) == 4 and set(table["kind"]) == {"exact", "cached"}
    for row in table.itertuples():
        if row.kind == "exact":
            last = Run(run).step(f"stage2-exact-p{row.ratio:g}-s0").result["last"]
        else:
            last = train_cached(
                run,
                stage2_config(fusion_ratio=row.ratio),
                f"again-p{row.ratio:g}",
                views=2,
            )["last"]
        assert (row.all, row.many, row.few) == pytest.approx(
            (last["all"], last["many"], last["few"])
        )


def test_an_exact_run_that_is_there_is_not_trained_again(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    train_stage2(run, stage2_config(fusion_ratio=0.3), "mine", progress=False)
    file = (
        Run(run).step("stage2-mine").path / "params.yaml"
    )  # as a version before other fusions left it
    file.write_text(
        "".join(
            line for line in file.read_text().splitlines(True) if not line.startswith("fusion:")
        )
    )
    table = compare(run, stage2_config(), [0.3], [0], views=2, progress=False)
    assert not Run(run).step("stage2-exact-p0.3-s0").done
    assert table.set_index("kind").loc["exact", "all"] == pytest.approx(
        Run(run).step("stage2-mine").result["last"]["all"]
    )


def test_the_recipe_of_a_run_is_its_own(trained, tmp_path):
    assert recipe_of(trained) == stage2_config(
        stage2_epochs=10, eval_every=2
    )  # as published, with stage 1's batches and crops
    run = shutil.copytree(trained, tmp_path / "run")
    train_stage2(run, stage2_config(fusion_ratio=0.4), "h2t", progress=False)
    assert (
        recipe_of(run) == stage2_config(fusion_ratio=0.4) and recipe_of(run, {"seed": 3}).seed == 3
    )


def test_draws_are_kept_while_only_ratio_and_rate_move(panel, monkeypatch):
    drawn = []
    real = fitting.draw_all
    monkeypatch.setattr(banking, "draw_all", lambda *a: (drawn.append(a[1]), real(*a))[1])
    fits = [
        panel.engine.fit(stage2_config(fusion_ratio=p, stage2_lr=lr))
        for p, lr in ((0.11, 0.02), (0.12, 0.02), (0.12, 0.05))
    ]
    assert len(drawn) <= 1 and not torch.equal(fits[1][0], fits[2][0])
    other = panel.engine.fit(stage2_config(fusion_ratio=0.12, fusing_branch="reversed"))
    assert drawn[-1].fusing_branch == "reversed" and not torch.equal(other[0], fits[1][0])


def test_the_bench_prints_every_figure_beside_its_target(trained, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from h2t.cli import main
    from tests.bench import explorer as bench_explorer

    monkeypatch.setattr(bench_explorer, "MOVES", 3)
    before = sorted(p.name for p in trained.iterdir())
    out = CliRunner().invoke(
        main,
        ["bench", "explorer", "--run", str(trained), "--out", str(tmp_path / "rows.csv")],
        catch_exceptions=False,
    )
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert (
        out.exit_code == 0
        and all(name in out.output for name in bench_explorer.TARGETS)
        and len(rows) == 1 + len(bench_explorer.TARGETS)
    )
    assert sorted(p.name for p in trained.iterdir()) == before  # the bank was built in a copy
    monkeypatch.setattr(
        bench_explorer, "_measure", lambda *a: dict.fromkeys(bench_explorer.TARGETS, 1.0)
    )
    monkeypatch.setattr(bench_explorer, "TARGETS", dict.fromkeys(bench_explorer.TARGETS, 0.0))
    missed = CliRunner().invoke(
        main,
        [
            "bench",
            "explorer",
            "--check",
            "--run",
            str(trained),
            "--out",
            str(tmp_path / "rows.csv"),
        ],
    )
    assert missed.exit_code == 1 and "missed" in missed.output
