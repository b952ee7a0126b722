"""ResNets for large images: torchvision's networks, weights to begin with, and a backbone of which
only the last block trains.
"""

import copy

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from h2t import Error, Stage1, models
from h2t.base.choices import IMAGENET_RESNETS
from h2t.models import weights as pretrained
from h2t.models.batchnorm import fold


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "features", "total"),
    [
        ("resnet10", 512, 5_418_792),
        ("resnet18", 512, 11_689_512),
        ("resnet34", 512, 21_797_672),
        ("resnet50", 2048, 25_557_032),
        ("resnet101", 2048, 44_549_160),
        ("resnet152", 2048, 60_192_808),
        ("resnext50", 2048, 25_028_904),
    ],
)
def test_parameter_counts_are_those_of_torchvision(name, features, total):
    with torch.device("meta"):
        model = models.Classifier(
            backbone := models.BACKBONES[name](), nn.Linear(backbone.num_features, 1000)
        )
        if name == "resnet10":  # torchvision's class, by the field's own depths
            theirs = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
        else:
            theirs = torchvision.models.get_model({"resnext50": "resnext50_32x4d"}.get(name, name))
    assert (
        backbone.num_features == features
        and models.num_parameters(model) == models.num_parameters(theirs) == total
    )
    shapes = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in backbone.state_dict().items()} == shapes
    assert name in IMAGENET_RESNETS and models.num_experts(name) == 1


def test_it_computes_what_torchvision_computes():
    model = models.build("resnet18", 7, generator=gen(1)).eval()
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    state = {
        k.replace("head.", "fc.").removeprefix("backbone."): v
        for k, v in model.state_dict().items()
    }
    theirs.load_state_dict(state)
    x = torch.rand(3, 3, 64, 72, generator=gen(2))
    with torch.no_grad():
        assert torch.allclose(model(x), theirs(x), atol=1e-5)
        maps = model.backbone.maps(x)
        assert maps.shape == (3, 512, 2, 3) and torch.allclose(maps.mean((2, 3)), model.features(x))
        assert torch.allclose(fold(model)(x), theirs(x), atol=1e-4)
        assert not [
            m for m in fold(model).modules() if isinstance(m, nn.BatchNorm2d)
        ]  # those of the shortcuts too


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 33])
def test_small_images_and_grey_ones_go_through_too(channels, size):
    model = models.build("resnet10", 5, in_channels=channels, head="cosine")
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 5)


