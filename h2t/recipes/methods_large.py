"""The published protocols of the large sets, by the names of their sources in ``h2t.data``.

What is certain stands in the released settings of Kang et al. 2020 (decoupling; also used by Ren et
al. 2020, BALMS, for ResNet-10) or of MiSLAS (Zhong et al. 2021), on whose code the H2T reference is built: RandomResizedCrop to 224,
flip, colour jitter 0.4; a cosine without warm-up; epochs, rates, batch sizes and weight decays of stage 1; everything of MiSLAS'
stage 2. That the last block of the ResNet-152 begins anew on Places-LT is so in the released code of GCL (Li et al. 2022), by the
authors of H2T. Reconstruction: the H2T reference releases no settings for these sets. On CIFAR its stage 2 has the rate and epochs of
MiSLAS there, so it is given those of MiSLAS here, and the ratio of the paper, 0.3.
"""

from h2t.recipes.parameters import Stage1, Stage2

# Data by recipe: image_size 224, image_fit crop, loader streamed, profile natural.
_LARGE = dict(crop="resized", color_jitter=0.4, crop_padding=0)
_STAGE1 = dict(stage1_schedule="cosine", warmup_epochs=0, **_LARGE)
IMAGENET_LT = Stage1(
    model="resnet50",
    stage1_epochs=180,
    stage1_lr=0.1,
    batch_size=256,
    stage1_weight_decay=5e-4,
    mixup_alpha=0.2,
    **_STAGE1,
)  # MiSLAS
IMAGENET_LT_RESNET10 = Stage1(
    model="resnet10",
    stage1_epochs=90,
    stage1_lr=0.2,
    batch_size=512,
    stage1_weight_decay=5e-4,
    mixup_alpha=0.0,
    **_STAGE1,
)  # BALMS
INATURALIST2018 = Stage1(
    model="resnet50",
    stage1_epochs=200,
    stage1_lr=0.1,
    batch_size=256,
    stage1_weight_decay=1e-4,
    mixup_alpha=0.2,
    **_STAGE1,
)  # MiSLAS
PLACES_LT = Stage1(
    model="resnet152",
    pretrained="IMAGENET1K_V1",
    trainable="new_last_block",
    stage1_epochs=90,
    stage1_lr=0.1,
    batch_size=256,
    stage1_weight_decay=5e-4,
    mixup_alpha=0.2,
    **_STAGE1,
)


def _large(weight_decay: float, **more) -> Stage2:
    return Stage2(
        stage2_lr=0.005, batch_size=256, stage2_weight_decay=weight_decay, **_LARGE, **more
    )


_DECAYS = {"imagenet_lt": 5e-4, "inaturalist2018": 1e-4, "places_lt": 5e-4}
_SMOOTH = {"imagenet_lt": (0.3, 0.0), "inaturalist2018": (0.3, 0.0), "places_lt": (0.4, 0.1)}
MISLAS_LARGE = {
    k: _large(
        wd,
        stage2_method="mislas",
        smooth_head=_SMOOTH[k][0],
        smooth_tail=_SMOOTH[k][1],
        scale_lr=0.1,
        fused_branch="class_aware",
        bn_statistics="balanced",
        fusion_ratio=0.0,
    )
    for k, wd in _DECAYS.items()
}
DR_LARGE = {k: _large(wd, fusion_ratio=0.0, bn_statistics="balanced") for k, wd in _DECAYS.items()}
DR_H2T_LARGE = {k: _large(wd, fusion_ratio=0.3) for k, wd in _DECAYS.items()}
