"""Makes `snnet_vit_nano.digits`, and measures its nine networks: `python weights/stitch.py`.

Three vision transformers learn scikit-learn's digits, each alone; they are stitched, the six stitching layers are set
by least squares on 1,000 training images, and all of it learns on, one path drawn at every update. Learning rates are
chosen on val, an anchor's by its own accuracy, that of the whole by the mean over the paths, which also chooses the
epoch. Test is measured once, of what was chosen.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.sampling import StitchSampler
from zoo.training import open_data
from zoo.weights.save import save_safetensors

FILE = Path(__file__).with_name("snnet_vit_nano.digits.safetensors")
#: To choose from: of each anchor, and of the whole.
RATES = ((5e-3, 1e-2), (2e-3, 4e-3), (1e-3, 3e-3))
JOINT_RATES = (1e-3, 2e-3)
EPOCHS, JOINT_EPOCHS, BATCH_SIZE, INIT_IMAGES = 30, 40, 64, 1000


class Split(NamedTuple):
    """Images as the network takes them, and their classes."""

    images: Tensor
    labels: Tensor


def split_of(net: nn.Module, split: str) -> Split:
    """A split of the data set `digits`."""
    images, labels = zip(*open_data("digits", split, model=net), strict=True)
    return Split(torch.stack(images), torch.tensor(labels))


@torch.no_grad()
def accuracy(model: nn.Module, data: Split, **options: Any) -> float:
    """The part of the images that is named right; options are those of `forward`."""
    was = model.training
    model.eval()
    found = (model(data.images, **options).argmax(1) == data.labels).double().mean()
    model.train(was)
    return float(found)


def accuracies(net: StitchNet, data: Split) -> list[float]:
    """Of every path, in order."""
    return [accuracy(net, data, stitch=stitch.id) for stitch in net.stitches]


def epochs(
    model: nn.Module, training: Split, lr: float, count: int, *, sampler: StitchSampler | None = None
) -> Iterator[int]:
    """AdamW, its rate rising and going to 0 along a cosine; yields after every epoch.

    Args:
        model: a network, or a stitched one.
        training: the images.
        lr: the largest learning rate.
        count: of epochs.
        sampler: draws the path of every update.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    per_epoch = len(training.labels) // BATCH_SIZE
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=count * per_epoch, pct_start=0.15)
    step = 0
    for epoch in range(count):
        for rows in torch.randperm(len(training.labels))[: per_epoch * BATCH_SIZE].split(BATCH_SIZE):
            options = {} if sampler is None else {"stitch": sampler.ids(step)[0]}
            optimizer.zero_grad()
            F.cross_entropy(model(training.images[rows], **options), training.labels[rows]).backward()
            optimizer.step()
            schedule.step()
            step += 1
        yield epoch + 1


def train_anchors(net: StitchNet, training: Split, val: Split) -> list[dict[str, float]]:
    """Train the anchors, each with the best of its rates, and tell which that was."""
    chosen = []
    for anchor, rates in zip(net.anchors, RATES, strict=True):
        runs = []
        for lr in rates:
            torch.manual_seed(0)
            model = copy.deepcopy(anchor)
            for _ in epochs(model, training, lr, EPOCHS):
                pass
            runs.append((accuracy(model, val), -lr, model.state_dict()))
        value, rate, state = max(runs, key=lambda run: run[:2])
        anchor.load_state_dict(state)
        chosen.append({"lr": -rate, "val": value})
    return chosen


def train_jointly(net: StitchNet, training: Split, val: Split) -> dict[str, float]:
    """Train all paths, with the best rate until its best epoch, and tell which those were."""
    start, best, state = copy.deepcopy(net.state_dict()), {"val": 0.0}, {}
    for lr in JOINT_RATES:
        net.load_state_dict(start)
        torch.manual_seed(0)
        for epoch in epochs(net, training, lr, JOINT_EPOCHS, sampler=StitchSampler(net)):
            found = accuracies(net, val)
            mean = sum(found) / len(found)
            if mean > best["val"]:
                best, state = {"lr": lr, "epoch": epoch, "val": mean}, copy.deepcopy(net.state_dict())
    net.load_state_dict(state)
    return best


def in_percent(found: list[float]) -> dict[str, float]:
    """Accuracies by number of path, as the catalogue has them."""
    return {str(number): round(100 * value, 2) for number, value in enumerate(found)}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = cast(StitchNet, zoo.create_model("snnet_vit_nano"))
    training, val = split_of(net, "train"), split_of(net, "val")
    print("anchors", train_anchors(net, training, val))
    print("as drawn", in_percent(accuracies(net, val)))
    net.init_stitches(training.images, num_samples=INIT_IMAGES)
    print("least squares", in_percent(accuracies(net, val)))
    before = copy.deepcopy(net)
    print("jointly", train_jointly(net, training, val), in_percent(accuracies(net, val)))
    print(save_safetensors(net.state_dict(), FILE), FILE.stat().st_size)
    test = split_of(net, "test")
    print("test, anchors alone", in_percent(accuracies(before, test)[:3]))
    print("test", in_percent(accuracies(net, test)))


if __name__ == "__main__":
    main()
