"""A stage of the product on random pixels, captured or not."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch.func import functional_call

from h2t import models
from h2t.data.resident import Resident
from h2t.data.split import Split
from h2t.models.batchnorm import norms
from h2t.train import device as stepping
from h2t.train import methods, stage1, stage2
from h2t.train.device import to_device
from h2t.train.update import Update, cuda_graph

TOY = {"n": 40, "classes": 4, "size": 8}  # images, classes and pixels, where a script is tried


def wait(args) -> None:
    if args.device == "cuda":
        torch.cuda.synchronize()


def stand_in():
    """On the CPU, what keeps the rules of a CUDA graph: capturing computes nothing, a replay reads
    the fixed inputs."""

    def capture(work):
        loss = torch.full((), float("nan"))
        return loss, lambda: loss.copy_(work())

    return capture


def pictures(n: int, classes: int, size: int):
    r = np.random.default_rng(0)
    labels = np.sort(np.concatenate([np.arange(classes), r.integers(0, classes, n - classes)]))
    return r.integers(0, 256, (n, size, size, 3), dtype=np.uint8), labels


class Trial:
    """A stage of the product on random pixels: its loader, objective, optimiser and update;
    ``epoch(e)`` gives the losses."""

    def __init__(
        self,
        args,
        stage: int,
        config,
        how: str,
        *,
        device=None,
        size=None,
        model=None,
        state=None,
        layout="channels_last",
        tweak=(),
    ):
        self.args, self.stage, self.config = args, stage, config
        self.device = torch.device(device or args.device)
        n, classes, side = (size or {}).values() if size else (300, 20, 32)
        images, labels = pictures(n, classes, side)
        turned = {"rotation": getattr(config, "rotation", 0.0), "color_jitter": config.color_jitter}
        split = Split(images, labels, tuple(map(str, range(classes))), None)
        normal = ((0.5,) * 3, (0.2,) * 3)
        self.data = Resident(split, *normal, self.device, config.crop_padding, **turned)
        if layout == "contiguous":
            cut = self.data.cut
            self.data.cut = lambda *draws: cut(*draws).contiguous()
        self.labels = torch.from_numpy(labels)
        self.counts = torch.bincount(self.labels, minlength=classes).to(self.device)
        self.model = self._model(model or ("resnet20" if args.tiny else "resnet32"), layout)
        if state:
            self.model.load_state_dict(state["model"])
        centres = None
        if stage == 1:
            self.optimizer = stepping.sgd(self.model.parameters(), 0.1, 0.9, 2e-4, config.nesterov)
        else:
            self.model.backbone.requires_grad_(False)
            centres = stage2._centres(self.model, self.data, config, classes)
            groups, _ = methods.begin(self.model, config)
            self.optimizer = stepping.sgd(groups, 0.1, 0.9, 5e-4)
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
        network = one_cast(self.model) if "one cast" in tweak else self.model
        if "no counters" in tweak:
            for m in norms(self.model):
                m.num_batches_tracked = None
        if "compile" in how:
            network = torch.compile(self.model)
        make, own = (stage2.objective, (centres,)) if stage == 2 else (stage1.objective, ())
        objective = make(network, self.counts, *own, config, self.device)
        capture = None
        if "graph" in how:
            capture = cuda_graph(self.device) if self.device.type == "cuda" else stand_in()
        parts, graph = (self.model, self.optimizer, self.device), "graph" in how
        self.update = Update(objective, *parts, capturable=graph, capture=capture)

    def _model(self, name: str, layout: str):
        method, classes = getattr(self.config, "stage2_method", ""), len(self.counts)
        head = getattr(self.config, "head", "cosine" if method == "gcl" else "linear")
        draws = torch.Generator().manual_seed(1)
        model = models.build(name, classes, head=head, generator=draws)
        return model.to(self.device) if layout == "contiguous" else to_device(model, self.device)

    def epoch(self, e: int, steps: int = 0):
        """An epoch, or so many steps of one. The rates are powers of 2: a captured update has its
        rate in fp32, an eager one in fp64."""
        rate = 2.0 ** -(4 + e % 2)
        stepping.set_lr(self.optimizer, *[rate] * len(self.optimizer.param_groups))
        labels, number = self.labels, steps * self.config.batch_size
        parts = (self.update, self.data)
        if self.stage == 1:
            return stage1._epoch(*parts, labels[: number or None], self.counts, self.config, e)
        if steps:
            draws = torch.Generator().manual_seed(0)
            order = torch.randperm(len(labels), generator=draws)[:number].sort().values
            labels = torch.unique_consecutive(labels[order], return_inverse=True)[1]
        return stage2._epoch(*parts, labels, self.config, e)

    def weights(self):
        return {k: v.detach().float().cpu() for k, v in self.model.state_dict().items()}


def one_cast(model):
    """The network with all its convolutions' weights cast to bf16 in one kernel (and their
    gradients back in another)."""
    names = [n for n, p in model.named_parameters() if p.dim() == 4]
    own = dict(model.named_parameters())

    class Cast(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *ws):
            out = [torch.empty_like(w, dtype=torch.bfloat16) for w in ws]
            torch._foreach_copy_(out, list(ws))
            return tuple(out)

        @staticmethod
        def backward(ctx, *gs):
            out = [torch.empty_like(g, dtype=torch.float32) for g in gs]
            torch._foreach_copy_(out, list(gs))
            return tuple(out)

    def call(x):
        return functional_call(
            model, dict(zip(names, Cast.apply(*(own[n] for n in names)), strict=True)), (x,)
        )

    return call


@contextlib.contextmanager
def flags(deterministic=False, everywhere=False, tf32=False):
    """What ``pick_device`` sets, in this trial alone: ``deterministic`` convolutions, and
    ``everywhere`` as H2T_DETERMINISTIC=1."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.use_deterministic_algorithms(everywhere, warn_only=True)
    how = {"enabled": True, "benchmark": False, "deterministic": deterministic, "allow_tf32": tf32}
    try:
        with torch.backends.cudnn.flags(**how):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
        torch.use_deterministic_algorithms(False)


def apart(a: dict, b: dict) -> float:
    """The largest relative distance of two sets of tensors, by tensor: |a - b| / |b|."""
    return max(
        (float((x - b[k]).norm() / b[k].norm().clamp_min(1e-6)) for k, x in a.items()), default=0.0
    )


def memory(args) -> dict:
    if args.device != "cuda":
        return {}
    return {
        "max_reserved": round(torch.cuda.max_memory_reserved() / 1e9, 3),
        "max_allocated": round(torch.cuda.max_memory_allocated() / 1e9, 3),
    }
