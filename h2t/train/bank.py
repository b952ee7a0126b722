"""The feature bank, and the cached stage 2 on it: many fusion ratios and seeds trained at once, in seconds.

Fusion commutes with pooling, so with the backbone frozen a stage 2 needs pooled features only: V augmented views of
every training image and the test set, computed once. The cached stage 2 is a recipe of its own: it normalises with
re-estimated, fixed BN statistics where the exact one normalises each batch by itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from h2t import metrics, rng
from h2t.data import samplers
from h2t.errors import Error
from h2t.files import clean, write_atomic
from h2t.runs import Run, write_json
from h2t.train import step as stepping
from h2t.train.config import Stage2
from h2t.train.prepare import dataset, loaders
from h2t.train.schedule import stage2_lr
from h2t.train.stage1 import load_model

BN_BATCHES = 85  # balanced batches over which BN statistics are re-estimated: one epoch of CIFAR-100-LT at IF = 100


@dataclass(frozen=True)
class Bank:
    """Pooled features of a frozen backbone.

    ``train`` (V, N, D) float32, one row of views per training image; ``labels`` (N,); ``test`` (T, D); ``test_labels``
    (T,); ``counts`` (C,) training images per class; ``weight`` (C, D) and ``bias`` (C,) the classifier of stage 1;
    ``classes`` names; ``scheme`` of the groups; ``scale`` of a cosine head, None for a linear one; ``key`` what it was
    made from; ``backbone`` tensors with the re-estimated statistics.
    """

    train: torch.Tensor
    labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor
    counts: np.ndarray
    weight: torch.Tensor
    bias: torch.Tensor
    classes: tuple[str, ...]
    scheme: str
    scale: float | None
    key: str
    bn_statistics: str
    folder: Any = None

    @property
    def num_features(self) -> int:
        return self.train.shape[2]


def bank_key(run: Run, config: Stage2) -> str:
    """What a bank depends on: stage 1's weights, the split, and how images are normalised and augmented."""
    result, params = run.step("stage1").result, run.params
    parts = {
        "weights": result["weights_sha256"], "split": json.loads((run.path / "split.json").read_text())["hash"],
        "images": params["pixels_sha256"], "statistics": [params["mean"], params["std"], params["image_size"]],
        "augment": [config.crop_padding, config.pad_value, config.flip, config.seed, config.batch_size],
        "bn": [config.bn_statistics, BN_BATCHES, config.fused_branch, config.fusing_branch], "format": 1,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def build_bank(run: Run | str, config: Stage2, views: int = 4, *, device: str = "auto", progress: bool = True) -> Bank:
    """Build the feature bank of a run's stage 1, or open the one that is there.

    Each view is a file of its own, written when it is complete, so that an interrupted build goes on and more views
    can be added later. The files lie in ``bank-<key>`` of the run, keyed by the hashes of weights and split.

    Arguments: ``run`` with a finished or imported stage 1; ``config`` names the BN statistics (balanced, both, none)
    and the augmentation; ``views`` V augmented views per image.
    Raises: ``h2t.Error`` where the run has no data or no finished stage 1.
    """
    run, device = Run(run, create=False), stepping.pick_device(device)
    if views < 1:
        raise Error(f"views is {views}; a bank needs at least 1")
    if not run.step("stage1").done:
        raise Error(f"run {run.path} has no finished stage 1; train or import one first")
    if not (run.path / "split.json").exists():
        raise Error(f"run {run.path} has no data yet; prepare it with notebook 01 or `h2t import FILE --run DIR --recipe RECIPE`")
    key = bank_key(run, config)
    folder = run.path / f"bank-{key}"
    wanted = ["test", *(f"view{v}" for v in range(views))]
    if any(not (folder / f"{name}.npy").exists() for name in wanted) or not (folder / "bank.json").exists():
        with run.lock("bank"):
            _fill(run, config, folder, wanted, device, progress)
    return open_bank(run, config, views)


def open_bank(run: Run | str, config: Stage2, views: int | None = None) -> Bank:
    """Open a run's bank, memory-mapped. Raises ``h2t.Error`` with the mend where there is none that fits."""
    run = Run(run, create=False)
    key = bank_key(run, config)
    folder = run.path / f"bank-{key}"
    have = sorted(folder.glob("view*.npy"), key=lambda p: int(p.stem[4:]))
    if not (folder / "bank.json").exists() or len(have) < (views or 1):
        raise Error(f"run {run.path} has no feature bank for these settings; build it with `h2t bank {run.path}`")
    meta = json.loads((folder / "bank.json").read_text())
    train = np.stack([np.load(p, mmap_mode="r") for p in have[:views]])
    weights = run.step("stage1").weights()
    counts = np.array(meta["counts"])
    weight = weights["head.weight"]
    return Bank(
        train=torch.from_numpy(train), labels=torch.from_numpy(np.load(folder / "labels.npy")),
        test=torch.from_numpy(np.load(folder / "test.npy")), test_labels=torch.from_numpy(np.load(folder / "test_labels.npy")),
        counts=counts, weight=weight, bias=weights.get("head.bias", torch.zeros(len(weight))), classes=tuple(meta["classes"]),
        scheme=meta["scheme"], scale=meta["scale"], key=key, bn_statistics=meta["bn_statistics"], folder=folder,
    )  # fmt: skip


def _fill(run: Run, config: Stage2, folder, wanted: list[str], device, progress: bool) -> None:
    data = dataset(run, progress=progress)
    train, test = loaders(run, data, device, config.crop_padding, config.pad_value)
    model = load_model(run, "stage1", str(device))
    labels = torch.from_numpy(data.train.labels)
    todo = [name for name in wanted if not (folder / f"{name}.npy").exists()]
    size, n = 250, len(train)
    tests, views = -(-len(test) // size), -(-n // size)
    total = (0 if config.bn_statistics == "none" else BN_BATCHES) + sum(tests if t == "test" else views for t in todo)
    folder.mkdir(parents=True, exist_ok=True)
    clean(folder)
    start = time.perf_counter()
    with tqdm(total=total, desc="feature bank", unit="batch", disable=not progress) as bar, torch.inference_mode():
        _reestimate(model.backbone, train, labels, config, bar)
        model.eval()
        network = fold(model.backbone)
        for name in todo:
            if name == "test":
                batches = test.batches(size)
            else:
                draws = rng.torch_generator(config.seed, f"bank/{name}")
                batches = train.epoch(torch.arange(n), size, draws, config.flip)
            out = []
            for x, _ in batches:
                with stepping.autocast(device, config.precision):
                    out.append(network(x).float().cpu())
                bar.update()
            features = torch.cat(out).numpy()
            write_atomic(folder / f"{name}.npy", lambda f, a=features: np.save(f, a))
    write_atomic(folder / "labels.npy", lambda f: np.save(f, data.train.labels))
    write_atomic(folder / "test_labels.npy", lambda f: np.save(f, np.asarray(data.test.labels)))
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in model.backbone.state_dict().items()}
    write_atomic(folder / "backbone.safetensors", save(state))
    scale = getattr(model.head, "scale", None)
    write_json(folder / "bank.json", {
        "counts": data.train.counts.tolist(), "classes": list(data.train.classes), "scheme": run.params["groups"],
        "scale": scale, "bn_statistics": config.bn_statistics, "seconds": round(time.perf_counter() - start, 2),
    })  # fmt: skip


def _reestimate(backbone: nn.Module, train, labels, config: Stage2, bar) -> None:
    """Replace the running BN statistics by their mean over batches of the streams that the recipe names."""
    if config.bn_statistics == "none":
        return
    norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative mean
    backbone.train()
    num = BN_BATCHES * config.batch_size
    branches = {"fused": config.fused_branch}
    if config.bn_statistics == "both":
        branches["fusing"] = config.fusing_branch
        num //= 2
    streams = []
    for branch, sampler in branches.items():
        order = samplers.epoch(sampler, labels, num, rng.torch_generator(config.seed, f"bank/bn-{branch}"))
        streams.append(train.epoch(order, config.batch_size, rng.torch_generator(config.seed, f"bank/bn-{branch}-augment"), config.flip))
    for batches in zip(*streams, strict=True):
        for x, _ in batches:
            with stepping.autocast(train.device, config.precision):
                backbone(x)
            bar.update()


def fold(backbone: nn.Module) -> nn.Module:
    """A copy of a backbone in eval mode with each BN folded into the convolution before it: the same function, faster."""
    import copy

    from torch.nn.utils.fusion import fuse_conv_bn_eval

    folded = copy.deepcopy(backbone).eval()
    for module in folded.modules():
        for name, child in list(module.named_children()):
            conv = name.replace("bn", "conv")
            if isinstance(child, nn.BatchNorm2d) and isinstance(getattr(module, conv, None), nn.Conv2d):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), child))
                setattr(module, name, nn.Identity())
    return stepping.to_device(folded, next(folded.parameters()).device)


