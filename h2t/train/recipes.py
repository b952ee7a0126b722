"""The published protocols as named constants: CIFAR-100-LT with ResNet-32 unless said.

The large sets, at the end: what is certain stands in the released settings of Kang et al. 2020 (decoupling; also used by Ren et
al. 2020, BALMS, for ResNet-10) or of MiSLAS (Zhong et al. 2021), on whose code the H2T reference is built: RandomResizedCrop to 224,
flip, colour jitter 0.4; a cosine without warm-up; epochs, rates, batch sizes and weight decays of stage 1; everything of MiSLAS'
stage 2. That the last block of the ResNet-152 begins anew on Places-LT is so in the released code of GCL (Li et al. 2022), by the
authors of H2T. Reconstruction: the H2T reference releases no settings for these sets. On CIFAR its stage 2 has the rate and epochs of
MiSLAS there, so it is given those of MiSLAS here, and the ratio of the paper, 0.3.
"""

from h2t.train.config import Stage1, Stage2

# Stage 1, the reference's released settings (5e-4 is its recommendation).
CE = Stage1(mixup_alpha=0.0)
CE_MIXUP = Stage1()
CE_MIXUP_WD5 = Stage1(stage1_weight_decay=5e-4)
FOCAL = Stage1(loss="focal", mixup_alpha=0.0)
CLASS_BALANCED = Stage1(loss="cb", mixup_alpha=0.0)
BSCE = Stage1(loss="bsce", mixup_alpha=0.0)
LOGIT_ADJUSTMENT = Stage1(loss="la", mixup_alpha=0.0)
LDAM_DRW = Stage1(loss="ldam", head="cosine", drw_from=0.8, lr_factors=(0.01, 0.0001), mixup_alpha=0.0)
GCL = Stage1(loss="gcl", head="cosine", batch_size=64)
CE_CMO = Stage1(mixup_alpha=0.0, cmo_probability=0.5)
BSCE_CMO = Stage1(loss="bsce", mixup_alpha=0.0, cmo_probability=0.5)
# Deviation from RIDE's settings: no random rotation of 15 degrees. Narrow is its reduced width, of which its paper reports.
_RIDE = dict(head="cosine", loss="ride", drw_from=0.8, lr_factors=(0.01, 0.0001), mixup_alpha=0.0, nesterov=True, stage1_weight_decay=5e-4)
RIDE = Stage1(model="ride3_resnet32", ride_diversity=-0.2, **_RIDE)
RIDE_NARROW = Stage1(model="ride3_resnet32_narrow", ride_diversity=-0.45, **_RIDE)
# by imbalance factor
RESLT = {
    k: Stage1(model="reslt_resnet32", loss="reslt", reslt_beta=beta, mixup_alpha=0.0, nesterov=True, stage1_weight_decay=5e-4)
    for k, beta in ((100, 0.995), (50, 0.99))
}

# Stage 2. Each can be had with H2T: set fusion_ratio, and bn_statistics to both.
DR = Stage2(fusion_ratio=0.0, bn_statistics="balanced")
DR_H2T = Stage2(fusion_ratio=0.25)
DR_H2T_PAPER = Stage2(fusion_ratio=0.3)
LWS = Stage2(stage2_method="lws", fusion_ratio=0.0, bn_statistics="balanced")
LWS_H2T = Stage2(stage2_method="lws")
TAU_NORM = Stage2(stage2_method="tau", fusion_ratio=0.0, bn_statistics="none")
# batch size and weight decay as in its stage 1
GCL_STAGE2 = Stage2(
    stage2_method="gcl", fusion_ratio=0.0, fused_branch="effective_number", bn_statistics="none", stage2_mixup_alpha=1.0,
    stage2_epochs=30, stage2_lr=0.002, stage2_weight_decay=2e-4, batch_size=64,
)  # fmt: skip


def _mislas(smooth_head: float, smooth_tail: float, factor: float, bn_statistics: str) -> Stage2:
    """MiSLAS (Zhong et al. 2021): the classifier's rate is 0.1 times ``factor``; its stage 1 is ``CE_MIXUP_WD5``."""
    return Stage2(
        stage2_method="mislas", smooth_head=smooth_head, smooth_tail=smooth_tail, stage2_lr=round(0.1 * factor, 6), scale_lr=0.1,
        fused_branch="class_aware", bn_statistics=bn_statistics, fusion_ratio=0.0,
    )  # fmt: skip


# by imbalance factor
MISLAS = {100: _mislas(0.4, 0.1, 0.2, "balanced"), 50: _mislas(0.3, 0.0, 0.1, "balanced"), 10: _mislas(0.2, 0.0, 0.1, "balanced")}
MISLAS_CIFAR10 = {100: _mislas(0.3, 0.0, 0.5, "none"), 50: _mislas(0.2, 0.0, 0.2, "none"), 10: _mislas(0.1, 0.0, 0.2, "none")}

# The large sets by source name; data by recipe: image_size 224, image_fit crop, loader streamed, profile natural.
_LARGE = dict(crop="resized", color_jitter=0.4, crop_padding=0)
_STAGE1 = dict(stage1_schedule="cosine", warmup_epochs=0, **_LARGE)
IMAGENET_LT = Stage1(model="resnet50", stage1_epochs=180, stage1_lr=0.1, batch_size=256, stage1_weight_decay=5e-4, mixup_alpha=0.2, **_STAGE1)  # MiSLAS
IMAGENET_LT_RESNET10 = Stage1(model="resnet10", stage1_epochs=90, stage1_lr=0.2, batch_size=512, stage1_weight_decay=5e-4, mixup_alpha=0.0, **_STAGE1)  # BALMS
INATURALIST2018 = Stage1(model="resnet50", stage1_epochs=200, stage1_lr=0.1, batch_size=256, stage1_weight_decay=1e-4, mixup_alpha=0.2, **_STAGE1)  # MiSLAS
PLACES_LT = Stage1(
    model="resnet152", pretrained="IMAGENET1K_V1", trainable="new_last_block", stage1_epochs=90, stage1_lr=0.1, batch_size=256,
    stage1_weight_decay=5e-4, mixup_alpha=0.2, **_STAGE1,
)  # fmt: skip


def _large(weight_decay: float, **more) -> Stage2:
    return Stage2(stage2_lr=0.005, batch_size=256, stage2_weight_decay=weight_decay, **_LARGE, **more)


_DECAYS = {"imagenet_lt": 5e-4, "inaturalist2018": 1e-4, "places_lt": 5e-4}
_SMOOTH = {"imagenet_lt": (0.3, 0.0), "inaturalist2018": (0.3, 0.0), "places_lt": (0.4, 0.1)}
MISLAS_LARGE = {
    k: _large(wd, stage2_method="mislas", smooth_head=_SMOOTH[k][0], smooth_tail=_SMOOTH[k][1], scale_lr=0.1, fused_branch="class_aware", bn_statistics="balanced", fusion_ratio=0.0)
    for k, wd in _DECAYS.items()
}  # fmt: skip
DR_LARGE = {k: _large(wd, fusion_ratio=0.0, bn_statistics="balanced") for k, wd in _DECAYS.items()}
DR_H2T_LARGE = {k: _large(wd, fusion_ratio=0.3) for k, wd in _DECAYS.items()}
