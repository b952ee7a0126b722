import pytest
import torch
from torch import nn

from h2t import Error, models
from h2t.models.heads import CosineHead


@pytest.mark.parametrize(
    ("name", "backbone", "total"),
    [
        ("resnet20", 269_072, 275_572),
        ("resnet32", 463_504, 470_004),
        ("resnet44", 657_936, 664_436),
        ("resnet56", 852_368, 858_868),
        ("resnet110", 1_727_312, 1_733_812),
    ],
)
def test_parameter_counts(name, backbone, total):
    blocks = (int(name[6:]) - 2) // 6
    by_hand = 3 * 16 * 9 + 2 * 16  # stem
    for i, width in enumerate((16, 32, 64)):
        for b in range(blocks):
            before = (16, 16, 32)[i] if b == 0 else width
            by_hand += 9 * before * width + 9 * width * width + 4 * width
    model = models.build(name, 100)
    assert models.num_parameters(model.backbone) == by_hand == backbone
    assert models.num_parameters(model) == by_hand + 64 * 100 + 100 == total


def test_resnet32_has_046_million_parameters():
    assert round(models.num_parameters(models.build("resnet32", 10)) / 1e6, 2) == 0.46


@pytest.mark.parametrize("size", [8, 9, 16, 28, 32, 45])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_from_8_and_both_channel_counts(size, channels):
    model = models.build("resnet20", 7, in_channels=channels)
    x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    half = (size + 1) // 2
    small = (half + 1) // 2
    assert model.backbone.maps(x).shape == (2, 64, small, small)
    assert torch.allclose(model.features(x), model.backbone.maps(x).mean((2, 3)), atol=1e-6)
    assert torch.allclose(model(x), model.head(model.features(x)))


def test_option_a_shortcut_subsamples_and_pads_with_zeros():
    block = models.cifar_resnet.BasicBlock(16, 32, 2)
    for m in block.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.zeros_(m.weight)
    x = torch.rand(1, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    out = block.eval()(x)
    want = torch.zeros(1, 32, 3, 3)
    for c in range(16):
        for i in range(3):
            for j in range(3):
                want[0, 8 + c, i, j] = x[0, c, 2 * i, 2 * j]
    assert torch.equal(out, want)


def test_initialisation_is_kaiming_normal_and_depends_on_the_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (
        models.build("resnet32", 100, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(state, torch.random.get_rng_state())
    for (name, p), q, r in zip(a.named_parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.equal(p, q)
        if p.dim() > 1:
            fan_in = p[0].numel()
            assert abs(p.std().item() / (2 / fan_in) ** 0.5 - 1) < 0.15, name
            assert not torch.equal(p, r)


def test_cosine_head_is_scaled_cosine():
    head = CosineHead(3, 2)
    head.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    z = torch.tensor([[3.0, 4.0, 0.0]])
    assert torch.allclose(head(z), torch.tensor([[30 * 0.6, 30 * 0.8]]))


@pytest.mark.parametrize("experts", [1, 3])
def test_rows_of_a_cosine_head_begin_at_length_1_in_every_expert(experts):
    head = CosineHead(12, 50, num_experts=experts)
    head.reset(torch.Generator().manual_seed(0))
    assert torch.allclose(
        head.weight.view(50, experts, -1).norm(dim=2), torch.ones(50, experts), atol=1e-6
    )
    assert head.weight.abs().min() < 0.05 and (head.weight.mean().abs() < 0.05)


def test_unknown_names_are_refused():
    with pytest.raises(Error, match="model is 'resnet33'; choose one of resnet20"):
        models.build("resnet33", 10)
    with pytest.raises(Error, match="head is 'mlp'"):
        models.build("resnet20", 10, head="mlp")