@dataclass(frozen=True)
class Fits:
    """Classifiers of a cached stage 2: ``weight`` (R, S, C, D), ``bias`` (R, S, C), for ``ratios`` (R) and ``seeds`` (S)."""

    ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    weight: torch.Tensor
    bias: torch.Tensor
    seconds: float
    bank: Bank

    def logits(self, r: int = 0, s: int = 0) -> torch.Tensor:
        """Test logits (T, C) of one classifier."""
        return classify(self.bank.test, self.weight[r, s], self.bias[r, s], self.bank.scale)

    def table(self):
        """Accuracy of every pair: a DataFrame with columns ratio, seed, group (many, medium, few, all), accuracy in %."""
        import pandas as pd

        groups = metrics.groups(self.bank.counts, self.bank.scheme)
        correct = self._per_class()
        rows = []
        for r, ratio in enumerate(self.ratios):
            for s, seed in enumerate(self.seeds):
                per_class, top1 = correct[r][s]
                values = {g: float(np.nanmean(per_class[i])) if len(i) else float("nan") for g, i in groups.items()}
                rows += [{"ratio": ratio, "seed": seed, "group": g, "accuracy": a} for g, a in {**values, "all": top1}.items()]
        return pd.DataFrame(rows)

    def _per_class(self):
        """Per-class accuracy (C,) and top-1, both in %, of every pair."""
        labels = self.bank.test_labels
        total = torch.bincount(labels, minlength=len(self.bank.counts)).double()
        out = []
        for r in range(len(self.ratios)):
            out.append([])
            for s in range(len(self.seeds)):
                hit = labels[self.logits(r, s).argmax(1) == labels]
                per_class = 100 * torch.bincount(hit, minlength=len(total)).double() / total
                out[-1].append((per_class.numpy(), 100 * len(hit) / len(labels)))
        return out


