"""A training loop as the field publishes it: PIL transforms in a DataLoader, fp32, eager."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, WeightedRandomSampler
from torchvision import transforms

from h2t import models

N, CLASSES, BATCH = 10_847, 100, 128  # CIFAR-100-LT at an imbalance factor of 100
# untimed steps before each turn; in the plain loop they use up what was decoded before it began
WARM = 4


def random_images() -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(0)
    return r.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8), np.sort(r.integers(0, CLASSES, N))


class _Pictures:
    """A data set as the field's code has it: one PIL image at a time through its transforms."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def as_published(model):
    """The same network as the field's code writes it: every ReLU allocates its output."""

    def block(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        out += x
        return F.relu(out)

    def maps(self, x):
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))

    for module in model.modules():
        if hasattr(module, "bn2"):
            module.forward = block.__get__(module)
    model.backbone.maps = maps.__get__(model.backbone)
    return model


def plain_loop(stage: int, device: str, workers: int = 2) -> dict:
    """PIL transforms in a DataLoader, NCHW, fp32, accuracy and loss fetched every step."""
    images, labels = random_images()
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ]
    )

    balanced = WeightedRandomSampler(1 / np.bincount(labels)[labels], N)

    def forever(**how):
        while True:
            yield from DataLoader(
                _Pictures(images, labels, transform),
                BATCH,
                num_workers=workers,
                pin_memory=device != "cpu",
                **how,
            )

    model = as_published(models.build("resnet32", CLASSES)).to(device)
    first = forever(shuffle=True) if stage == 1 else forever(sampler=balanced)
    second = forever(shuffle=True) if stage == 2 else None
    trained = model if stage == 1 else model.head
    optimizer = torch.optim.SGD(trained.parameters(), 0.1, 0.9, weight_decay=2e-4)
    meter = []

    def step(steps: int) -> float:
        for k in range(-WARM, steps):
            if k == 0:
                start = time.perf_counter()
            x, y = (t.to(device, non_blocking=True) for t in next(first))
            if stage == 1:
                lam, partner = np.random.beta(1, 1), torch.randperm(len(y), device=device)
                logits = model(lam * x + (1 - lam) * x[partner])
                loss = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(
                    logits, y[partner]
                )
            else:
                with torch.no_grad():
                    backbone, other = model.backbone, next(second)[0].to(device)
                    maps, other = backbone.maps(x), backbone.maps(other)
                    swap = torch.randperm(64, device=device)[:16]
                    maps[:, swap] = other[:, swap]
                logits = model.head(maps.mean((2, 3)))
                loss = F.cross_entropy(logits, y)
            top5 = logits.topk(5, 1).indices.eq(y[:, None])
            meter.append(
                (loss.item(), top5[:, 0].float().mean().item(), top5.any(1).float().mean().item())
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return {"step": step, "precision": "fp32"}
