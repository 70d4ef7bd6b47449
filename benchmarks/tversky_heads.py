"""A learning check, not a timing: a linear and a Tversky head on the same small backbone, on scikit-learn's digits.

The backbone is that of `tversky_mnist_cnn`. Trained whole from random weights; with the backbone frozen as a linear
head has left it; and frozen at random weights. One recipe for every head, fixed before any result was seen, no epoch
chosen: `python -m benchmarks.tversky_heads`, under five minutes on one core.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from benchmarks._measure import table
from zoo.layers.tversky import TverskyProjection
from zoo.models.tversky_mnist import TverskyMnistCnn
from zoo.training.data.digits import open_digits

SEEDS = (0, 1, 2, 3, 4)
EPOCHS, BATCH, LR = 12, 32, 3e-3
STEPS, HEAD_LR = 500, 1e-2
HEADS: dict[str, dict[str, Any] | None] = {
    "linear": None,
    "Tversky, `scaled_uniform`": {},
    "Tversky, `scaled_uniform`, `substractmatch`": {"difference": "substractmatch"},
    "Tversky, `symmetric_uniform`": {"init": "symmetric_uniform"},
    "Tversky, `uniform` (as the authors start)": {"init": "uniform"},
}


def images(split: str) -> tuple[Tensor, Tensor]:
    """(n, 1, 28, 28) in [-1, 1], and labels."""
    data = getattr(open_digits(), split)
    pixels = torch.stack([torch.as_tensor(data.image(i)) for i in range(len(data))]).float()[:, None] / 127.5 - 1
    return interpolate(pixels, size=(28, 28), mode="bilinear", antialias=False), torch.as_tensor(data.labels)


def make_head(options: dict[str, Any] | None) -> nn.Module:
    return nn.Linear(36, 10) if options is None else TverskyProjection(36, 10, **options)


def train_whole(options: dict[str, Any] | None, seed: int, train: tuple[Tensor, Tensor]) -> TverskyMnistCnn:
    """Backbone and head from random weights: Adam with a cosine to 0, batches of 32."""
    torch.manual_seed(seed)
    model = TverskyMnistCnn(0)
    model.tproj = make_head(options)
    x, y = train
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for batch in order[: len(x) // BATCH * BATCH].view(-1, BATCH):
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return model


def train_head(options: dict[str, Any] | None, seed: int, train: tuple[Tensor, Tensor]) -> nn.Module:
    """A head on features that stay: full-batch Adam with a cosine to 0."""
    torch.manual_seed(seed)
    head = make_head(options)
    optimizer = torch.optim.Adam(head.parameters(), lr=HEAD_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(head(train[0]), train[1]).backward()
        optimizer.step()
        schedule.step()
    return head


@torch.no_grad()
def accuracy(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    return float((model(test[0]).argmax(1) == test[1]).float().mean())


@torch.no_grad()
def features(model: TverskyMnistCnn, data: tuple[Tensor, Tensor], unseen: tuple[Tensor, Tensor]) -> list[Any]:
    """Both splits as pooled features, each channel with mean 0 and deviation 1 over the training images."""
    pooled = [model.forward_head(model.forward_features(x), pre_logits=True) for x, _ in (data, unseen)]
    mean, deviation = pooled[0].mean(0), pooled[0].std(0)
    return [((x - mean) / deviation, y) for x, (_, y) in zip(pooled, (data, unseen), strict=True)]


def main() -> None:
    torch.set_num_threads(1)
    train, test = images("train"), images("test")
    trained = train_whole(None, 100, train)
    torch.manual_seed(100)
    frozen = [features(model, train, test) for model in (trained, TverskyMnistCnn(0))]
    rows = []
    for name, options in HEADS.items():
        reached = [[accuracy(train_whole(options, seed, train), test) for seed in SEEDS]]
        reached += [[accuracy(train_head(options, seed, x), unseen) for seed in SEEDS] for x, unseen in frozen]
        size = sum(p.numel() for p in make_head(options).parameters())
        rows.append([name, f"{size:,}", *map(_spread, reached)])
    print(
        f"Accuracy on 360 test images of digits, mean ± deviation of {len(SEEDS)} seeds. Whole: {EPOCHS} epochs of "
        f"Adam {LR:g}, batches of {BATCH}. Frozen: {STEPS} full-batch steps of Adam {HEAD_LR:g} on standardised "
        "features.\n"
    )
    columns = ["whole, from scratch", "frozen, trained features", "frozen, random features"]
    print(table(["head", "parameters", *columns], rows))


def _spread(reached: list[float]) -> str:
    return f"{statistics.mean(reached):.4f} ± {statistics.stdev(reached):.4f}"


if __name__ == "__main__":
    main()
