"""Parameters: what is refused and how it is said, one meaning a name, choices that exist."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from h2t import Error
from h2t.base.choices import FUSIONS
from h2t.base.readers import read_yaml
from h2t.cli import main
from h2t.data import SAMPLERS
from h2t.data.sources import SOURCES
from h2t.losses import LOSSES
from h2t.metrics import SCHEMES
from h2t.models import BACKBONES
from h2t.recipes import parameters as config
from h2t.recipes.parameters import Data, Stage1, Stage2, variants
from h2t.recipes.validation import described
from h2t.train.prepare import STATISTICS
from h2t.train.schedule import stage1_lr, stage2_lr
from tests.cells import CELLS, source
from tests.helpers import ROOT


@pytest.mark.parametrize(
    ("step", "parameters", "message"),
    [
        (Stage2, {"fusion_ratio": 1.2}, r"fusion_ratio is 1.2; it must be in \[0, 1\]"),
        (Stage2, {"fusion_ratio": -0.1}, r"fusion_ratio"),
        (Stage2, {"fusion_ratio": "0.3"}, r"fusion_ratio is '0.3' \(str\); it must be a number"),
        (Stage2, {"fusion_ratio": float("nan")}, "fusion_ratio is nan; it must be finite"),
        (Stage2, {"fusion_ratio": True}, "fusion_ratio"),
        (
            Stage2,
            {"bn_statistics": "tail"},
            "bn_statistics is 'tail'; choose one of balanced, both, none",
        ),
        (Stage1, {"stage1_lr": "1e-3"}, "YAML reads 1e-3 as text, write 0.001"),
        (Stage1, {"stage1_epochs": 1.5}, "stage1_epochs is 1.5 .float.; it must be a whole number"),
        (Stage1, {"stage1_epochs": 0}, r"in \[1, 5000\]"),
        (Stage1, {"stage1_lr": 0}, "it must be above 0, at most 100"),
        (Stage1, {"decay_at": [0.8]}, "one length"),
        (Stage1, {"decay_at": 0.8}, "decay_at is 0.8 .float.; it must be a list of numbers"),
        (Stage1, {"flip": "no"}, "flip is 'no' .str.; it must be a boolean"),
        (Stage1, {"model": "resnet33"}, "model is 'resnet33'; choose one of resnet20"),
        (Data, {"imbalance_factor": 0.5}, "imbalance_factor is 0.5; it must be in .1, 1000000."),
        (Data, {"source": "mnist"}, "source is 'mnist'; choose one of digits"),
    ],
)
def test_bad_values_are_refused_with_the_name_and_the_mend(step, parameters, message):
    with pytest.raises(Error, match=message):
        step(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stage2_epochs": 1_000_000}, r"stage2_epochs is 1000000; it must be in \[1, 5000\]"),
        ({"stage2_lr": 1e9}, "stage2_lr is 1000000000.0; it must be above 0, at most 100"),
        ({"views": 10**9}, r"views is 1000000000; it must be in \[1, 64\]"),
        ({"seed": -1}, r"seed is -1; it must be in \[0, 4294967295\]"),
        ({"n_max": 10**5000}, "n_max is a int too large to show; it must be in"),
        ({"root": "x" * 5000}, "root is 'xxx.* ... xxx.*; it must have at most 4096 characters"),
        ({"decay_at": [0.8, 1.2]}, r"decay_at is 1.2; it must be in \[0, 1\]"),
        ({"decay_at": [0.8, "x"]}, "decay_at is 'x' .str.; it must be a number"),
        ({"lr_factors": [1.0] * 21, "decay_at": [0.5] * 21}, "it must have at most 20 entries"),
        ({"channels": 2}, "channels is 2; choose one of 0, 1, 3"),
        ({"model": "resnet-32"}, "did you mean 'resnet32'"),
        ({"source": ["digits"]}, "source is .'digits'.; choose one of"),
    ],
)
def test_every_number_has_a_range_and_every_text_a_length(parameters, message):
    with pytest.raises(Error, match=message):
        config.check(parameters)


def test_every_number_has_both_ends():
    for it in config.described_parameters().values():
        ends = it.choices or (it.high is not None and (it.low is not None or it.above is not None))
        assert it.kind in ("string", "boolean") or ends, it.name
        assert it.text and it.group, it.name


def test_an_unknown_parameter_is_refused_with_the_nearest_names_and_where_all_are():
    with pytest.raises(Error) as e:
        config.check({"fusion_ration": 0.3})
    assert str(e.value).startswith("unknown parameter 'fusion_ration'; did you mean 'fusion_ratio'")
    assert "`h2t parameters` lists all" in str(e.value) and len(str(e.value)) < 150
    with pytest.raises(Error, match="unknown parameter 'fusion_ration'"):
        Stage2(fusion_ration=0.3)
    config.check({"fusion_ratio": 0.3, "run": "x"}, also=["run"])


def test_a_parameter_has_one_meaning():
    """A name that two steps share is the same field: same type, default, limits and text."""
    seen = {}
    for step in config.STEPS:
        for name, it in described(step).items():
            assert seen.setdefault(name, it) == it, name


def test_choices_are_what_exists():
    limits = {name: it.choices for name, it in config.described_parameters().items()}
    assert set(limits["model"]) == set(BACKBONES)
    assert limits["loss"] == tuple(LOSSES) and set(limits["source"]) == set(SOURCES)
    # what a sampler or fusion does is tested for every name in these lists
    assert limits["fusing_branch"] == SAMPLERS and limits["fusion"] == FUSIONS
    assert set(STATISTICS) < set(limits["normalise"]) and limits["groups"] == SCHEMES


def test_the_parameters_load_no_torch():
    code = "import sys, h2t.recipes.parameters; assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_takes_only_its_own_fields():
    s = Stage2.of({"fusion_ratio": 0.5, "stage1_lr": 3.0, "unrelated": object()})
    assert s == Stage2(fusion_ratio=0.5)


def test_published_stage1_schedule():
    c, want = Stage1(stage1_epochs=200), {}
    for e in range(1, 201):  # as the paper's settings say it
        want[e] = 0.1 * e / 5 if e <= 5 else 0.001 if e > 180 else 0.01 if e > 160 else 0.1
    for e in range(1, 201):
        assert stage1_lr(e, c) == pytest.approx(want[e]), e


def test_published_stage2_schedule_is_a_cosine_by_epoch():
    c = Stage2()
    rates = [stage2_lr(e, c, c.stage2_lr) for e in range(1, 11)]
    assert (
        rates[0] == 0.02
        and rates[5] == pytest.approx(0.01)
        and rates == sorted(rates, reverse=True)
    )
    assert 0 < rates[-1] < 0.001


def test_variants_separate_fusion_from_statistics():
    v = variants(Stage2(fusion_ratio=0.3))
    assert [(k, s.fusion_ratio, s.bn_statistics) for k, s in v.items()] == [
        ("dr", 0.0, "balanced"),
        ("dr-both", 0.0, "both"),
        ("h2t", 0.3, "both"),
    ]
    assert list(variants(Stage2(bn_statistics="none"))) == ["dr", "h2t"]
    assert variants(Stage2(bn_statistics="none"))["dr"].bn_statistics == "none"


@pytest.mark.parametrize("book", CELLS)
def test_a_notebooks_cell_is_written_from_the_fields(book):
    """Name, type, default and text of every parameter: `python -m tests.cells` writes it anew."""
    cells = json.loads((ROOT / "notebooks" / f"{book}.ipynb").read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert ["".join(c["source"]) for c in tagged] == [source(book)]
    for text in source(book).splitlines():
        assert len(text) <= 100, text


def test_the_recipe_of_the_digits_is_the_defaults():
    """So that the notebooks as they are and `h2t run digits` are one run."""
    recipe = read_yaml(ROOT / "notebooks" / "recipes" / "digits.yaml")
    assert recipe.pop("run") == "runs/digits"
    known = config.described_parameters()
    assert recipe == {name: known[name].default for name in recipe}


def test_the_command_lists_every_parameter_and_explains_one():
    listed = CliRunner().invoke(main, ["parameters"]).output
    for name, it in config.described_parameters().items():
        line = next(text for text in listed.splitlines() if text.startswith(f"{name} "))
        assert it.text in line and it.group.upper() in listed
    assert max(map(len, listed.splitlines())) <= 150
    one = CliRunner().invoke(main, ["parameters", "fusing_branch"]).output
    assert "sampler of the branch that lends" in one and "default: instance" in one
    assert "square_root" in one and "of notebook 03" in one
    assert "of notebook 02 and 03" in CliRunner().invoke(main, ["parameters", "flip"]).output
    wrong = CliRunner().invoke(main, ["parameters", "fusion_branch"])
    assert wrong.exit_code == 2 and "did you mean 'fusing_branch'" in wrong.output
