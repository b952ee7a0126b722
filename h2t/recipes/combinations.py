"""What does not go together: values that are fine by themselves, refused before any work.

All but ``settled`` raise ``h2t.Error``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from h2t.base.choices import CIFAR_RESNETS, IMAGENET_RESNETS, LEARNED_SCALE
from h2t.base.errors import Error
from h2t.losses import EXPERT_LOSSES

COSINE_LOSSES = ("ldam", "gcl", "ride")  # they set margins between cosines


def check_schedule(stage1) -> None:
    """Lists of stage 1 that belong together, and mixing of images."""
    shares, begins = list(stage1.decay_at), list(stage1.reslt_from)
    if len(shares) != len(stage1.lr_factors) or shares != sorted(shares):
        raise Error("decay_at and lr_factors must be lists of one length, decay_at ascending")
    if len(begins) != 2 or begins != sorted(begins):
        raise Error(f"reslt_from is {begins}; it must be two shares of the classes, ascending")
    if stage1.cmo_probability and stage1.mixup_alpha:
        raise Error("CMO and mixup both mix every image; set mixup_alpha or cmo_probability to 0")


def check_network(stage1) -> None:
    """A loss has the head and the model that it needs."""
    loss, model, head = stage1.loss, stage1.model, stage1.head
    if loss in COSINE_LOSSES and head != "cosine":
        raise Error(f"loss {loss} sets margins between cosines; use it with head cosine")
    if loss in EXPERT_LOSSES and not model.startswith(loss):
        like = {"ride": "ride3_resnet32", "reslt": "reslt_resnet32"}[loss]
        raise Error(
            f"loss {loss} is of several experts, which model {model} has not; use it with a model "
            f"such as {like}"
        )
    if model.startswith("reslt") and head != "linear":
        raise Error(
            f"model {model} has one linear classifier for all branches; use it with head linear"
        )
    if stage1.trainable == "all":
        return
    if not stage1.pretrained:
        raise Error(
            f"trainable {stage1.trainable} leaves most of the backbone as it begins; name weights "
            "to begin with as pretrained, or set trainable to all"
        )
    if model not in (*CIFAR_RESNETS, *IMAGENET_RESNETS):
        raise Error(
            f"trainable {stage1.trainable} is for backbones with one last block, which {model} has "
            "not; set trainable to all"
        )


def check_stage2(stage2) -> None:
    """A method of stage 2 and what it trains."""
    method = stage2.stage2_method
    if method == "tau" and stage2.fusion_ratio:
        raise Error(
            "method tau trains nothing, so there is nothing to fuse at ratio "
            f"{stage2.fusion_ratio:g}; set fusion_ratio to 0"
        )
    if method in ("tau", "lws") and stage2.reinitialise_head:
        raise Error(
            f"method {method} keeps the classifier of stage 1; set reinitialise_head to false, or "
            "stage2_method to crt"
        )


def check_method(method: str, head: str) -> None:
    """A method of stage 2 makes sense on stage 1's kind of head."""
    if method == "gcl" and head != "cosine":
        raise Error("method gcl lowers cosines; use a stage 1 with head cosine (and loss gcl)")
    if head == "cosine" and method in (*LEARNED_SCALE, "tau"):
        raise Error(
            f"method {method} changes the lengths of the classifier's rows, which a cosine head "
            "ignores; use stage2_method crt, or a stage 1 with head linear"
        )


def settled(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without what makes no sense for them: an encoder is frozen, its batch norm too,
    so that there is nothing to tell apart by BN statistics and no exact stage 2 beside the cached.
    """
    encoder = parameters.get("encoder")
    if not encoder:
        return dict(parameters)
    settled = {**parameters, "bn_statistics": "none", "control": False, "compare_seeds": 0}
    if encoder.startswith("features:"):  # its file stands for the images
        settled |= {"source": "features", "root": encoder.removeprefix("features:")}
    return settled


def check_together(parameters: Mapping[str, Any]) -> None:
    """Parameters of different steps."""
    if "head" in parameters:
        check_method(parameters.get("stage2_method", "crt"), parameters["head"])
    if parameters.get("crop") == "resized" and parameters.get("loader") == "resident":
        raise Error(
            "crop resized cuts from the image files, which loader resident decodes beforehand; set "
            "loader to streamed, or crop to padded"
        )
    if parameters.get("source") == "features" and not parameters.get("encoder"):
        raise Error("source features has no images; name its file as encoder features:FILE.npz")
    if parameters.get("objective") and not parameters.get("encoder"):
        raise Error("objective chooses a head on an encoder's features; set encoder to lite0")
    if parameters.get("control") and parameters.get("bn_statistics") == "none":
        raise Error("control compares BN statistics, but bn_statistics is none; set it to both")
