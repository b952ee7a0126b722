import dataclasses

import pytest

from h2t import Error
from h2t.data import CROPS, SAMPLERS
from h2t.data.images import FITS
from h2t.data.sources import LOADERS, SOURCES
from h2t.fusion import FUSIONS
from h2t.losses import LOSSES
from h2t.models import BACKBONES
from h2t.models.heads import HEADS
from h2t.recipes import parameters as config
from h2t.recipes.parameters import Data, Stage1, Stage2
from h2t.train.schedule import stage1_lr, stage2_lr


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
        (Stage1, {"stage1_epochs": 0}, "at least 1"),
        (Stage1, {"stage1_lr": 0}, "greater than 0"),
        (Stage1, {"decay_at": [0.8]}, "one length"),
        (Stage1, {"decay_at": 0.8}, "decay_at is 0.8 .float.; it must be a list of numbers"),
        (Stage1, {"flip": "no"}, "flip is 'no' .str.; it must be a boolean"),
        (Stage1, {"model": "resnet33"}, "model is 'resnet33'; choose one of resnet20"),
        (Data, {"imbalance_factor": 0.5}, "imbalance_factor is 0.5; it must be at least 1"),
        (Data, {"source": "mnist"}, "source is 'mnist'; choose one of digits"),
    ],
)
def test_bad_values_are_refused_with_the_name_and_the_mend(step, parameters, message):
    with pytest.raises(Error, match=message):
        step(**parameters)


def test_an_unknown_parameter_is_refused_with_the_nearest_name():
    with pytest.raises(
        Error, match="unknown parameter 'fusion_ration'; did you mean 'fusion_ratio'?"
    ):
        config.check({"fusion_ration": 0.3})
    config.check({"fusion_ratio": 0.3, "run": "x"}, also=["run"])


def test_a_parameter_has_one_meaning():
    """A name that two steps share is the same field: same type, default and limits."""
    seen = {}
    for step in config.STEPS:
        for f in dataclasses.fields(step):
            what = (f.type, f.default, str(f.metadata))
            assert seen.setdefault(f.name, what) == what, f.name


def test_choices_are_what_exists():
    limits = {
        f.name: f.metadata.get("choices") for step in config.STEPS for f in dataclasses.fields(step)
    }
    assert set(limits["model"]) == set(BACKBONES) and set(limits["head"]) == set(HEADS)
    assert set(limits["fusing_branch"]) == set(SAMPLERS) and set(limits["loss"]) == set(LOSSES)
    assert limits["fusion"] == FUSIONS and set(limits["source"]) == set(SOURCES)
    assert (limits["loader"], limits["image_fit"], limits["crop"]) == (LOADERS, FITS, CROPS)


def test_of_takes_only_its_own_fields():
    s = Stage2.of({"fusion_ratio": 0.5, "stage1_lr": 3.0, "unrelated": object()})
    assert s == Stage2(fusion_ratio=0.5)


def test_published_stage1_schedule():
    c, want = Stage1(), {}
    for e in range(1, 201):  # as the paper's settings say it
        want[e] = 0.1 * e / 5 if e <= 5 else 0.001 if e > 180 else 0.01 if e > 160 else 0.1
    for e in range(1, 201):
        assert stage1_lr(e, c) == pytest.approx(want[e]), e


def test_published_stage2_schedule_is_a_cosine_by_epoch():
    c = Stage2()
    rates = [stage2_lr(e, c) for e in range(1, 11)]
    assert (
        rates[0] == 0.02
        and rates[5] == pytest.approx(0.01)
        and rates == sorted(rates, reverse=True)
    )
    assert 0 < rates[-1] < 0.001


def test_variants_separate_fusion_from_statistics():
    v = config.variants(Stage2(fusion_ratio=0.3))
    assert [(k, s.fusion_ratio, s.bn_statistics) for k, s in v.items()] == [
        ("dr", 0.0, "balanced"),
        ("dr-both", 0.0, "both"),
        ("h2t", 0.3, "both"),
    ]
    assert list(config.variants(Stage2(bn_statistics="none"))) == ["dr", "h2t"]
    assert config.variants(Stage2(bn_statistics="none"))["dr"].bn_statistics == "none"
