"""methods.yaml holds the published settings."""

import pytest

from h2t.recipes import methods as recipes

BASE = dict(
    model="resnet32",
    head="linear",
    loss="ce",
    batch_size=128,
    stage1_weight_decay=2e-4,
    nesterov=False,
    rotation=0.0,
    drw_from=1.0,
    lr_factors=[0.1, 0.01],
    cmo_probability=0.0,
    fusion="swap",
    fusing_branch="instance",
    fusion_ratio=0.25,
)
LATE = dict(drw_from=0.8, lr_factors=[0.01, 0.0001], mixup_alpha=0.0)
DR = dict(
    stage2_method="crt",
    fused_branch="balanced",
    bn_statistics="both",
    stage2_epochs=10,
    stage2_lr=0.02,
    stage2_mixup_alpha=0.0,
)
EXPERTS = dict(head="cosine", loss="ride", nesterov=True, stage1_weight_decay=5e-4, rotation=15.0)
MISLAS = dict(
    mixup_alpha=1.0,
    stage2_method="mislas",
    fused_branch="class_aware",
    scale_lr=0.1,
    stage2_epochs=10,
    stage2_weight_decay=2e-4,
)
# typed off the papers and the projects' settings files, not off recipes.py
PUBLISHED = [
    ("dr", 200, dict(mixup_alpha=1.0, stage2_weight_decay=2e-4, **DR)),
    ("dr", 100, dict(mixup_alpha=1.0, stage2_weight_decay=5e-4, **DR)),
    ("dr", 50, dict(mixup_alpha=1.0, stage2_weight_decay=2e-4, **DR)),
    ("bsce", 100, dict(loss="bsce", mixup_alpha=0.0, **DR)),
    ("ldam_drw", 100, dict(loss="ldam", head="cosine", **LATE, **DR)),
    (
        "ce_cmo",
        50,
        dict(
            loss="ce",
            cmo_probability=0.5,
            cmo_branch="balanced",
            mixup_alpha=0.0,
            lr_factors=[0.01, 0.0001],
        ),
    ),
    (
        "bsce_cmo",
        100,
        dict(
            loss="bsce",
            cmo_probability=0.5,
            cmo_branch="balanced",
            mixup_alpha=0.0,
            lr_factors=[0.01, 0.0001],
        ),
    ),
    (
        "mislas",
        100,
        dict(**MISLAS, smooth_head=0.4, smooth_tail=0.1, stage2_lr=0.02, bn_statistics="both"),
    ),
    (
        "mislas",
        200,
        dict(**MISLAS, smooth_head=0.4, smooth_tail=0.1, stage2_lr=0.02, bn_statistics="both"),
    ),
    (
        "mislas",
        50,
        dict(**MISLAS, smooth_head=0.3, smooth_tail=0.0, stage2_lr=0.01, bn_statistics="both"),
    ),
    (
        "mislas",
        10,
        dict(**MISLAS, smooth_head=0.2, smooth_tail=0.0, stage2_lr=0.01, bn_statistics="both"),
    ),
    (
        "mislas_cifar10",
        100,
        dict(**MISLAS, smooth_head=0.3, smooth_tail=0.0, stage2_lr=0.05, bn_statistics="none"),
    ),
    (
        "mislas_cifar10",
        50,
        dict(**MISLAS, smooth_head=0.2, smooth_tail=0.0, stage2_lr=0.02, bn_statistics="none"),
    ),
    (
        "mislas_cifar10",
        10,
        dict(**MISLAS, smooth_head=0.1, smooth_tail=0.0, stage2_lr=0.02, bn_statistics="none"),
    ),
    (
        "gcl",
        100,
        dict(
            loss="gcl",
            head="cosine",
            batch_size=64,
            mixup_alpha=1.0,
            stage2_method="gcl",
            bn_statistics="none",
            stage2_mixup_alpha=1.0,
            stage2_epochs=30,
            stage2_lr=0.002,
            stage2_weight_decay=2e-4,
            fused_branch="effective_number",
        ),
    ),
    ("ride", 100, dict(model="ride3_resnet32", ride_diversity=-0.2, **EXPERTS, **LATE, **DR)),
    (
        "ride_narrow",
        100,
        dict(model="ride3_resnet32_narrow", ride_diversity=-0.45, **EXPERTS, **LATE, **DR),
    ),
    *(
        (
            "reslt",
            k,
            dict(
                model="reslt_resnet32",
                loss="reslt",
                reslt_beta=beta,
                reslt_from=[0.35, 0.7],
                nesterov=True,
                stage1_weight_decay=5e-4,
                mixup_alpha=0.0,
            ),
        )
        for k, beta in ((200, 0.995), (100, 0.995), (50, 0.99), (10, 0.72))
    ),
    *(
        (
            "reslt_cifar10",
            k,
            dict(
                model="reslt_resnet32",
                loss="reslt",
                reslt_beta=beta,
                reslt_from=[0.2, 0.4],
                nesterov=True,
                stage1_weight_decay=5e-4,
            ),
        )
        for k, beta in ((100, 0.998), (50, 0.998), (10, 0.96))
    ),
]


@pytest.mark.parametrize(("method", "factor", "published"), PUBLISHED)
def test_a_name_stands_for_the_published_settings(method, factor, published):
    got = recipes.settings(method, factor)
    for name, value in {**BASE, **published}.items():
        assert got[name] == value, name
