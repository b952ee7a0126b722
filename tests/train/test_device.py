"""What holds on a GPU, tested without one: which is taken, what fp32 is, how a capture ends."""

import contextlib
import os
import types

import numpy as np
import pytest
import torch

from h2t import Error, models
from h2t.data import augment
from h2t.train import evaluate
from h2t.train import update as updating
from h2t.train.device import pick_device


@pytest.fixture
def two_gpus(monkeypatch):
    """torch says that it sees two GPUs; what is set for them is put back afterwards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32
    yield
    cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


def test_tests_see_no_gpu_unless_they_are_asked_to():
    asked = os.environ.get("H2T_TEST_GPU", "0") not in ("", "0")
    assert asked or (os.environ["CUDA_VISIBLE_DEVICES"] == "" and not torch.cuda.is_available())


def test_a_gpu_that_is_not_there_is_refused(two_gpus):
    assert pick_device("auto").type == "cuda" and pick_device("cuda:1").index == 1
    with pytest.raises(Error, match="device is 'cuda:2', but torch sees 2 here, counted from 0"):
        pick_device("cuda:2")


@pytest.mark.parametrize("device", ["tpu9", "meta", "mps"])
def test_other_devices_are_refused(device):
    with pytest.raises(Error, match=f"device is '{device}'; use auto, cpu or cuda"):
        pick_device(device)


def test_fp32_on_a_gpu_is_not_tf32(two_gpus):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    pick_device("cpu")
    assert torch.backends.cudnn.allow_tf32  # nothing is set for a device that is not used
    pick_device("cuda")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_algorithms_are_a_switch(two_gpus, monkeypatch):
    monkeypatch.setenv("H2T_DETERMINISTIC", "1")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    pick_device("cuda")
    assert torch.backends.cudnn.deterministic and torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with updating._fastest():
        assert not torch.backends.cudnn.benchmark


def test_cudnn_tries_its_kernels_for_a_capture_alone():
    with updating._fastest():
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark


class Streams:
    """In place of CUDA's streams and graphs: which is current, and what was called, in order."""

    def __init__(self, monkeypatch):
        self.current, self.calls = "default", []
        for name, stand_in in {
            "Stream": lambda device: types.SimpleNamespace(
                device=device, wait_stream=lambda other: self.calls.append("wait")
            ),
            "current_stream": lambda device: types.SimpleNamespace(
                wait_stream=lambda other: self.calls.append("wait back")
            ),
            "stream": self.entered,
            "synchronize": lambda device: None,
            "graph_pool_handle": lambda: (0, 1),
            "CUDAGraph": lambda: self,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    @contextlib.contextmanager
    def entered(self, stream):
        self.current = stream
        try:
            yield
        finally:
            self.current = "default"

    def capture_begin(self, pool, capture_error_mode):
        self.calls.append(("begin", self.current.device))

    def capture_end(self):
        self.calls.append("end")
        if "failed" in self.calls:
            raise RuntimeError("the second error: the capture was invalidated")

    def replay(self):
        self.calls.append("replay")


def test_a_capture_is_on_the_models_device(monkeypatch):
    streams, device = Streams(monkeypatch), torch.device("cuda:1")
    result, replay = updating.cuda_graph(device)(lambda: "loss")
    replay()
    begun = ("begin", device)
    assert result == "loss" and streams.calls == ["wait", begun, "end", "wait back", "replay"]


def test_a_capture_that_fails_says_why_and_leaves_the_stream_as_it_was(monkeypatch):
    streams = Streams(monkeypatch)

    def work():
        assert streams.current != "default"
        streams.calls.append("failed")
        raise RuntimeError("the first error: operation not permitted")

    with pytest.raises(RuntimeError, match="the first error"):
        updating.cuda_graph(torch.device("cuda"))(work)
    assert streams.current == "default" and streams.calls[-1] == "end"


class OnGpu:
    """Some images whose loader says that they lie on a GPU."""

    device, height, width, shard = torch.device("cuda"), 8, 8, (0, 1)
    images = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.images)

    def batches(self, size):
        yield from ((x, None) for x in self.images.split(size))


def test_on_a_gpu_nothing_is_folded_and_the_mode_comes_back(monkeypatch):
    model = models.build("resnet20", 5, in_channels=1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = model.eval()(OnGpu.images)
    monkeypatch.setattr(evaluate, "fold", None)  # would raise where it is called
    model.train()
    assert torch.equal(evaluate.predict(model, OnGpu(), "fp32"), want) and model.training


def test_jitter_moves_nothing_to_the_device_in_a_batch(monkeypatch):
    factors, order = augment.jitter_draws(4, 0.4, torch.Generator().manual_seed(0))
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    first = augment.jitter(images.clone(), factors, order)
    monkeypatch.setattr(torch, "tensor", None)
    assert np.array_equal(augment.jitter(images.clone(), factors, order), first)
