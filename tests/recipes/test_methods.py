"""Every stage 1 with every stage 2: what goes together, and that each method learns."""

import dataclasses
import itertools

import numpy as np
import pytest

from h2t import Error, Run, train_stage1, train_stage2
from h2t.base.choices import METHODS
from h2t.losses import LOSSES
from h2t.models.heads import CosineHead
from h2t.recipes import methods as recipes
from h2t.recipes.parameters import Data, Stage1, Stage2, check
from h2t.train.evaluate import load_model
from tests.helpers import digits_run

COSINE = {"ldam", "gcl", "ride"}  # losses that set margins between cosines
MODEL = {"ride": "ride3_resnet32", "reslt": "reslt_resnet32"}
STAGE1 = {
    loss: {
        "loss": loss,
        "head": "cosine" if loss in COSINE else "linear",
        "model": MODEL.get(loss, "resnet32"),
    }
    for loss in LOSSES
}


@pytest.mark.parametrize(("loss", "method"), list(itertools.product(LOSSES, METHODS)))
def test_any_stage1_goes_with_any_stage2_that_makes_sense_for_its_head(loss, method):
    parameters = {
        **Data().to_dict(),
        **Stage1(**STAGE1[loss]).to_dict(),
        **Stage2(stage2_method=method, fusion_ratio=0.0).to_dict(),
    }
    cosine = "changes the lengths of the classifier's rows, which a cosine head ignores; use"
    linear = "method gcl lowers cosines; use a stage 1 with head cosine"
    why = {(True, m): cosine for m in ("lws", "mislas", "tau")} | {(False, "gcl"): linear}
    why = why.get((loss in COSINE, method))
    if why is None:
        check(parameters)
        return
    with pytest.raises(Error, match=why):
        check(parameters)


@pytest.mark.parametrize(
    ("loss", "model"),
    list(itertools.product(LOSSES, ("resnet32", "ride3_resnet32", "reslt_resnet32"))),
)
@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_a_loss_has_the_head_and_the_model_that_it_needs(loss, model, head):
    why = None
    if loss in COSINE and head != "cosine":
        why = f"loss {loss} sets margins between cosines; use it with head cosine"
    elif loss in MODEL and not model.startswith(loss):
        why = (
            f"loss {loss} is of several experts, which model {model} has not"
            if model == "resnet32"
            else f"use it with a model such as {loss}"
        )
    elif model.startswith("reslt") and head == "cosine":
        why = "one linear classifier for all branches; use it with head linear"
    if why is None:
        assert Stage1(loss=loss, model=model, head=head).loss == loss
        return
    with pytest.raises(Error, match=why):
        Stage1(loss=loss, model=model, head=head)


SMALL = {
    "resnet32": "resnet20",
    "ride3_resnet32": "ride2_resnet20_narrow",
    "reslt_resnet32": "reslt_resnet20",
}
# by what is a stage 1 of its own: the stage 2 that is tried on it
LEARN = {
    "dr": "mislas",
    "gcl": "crt",
    "ce": "lws",
    "focal": "tau",
    "cb": "mislas",
    "bsce": "crt",
    "la": "lws",
    "ldam_drw": "gcl",
    "ce_cmo": "mislas",
    "bsce_cmo": "tau",
    "ride": "gcl",
    "reslt": "mislas",
}


@pytest.mark.parametrize("name", LEARN)
def test_every_method_learns_and_takes_a_stage2(name, tmp_path):
    """Eight epochs of some 200 digits, where chance is 10 %."""
    stage1, _ = recipes.METHODS[name].at(100)
    small = dict(
        stage1_epochs=8, batch_size=32, crop_padding=1, flip=False, eval_every=8, warmup_epochs=1
    )
    config = dataclasses.replace(stage1, model=SMALL[stage1.model], **small)
    run, _ = digits_run(tmp_path / "run", imbalance_factor=10.0, n_max=40)
    result = train_stage1(run, config, progress=False)
    losses = [row["loss"] for row in Run(run).step("stage1").history()]
    assert result["last"]["all"] > 20, result["last"]
    assert losses[5] < 0.75 * losses[0], losses  # the last before classes are re-weighted
    method = LEARN[name]
    fused = (
        {"fusion_ratio": 0.0}
        if method == "tau"
        else {"fusion_ratio": 0.25, "stage2_mixup_alpha": 1.0 if method == "gcl" else 0.0}
    )
    config = Stage2(
        stage2_method=method,
        stage2_epochs=1,
        stage2_lr=0.01,
        scale_lr=0.01,
        batch_size=32,
        crop_padding=1,
        flip=False,
        bn_statistics="none",
        **fused,
    )
    after = train_stage2(run, config, "x", progress=False)
    assert np.isfinite(after["last"]["all"]) and after["last"]["all"] > 12
    assert isinstance(load_model(run, "stage2-x", "cpu").head, CosineHead) == (
        stage1.head == "cosine"
    )


def test_every_stage1_that_can_be_named_is_shown_to_learn():
    """Methods that share a stage 1 but for its width or its numbers are shown by one of them."""
    kinds = {
        n: (s.loss, s.head, s.drw_from, bool(s.mixup_alpha), s.cmo_probability)
        for n, s in ((n, m.at(100)[0]) for n, m in recipes.METHODS.items())
    }
    assert {kinds[n] for n in LEARN} == set(kinds.values()) and len(
        {kinds[n] for n in LEARN}
    ) == len(LEARN)