def test_initialisation_is_torchvisions_and_depends_on_the_generator_alone():
    state = torch.random.get_rng_state()
    a, b = (models.build("resnet10", 100, generator=gen(1)) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    for name, module in a.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert abs(module.weight.std().item() / (2 / fan_out) ** 0.5 - 1) < 0.1, name
    bound = 512**-0.5
    assert 0.9 * bound < a.head.weight.abs().max() <= bound and a.head.bias.abs().max() <= bound


@pytest.mark.parametrize("name", ["resnet10", "resnet20"])
def test_only_the_last_block_trains_and_the_rest_stays_in_eval_mode(name):
    model = models.build(name, 5, generator=gen(1))
    models.freeze(model.backbone, "last_block")
    last = {"resnet10": "layer4.0.", "resnet20": "layer3.2."}[name]
    x = torch.rand(4, 3, 32, 32, generator=gen(2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    model(x).sum().backward()
    assert {k for k, p in model.backbone.named_parameters() if p.grad is not None} == {
        k for k, _ in model.backbone.named_parameters() if k.startswith(last)
    }
    followed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert followed == {
        f"backbone.{k}" for k, _ in model.backbone.named_buffers() if k.startswith(last)
    }  # running statistics
    twin = copy.deepcopy(model)
    assert (
        not twin.train().backbone.bn1.training
        and twin.head.training
        and not twin.eval().head.training
    )
    assert torch.allclose(fold(model)(x), model.eval()(x), atol=1e-4)
    models.freeze(twin.backbone, "all")
    assert not twin.train().backbone.bn1.training  # nothing is thawed


def weights(name="resnet10", classes=9, seed=3):
    model = models.build(name, classes, generator=gen(seed))
    return {
        k.replace("head.", "fc.").removeprefix("backbone."): v
        for k, v in model.state_dict().items()
    }


@pytest.mark.parametrize("how", ["pth", "module", "nested", "safetensors", "old"])
def test_weights_of_a_file_are_loaded_without_their_classifier(tmp_path, how):
    state, path = weights(), tmp_path / ("w.safetensors" if how == "safetensors" else "w.pth")
    if how == "safetensors":
        save_file(state, path)
    elif how == "module":
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    elif how == "nested":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        torch.save({k: v for k, v in state.items() if how != "old" or "num_batches" not in k}, path)
    model = models.build("resnet10", 5, generator=gen(1))
    head = model.head.weight.clone()
    models.load_pretrained(model.backbone, "resnet10", str(path))
    assert all(torch.equal(v, state[k]) for k, v in model.backbone.state_dict().items())
    assert torch.equal(model.head.weight, head)


def test_a_new_last_block_keeps_its_initialisation(tmp_path):
    torch.save(weights(), tmp_path / "w.pth")
    model, fresh = (models.build("resnet10", 5, generator=gen(1)) for _ in range(2))
    models.load_pretrained(model.backbone, "resnet10", str(tmp_path / "w.pth"), "new_last_block")
    for (k, a), b in zip(
        model.backbone.named_parameters(), fresh.backbone.parameters(), strict=True
    ):
        assert a.dim() == 1 or torch.equal(a, b) == k.startswith("layer4.0."), k


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {**weights(), "conv1.weight": Evil()},
            "was refused: it holds .*print, which is code",
        ),
        ({"a": 3}, "is not a dictionary of tensors"),
        ([1], "is not a dictionary of tensors"),
        (weights("resnet18"), "is of another network: resnet10 has no layer1.1"),
        (
            weights("resnet20"),
            r"is of another network: conv1.weight is \(16, 3, 3, 3\) where resnet10 has \(64, 3, "
            r"7, 7\)",
        ),
        (
            {k: v for k, v in weights().items() if k != "layer2.0.bn1.bias"},
            "layer2.0.bn1.bias is missing",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(Error, match=message):
        models.load_pretrained(
            models.build("resnet10", 5).backbone, "resnet10", str(tmp_path / "w.pth")
        )


def test_missing_and_damaged_files_and_unknown_names_are_refused(tmp_path):
    backbone = models.build("resnet10", 5).backbone
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    for given, message in (
        (
            tmp_path / "none.pth",
            "none.pth does not exist; name a file of weights, or torchvision's",
        ),
        (tmp_path / "w.pth", "is damaged .it is cut short, or torch.save did not"),
        (tmp_path / "w.safetensors", "w.safetensors is damaged"),
        ("IMAGENET1K_V1", "torchvision has no weights for resnet10, or name a file"),
    ):
        with pytest.raises(Error, match=message):
            models.load_pretrained(backbone, "resnet10", str(given))
    with pytest.raises(
        Error,
        match="pretrained is 'IMAGENET1K_V9'; torchvision has IMAGENET1K_V1, IMAGENET1K_V2 for "
        "resnet152",
    ):
        pretrained._download("resnet152", "IMAGENET1K_V9")


def test_torchvisions_weights_come_by_name_or_say_where_they_belong(monkeypatch):
    """The download itself is torchvision's; what it brings is replaced here, and so is a network
    that is not there.
    """
    from torchvision.models import ResNet18_Weights

    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **how: state)
    model = models.build("resnet18", 5)
    models.load_pretrained(model.backbone, "resnet18", "IMAGENET1K_V1")
    assert torch.equal(model.backbone.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])

    def unreachable(self, **how):
        raise OSError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", unreachable)
    with pytest.raises(
        Error,
        match=r"could not be downloaded \(no route to host\); get the file resnet18-\w+.pth "
        r"elsewhere and set pretrained to its path",
    ):
        models.load_pretrained(model.backbone, "resnet18", "IMAGENET1K_V1")


def test_what_does_not_go_together_is_refused():
    with pytest.raises(
        Error, match="trainable last_block leaves most of the backbone as it begins; name weights"
    ):
        Stage1(model="resnet50", trainable="last_block")
    with pytest.raises(
        Error,
        match="trainable last_block is for backbones with one last block, which ride3_resnet32 has "
        "not",
    ):
        Stage1(
            model="ride3_resnet32",
            loss="ride",
            head="cosine",
            trainable="last_block",
            pretrained="x.pth",
        )
