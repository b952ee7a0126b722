"""Names of steps: what the field calls them."""

import pytest

from h2t.recipes import methods as recipes
from h2t.recipes.names import first_stage, method_of, order, place

PUBLISHED = {  # method: stage 1, stage 2 without fusion, with it
    "dr": ("stage 1", "DR", "DR + H2T"),
    "ce": ("stage 1", "DR", "DR + H2T"),
    "mislas": ("stage 1", "MiSLAS", "MiSLAS + H2T"),
    "lws": ("stage 1", "LWS", "LWS + H2T"),
    "gcl": ("GCL, stage 1", "GCL", "GCL + H2T"),
    "ride": ("RIDE", "RIDE + DR", "RIDE + H2T"),
    "reslt": ("ResLT", "ResLT + DR", "ResLT + H2T"),
    "ldam_drw": ("LDAM-DRW", "LDAM-DRW + DR", "LDAM-DRW + H2T"),
    "ce_cmo": ("CE + CMO", "CE + CMO + DR", "CE + CMO + H2T"),
    "bsce_cmo": ("BSCE + CMO", "BSCE + CMO + DR", "BSCE + CMO + H2T"),
    "focal": ("Focal", "Focal + DR", "Focal + H2T"),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_steps_of_a_method_have_the_names_of_the_published_table(method):
    stage1, stage2 = (s.to_dict() for s in recipes.METHODS[method].at(100))
    plain = {**stage2, "fusion_ratio": 0.0, "bn_statistics": "balanced"}
    names = [
        method_of(stage, params, stage1=stage1)
        for stage, params in ((1, stage1), (2, plain), (2, stage2))
    ]
    assert tuple(names) == PUBLISHED[method]


def test_other_mixtures_are_named_after_both_stages_and_a_new_loss_after_itself():
    ride = recipes.METHODS["ride"].at(100)[0].to_dict()
    for params, stage1, name in (
        ({"bn_statistics": "both"}, ride, "RIDE + DR, BN sees both"),
        ({"fusion_ratio": 0.3, "fusion": "noise"}, ride, "RIDE + noise"),
        ({"stage2_method": "mislas", "fusion_ratio": 0.3}, {"loss": "bsce"}, "BSCE + MiSLAS + H2T"),
        ({"stage2_method": "gcl"}, {"loss": "ldam"}, "LDAM + GCL"),
    ):
        assert method_of(2, params, stage1=stage1) == name
    assert (
        first_stage({"loss": "sqrt", "drw_from": 0.8, "cmo_probability": 0.5}) == "sqrt-DRW + CMO"
    )
    assert first_stage({}) == ""  # imported


def test_steps_of_a_kind_stand_together_in_the_order_of_a_run():
    right = [
        "stage 1",
        "DR",
        "DR, BN sees both",
        "DR + H2T",
        "BSCE + CMO",
        "BSCE + CMO + DR",
        "BSCE + CMO + DR, BN sees both",
        "BSCE + CMO + H2T",
        "GCL, stage 1",
        "GCL",
        "GCL + H2T",
        "MiSLAS",
        "MiSLAS, BN sees both",
        "MiSLAS + H2T",
        "RIDE",
        "RIDE + DR",
        "RIDE + H2T",
    ]
    assert sorted(reversed(right), key=order) == right
    assert {place(m)[0] for m in right[8:11]} == {"GCL"} and place("RIDE + DR, BN sees both")[
        0
    ] == "RIDE"
