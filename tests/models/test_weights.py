"""The layouts of weights that this field has, and what is none."""

import numpy as np
import pytest
import torch

from h2t import Error, models
from h2t.exchange.reference import read_checkpoint
from h2t.models.weights import read_weights

SEED = torch.Generator().manual_seed(3)
NETWORK = models.build("resnet20", 7, in_channels=1, generator=SEED)
FACTORS = torch.linspace(0.5, 2, 7)


def plain(head="fc", prefix=""):
    """The network as a plain state dict, its classifier called ``head``."""
    state = {f"{prefix}{k}": v for k, v in NETWORK.backbone.state_dict().items()}
    return state | {f"{prefix}{head}.{k}": v for k, v in NETWORK.head.state_dict().items()}


def parts(prefix="module."):
    return {
        "state_dict_model": {f"{prefix}{k}": v for k, v in NETWORK.backbone.state_dict().items()},
        "state_dict_classifier": {
            f"{prefix}fc.{k}": v for k, v in NETWORK.head.state_dict().items()
        },
    }


LAYOUTS = {
    "H2T": {**parts(), "epoch": 200, "best_acc1": torch.tensor([4.0]), "its_ece": np.float64(1)},
    "MiSLAS, stage 1": {**parts(), "epoch": 200, "best_acc1": torch.tensor(4.0)},
    "decoupling": {
        "epoch": 90,
        "best_epoch": 89,
        "best_acc": 0.5,
        "centroids": None,
        "state_dict_best": {
            "feat_model": parts()["state_dict_model"],
            "classifier": parts()["state_dict_classifier"],
        },
    },
    "LDAM-DRW": {"epoch": 3, "arch": "r", "state_dict": plain("linear", "module."), "best_acc1": 4},
    "plain": plain(),
    "DataParallel": plain("fc", "module."),
    "backbone.": plain("classifier", "backbone."),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_known_layouts_are_read(tmp_path, layout):
    torch.save(LAYOUTS[layout], tmp_path / "c.pth")
    content = read_checkpoint(tmp_path / "c.pth")
    assert (content["model"], content["head"], content["num_classes"]) == ("resnet20", "linear", 7)
    want = NETWORK.state_dict()
    assert content["weights"].keys() == want.keys()
    assert all(torch.equal(content["weights"][k], v) for k, v in want.items())
    begun = models.build("resnet20", 3, in_channels=1)
    models.load_pretrained(begun.backbone, "resnet20", str(tmp_path / "c.pth"))
    assert torch.equal(begun.backbone.conv1.weight, NETWORK.backbone.conv1.weight)


def test_the_factors_of_mislas_are_folded_into_its_classifier(tmp_path):
    lws = {"module.learned_norm": FACTORS[None]}
    torch.save({**parts(), "state_dict_lws_model": lws}, tmp_path / "c.pth.tar")
    weights = read_checkpoint(tmp_path / "c.pth.tar")["weights"]
    z = torch.randn(5, 64, generator=SEED)
    got = torch.nn.functional.linear(z, weights["head.weight"], weights["head.bias"])
    assert torch.allclose(got, FACTORS * NETWORK.head(z), atol=1e-5)


def test_the_normalised_classifier_of_ldam_is_a_cosine_head(tmp_path):
    """Its weight is (features, classes); its logits are cosines, which the loss scales."""
    w = torch.randn(64, 7, generator=SEED)
    state = {k: v for k, v in plain("linear").items() if not k.startswith("linear.")}
    torch.save({"state_dict": {**state, "linear.weight": w}}, tmp_path / "c.pth.tar")
    content = read_checkpoint(tmp_path / "c.pth.tar")
    model = models.build("resnet20", 7, head=content["head"], in_channels=1)
    model.load_state_dict(content["weights"])
    z = torch.randn(5, 64, generator=SEED)
    cosine = torch.nn.functional.normalize(z) @ torch.nn.functional.normalize(w, dim=0)
    assert torch.allclose(model.head(z), 30 * cosine, atol=1e-4)


HUGE = torch.zeros(1, 64).expand(10**9, 64)
QUANTISED = torch._empty_affine_quantized([7, 64], scale=0.1, zero_point=0, dtype=torch.qint8)
WILD = {
    "epoch is nan": {"epoch": float("nan")},
    "epoch is inf": {"epoch": float("inf")},
    "best_acc1 is nan": {"best_acc1": torch.tensor(float("nan"))},
    "not a dictionary of tensors": {"state_dict_classifier": {1: torch.zeros(7, 64)}},
    "fc.weight is \\(1000000000, 64\\), of which": {"state_dict_classifier": {"fc.weight": HUGE}},
    "0 classes": {"state_dict_classifier": {"fc.weight": torch.zeros(0, 64)}},
    "quantised": {"state_dict_classifier": {"fc.weight": QUANTISED}},
    "complex64, where weights are float": {
        "state_dict_classifier": {"fc.weight": torch.zeros(7, 64, dtype=torch.complex64)}
    },
    "int64, where weights are float": {
        "state_dict_classifier": {"fc.weight": torch.zeros(7, 64, dtype=torch.int64)}
    },
    "holds NaN": {"state_dict_classifier": {"fc.weight": torch.full((7, 64), float("nan"))}},
    "no classifier; .*pretrained": {"state_dict_classifier": {}},
    "another model": {"state_dict_model": {"conv1.weight": torch.zeros(16, 0, 3, 3)}},
    "no known layout": {"surprise": 1},
}


@pytest.mark.parametrize("message", WILD)
def test_wild_checkpoints_are_named(tmp_path, message):
    torch.save({**parts(), **WILD[message]}, tmp_path / "c.pth.tar")
    with pytest.raises(Error, match=f"c.pth.tar.*{message}"):
        read_checkpoint(tmp_path / "c.pth.tar")


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("protocol", "message"), [(2, "holds .*print, which is code"), (4, "no file that torch.save")]
)
def test_one_that_holds_code_is_named_as_such(tmp_path, capsys, protocol, message):
    torch.save({**parts(), "epoch": Evil()}, tmp_path / "c.pt", pickle_protocol=protocol)
    with pytest.raises(Error, match=message):
        read_weights(tmp_path / "c.pt")
    assert "code ran" not in capsys.readouterr().out
