"""A captured update against the one computed operation by operation: on the CPU with a stand-in for
CUDA graphs that keeps their rules (capturing computes nothing, a replay reads fixed inputs), and on
a GPU, where there is one, with the graphs themselves."""

import copy

import numpy as np
import pytest
import torch

from h2t import models
from h2t.data.resident import Resident
from h2t.data.split import Split
from h2t.recipes.parameters import Stage1, Stage2
from h2t.train import device as stepping
from h2t.train import stage1, stage2
from h2t.train.update import Update

N, CLASSES = 70, 5  # batches of 32, 32 and 6
TINY = dict(batch_size=32, crop_padding=1, seed=3)


def stand_in(captured: list | None = None):
    def capture(work):
        loss = torch.full((), float("nan"))
        if captured is not None:
            captured.append(loss)
        return loss, lambda: loss.copy_(work())

    return capture


def images(device="cpu"):
    r = np.random.default_rng(0)
    labels = np.sort(np.concatenate([np.arange(CLASSES), r.integers(0, CLASSES, N - CLASSES)]))
    return Resident(
        Split(r.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8), labels, tuple("abcde"), None),
        (0.5,) * 3,
        (0.2,) * 3,
        device,
        1,
    )


def train(stage: int, config, capture, epochs=(1, 2), model=None, state=None, device="cpu"):
    """Some epochs of a stage, its model and optimiser; ``state`` of the optimiser to go on from."""
    device, data = torch.device(device), images(device)
    labels = data.labels.cpu()
    counts = torch.bincount(data.labels)
    drawing = getattr(config, "stage2_method", "") == "gcl"
    head = getattr(config, "head", "cosine" if drawing else "linear")
    model = stepping.to_device(model or models.build("resnet20", CLASSES, head=head), device)
    if stage == 2:
        model.backbone.requires_grad_(False)
    trained = model.parameters() if stage == 1 else model.head.parameters()
    optimizer = stepping.sgd(trained, 0.1, 0.9, 1e-3)
    if state:
        optimizer.load_state_dict(state)
    parts = (counts, config, device) if stage == 1 else (counts, None, config, device)
    update = Update(
        (stage1 if stage == 1 else stage2).objective(model, *parts),
        model,
        optimizer,
        device,
        capture=capture,
    )
    losses = []
    for epoch in epochs:
        stepping.set_lr(optimizer, 0.05 / epoch)
        losses.append(
            stage1._epoch(update, data, labels, counts, config, epoch)
            if stage == 1
            else stage2._epoch(update, data, labels, config, epoch)
        )
    return torch.cat(losses), model, optimizer, update


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


RECIPES = [
    (1, Stage1(**TINY)),
    (
        1,
        Stage1(
            mixup_alpha=0.0, loss="ldam", head="cosine", drw_from=0.005, stage1_epochs=200, **TINY
        ),
    ),  # weights from epoch 2 on
    (1, Stage1(mixup_alpha=0.0, cmo_probability=0.5, stage1_epochs=20, **TINY)),
    (2, Stage2(**TINY)),
    (2, Stage2(bn_statistics="balanced", fusion="mixup", fusing_branch="reversed", **TINY)),
    (2, Stage2(fusion_ratio=0.0, bn_statistics="none", **TINY)),
    (1, Stage1(loss="gcl", head="cosine", **TINY)),  # draws twice a batch
    (2, Stage2(stage2_method="gcl", fusion="noise", stage2_mixup_alpha=1.0, **TINY)),
]


@pytest.mark.parametrize("stage, config", RECIPES)
def test_captured_and_eager_end_with_the_same_weights_bit_for_bit(stage, config):
    epochs = (4, 5, 6) if getattr(config, "cmo_probability", 0) else (1, 2)
    captured = []
    losses, model, _, update = train(stage, config, stand_in(captured), epochs)
    expected, other, _, eager = train(stage, config, None, epochs)
    assert (update.kind, eager.kind) == ("graph", "eager")
    assert torch.equal(losses, expected) and same(model, other)
    # a graph for each shape of batch, and for batches with and without class weights or pasted
    # patches
    assert len(captured) == len(update.graphs) and len(captured) >= 2


def test_one_graph_for_full_batches_and_one_for_the_last():
    captured = []
    train(1, Stage1(**TINY), stand_in(captured))
    assert len(captured) == 2


def test_what_cannot_be_captured_is_computed_operation_by_operation():
    def refuse(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.warns(UserWarning, match="cannot be captured .* not permitted"):
        losses, model, _, update = train(1, Stage1(**TINY), refuse)
    expected, other, _, _ = train(1, Stage1(**TINY), None)
    assert torch.equal(losses, expected) and same(model, other) and update.kind == "eager"


@pytest.mark.parametrize(
    "first, then", [("graph", "eager"), ("eager", "graph"), ("graph", "graph")]
)
def test_a_checkpoint_of_one_kind_is_gone_on_with_by_the_other(first, then, tmp_path):
    kinds = {"graph": stand_in(), "eager": None}
    _, model, optimizer, _ = train(1, Stage1(**TINY), kinds[first], epochs=(1,))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    _, resumed, _, _ = train(
        1, Stage1(**TINY), kinds[then], epochs=(2,), model=copy.deepcopy(model), state=state
    )
    _, whole, _, _ = train(1, Stage1(**TINY), None, epochs=(1, 2))
    assert same(resumed, whole)


def test_on_the_cpu_and_where_it_is_turned_off_nothing_is_captured(monkeypatch):
    model = models.build("resnet20", CLASSES)

    def kind(device, **how):
        return Update(
            lambda: None, model, stepping.sgd(model.parameters(), 0.1, 0.9, 0.0), device, **how
        ).kind

    assert kind(torch.device("cpu")) == "eager"
    assert kind(torch.device("cpu"), capture=stand_in(), capturable=False) == "eager"
    monkeypatch.setenv("H2T_EAGER", "1")
    assert kind(torch.device("cuda")) == "eager"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("stage, config", RECIPES)
def test_graphs_and_eager_agree_after_a_hundred_steps_on_a_gpu(stage, config, monkeypatch):
    from h2t.train.update import cuda_graph

    monkeypatch.setenv("H2T_EAGER", "1")  # for the run that names no capture
    config = type(config)(**{**config.to_dict(), "precision": "fp32"})
    epochs = range(5, 40) if getattr(config, "cmo_probability", 0) else range(1, 36)
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        losses, model, _, update = train(
            stage, config, cuda_graph(torch.device("cuda")), epochs, device="cuda"
        )
        expected, other, _, _ = train(stage, config, None, epochs, device="cuda")
    assert update.kind == "graph"
    assert torch.allclose(losses, expected, rtol=1e-3, atol=1e-3)
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), rtol=1e-2, atol=1e-3), name