def classify(z: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Logits of features ``z`` (..., D) under a linear (``scale`` None) or a cosine classifier."""
    if scale is None:
        return z @ weight.mT + (bias.unsqueeze(-2) if bias.dim() > 1 else bias)
    return scale * nn.functional.normalize(z, dim=-1) @ nn.functional.normalize(weight, dim=-1).mT


def draw_all(bank: Bank, config: Stage2, seeds) -> list[tuple]:
    """What a fit draws, for all epochs and seeds: features of both branches with a 1
    behind them (S, N, D + 1), labels (S, N), and each step's channel ranks (S, steps, D + 1), never swapped for the 1.

    It depends on neither the ratio nor the rate, so that who moves only these may keep it.
    """
    return [_epoch_draws(bank, config, seeds, epoch) for epoch in range(1, config.stage2_epochs + 1)]


def _epoch_draws(bank: Bank, config: Stage2, seeds, epoch: int) -> tuple:
    labels, device = bank.labels, bank.train.device
    draws = [_draws(bank, config, s, epoch, labels) for s in seeds]
    ib, vb, ii, vi, rank = (torch.stack(t).to(device) for t in zip(*draws, strict=True))
    fused, fusing = (torch.nn.functional.pad(bank.train[v, i], (0, 1), value=1.0) for v, i in ((vb, ib), (vi, ii)))
    return fused, fusing, labels.to(device)[ib], torch.nn.functional.pad(rank, (0, 1), value=bank.num_features)


def fit(
    bank: Bank, ratios, seeds=(0,), config: Stage2 | None = None, *, draws: list[tuple] | None = None,
    device: str | None = None, progress: bool = False,
) -> Fits:  # fmt: skip
    """Train the classifier for every pair of ratio and seed at once, on banked features.

    The mathematics of stage 2 (cross entropy, SGD with momentum and weight decay, cosine by epoch, one permutation a
    batch), with the softmax gradient written out. Ratios share each seed's draws, so that they compare in pairs.

    Arguments: ``ratios`` (R) in [0, 1]; ``seeds`` (S); ``config`` for branches, epochs, rate, decay and batch size
    (its fusion_ratio and seed are not used); ``draws`` of ``draw_all`` with the same bank, recipe and seeds. Returns: ``Fits``. Raises: ``h2t.Error`` for a ratio outside [0, 1].
    """
    config, ratios, seeds = config or Stage2(), tuple(float(r) for r in ratios), tuple(int(s) for s in seeds)
    for r in ratios:
        if not 0 <= r <= 1:
            raise Error(f"fusion_ratio is {r}; it must be in [0, 1]")
    if not ratios or not seeds:
        raise Error("fit needs at least one ratio and one seed")
    start, dev = time.perf_counter(), torch.device(device or "cpu")
    if dev != bank.train.device:
        bank = dataclasses.replace(bank, train=bank.train.to(dev))
    if dev.type == "cuda":
        weight, bias = _fit(bank, ratios, seeds, config, draws, dev, progress)
    else:
        # The products are too small to share out one by one: every thread takes ratios of its own instead, and no
        # thread ever waits for another, which on a busy machine is ten times as fast.
        threads = torch.get_num_threads()
        parts = [part.tolist() for part in np.array_split(ratios, min(threads, len(ratios)))]
        jobs = [(bank, part, seeds, config, draws, dev, progress and part is parts[0]) for part in parts]
        with stepping.one_thread(), ThreadPoolExecutor(len(parts), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            done = list(pool.map(_fit, *zip(*jobs, strict=True))) if len(parts) > 1 else [_fit(*jobs[0])]
        weight, bias = (torch.cat(t) for t in zip(*done, strict=True))
    return Fits(ratios, seeds, weight, bias, time.perf_counter() - start, bank)


def _fit(bank: Bank, ratios, seeds, config: Stage2, draws, dev, progress: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (R, S, C, D) and biases (R, S, C) of ``fit``, one batched product for all pairs."""
    pairs, d = (len(ratios), len(seeds)), bank.num_features
    # the bias is one more weight of a feature that is always 1: half as many small operations a step
    weight = torch.cat([bank.weight, bank.bias[:, None]], 1).to(dev)
    weight = weight.expand(*pairs, -1, -1).reshape(-1, *weight.shape).clone()  # (P, C, D + 1)
    velocity = torch.zeros_like(weight)
    swapped = torch.tensor([int(r * d) for r in ratios], device=dev).view(-1, 1, 1)
    with torch.inference_mode():
        for epoch in tqdm(range(1, config.stage2_epochs + 1), "cached stage 2", unit="epoch", disable=not progress):
            lr = stage2_lr(epoch, config)
            zb, zi, yb, rank = draws[epoch - 1] if draws else _epoch_draws(bank, config, seeds, epoch)
            masks = (rank < swapped.unsqueeze(-1)).unsqueeze(3)  # (R, S, steps, 1, D + 1)
            for step, k in enumerate(range(0, len(bank.labels), config.batch_size)):
                rows = slice(k, k + config.batch_size)
                z = torch.where(masks[:, :, step], zi[:, rows], zb[:, rows]).flatten(0, 1)  # (P, B, D + 1)
                y = yb[:, rows].expand(len(ratios), -1, -1).reshape(len(weight), -1, 1)  # (P, B, 1)
                if bank.scale is None:
                    p = torch.bmm(z, weight.mT).softmax(2)  # (P, B, C)
                    p.scatter_add_(2, y, p.new_full((1, 1, 1), -1.0).expand_as(y))
                    gradient = p.mT
                else:
                    gradient, z = _cosine_gradient(z[..., :-1], y, weight[..., :-1], bank.scale), None
                velocity.mul_(config.momentum).add_(weight, alpha=config.stage2_weight_decay)
                if z is None:
                    velocity[..., :-1].add_(gradient)
                else:
                    velocity.baddbmm_(gradient, z, alpha=1 / z.shape[1])
                weight.sub_(velocity, alpha=lr)
    fitted = weight.reshape(*pairs, *weight.shape[1:]).cpu()
    bias = fitted[..., -1] if bank.scale is None else bank.bias.expand(*pairs, -1)
    return fitted[..., :-1].contiguous(), bias.contiguous()


def _draws(bank: Bank, config: Stage2, seed: int, epoch: int, labels):
    """One seed's epoch: image and view of both branches (N,), and each step's channel ranks (steps, D)."""
    n, views = len(labels), bank.train.shape[0]
    out = []
    for branch, sampler in (("fused", config.fused_branch), ("fusing", config.fusing_branch)):
        g = rng.torch_generator(seed, f"cached/{branch}", epoch)
        out += [samplers.epoch(sampler, labels, n, g), torch.randint(views, (n,), generator=g)]
    g, steps = rng.torch_generator(seed, "cached/mask", epoch), -(-n // config.batch_size)
    # a channel's rank in a random order: it is swapped where the rank is below int(p D)
    rank = torch.rand(steps, bank.num_features, generator=g).argsort(1).argsort(1)
    return *out, rank


def _cosine_gradient(z, y, weight, scale: float) -> torch.Tensor:
    """d CE / d W of a cosine classifier: the gradient at the unit row, projected off it, over the row's length."""
    length = weight.norm(dim=2, keepdim=True).clamp_min(1e-12)
    unit, z = weight / length, nn.functional.normalize(z, dim=2)
    p = (scale * z @ unit.mT).softmax(2)
    p.scatter_add_(2, y, p.new_full((1, 1, 1), -1.0).expand_as(y))
    g = scale * (p.mT @ z) / y.shape[1]
    return (g - (g * unit).sum(2, keepdim=True) * unit) / length
