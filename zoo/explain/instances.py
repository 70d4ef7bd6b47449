"""The instances of a bag that the answer was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.explain.figure import check_names, finish
from zoo.explain.images import grid, to_picture
from zoo.training.data.bags import BagSet
from zoo.training.data.decode import read_image
from zoo.training.data.image_set import ImageSet
from zoo.training.plots import BLUE, GREY, new_figure, shorten
from zoo.training.prediction import predict
from zoo.training.reporting.thumbnail import picture

_COLUMNS = 8


def top_instances(
    model: nn.Module,
    bag: Any,
    *,
    top: int = 15,
    head: int | None = None,
    images: Tensor | None = None,
    names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    title: str | None = None,
    path: str | Path | None = None,
) -> Any:
    """The instances of a bag with the largest weights in the pooling, as a matplotlib Figure: images, or bars.

    Instances that are images, or have one each, stand in a grid, the largest weight first, its share above it. Others
    are bars with a dot a head, beside the share that all would have if they were alike.

    Args:
        model: of bags, such as `hopfield_mil`; as `zoo.predict` takes it.
        bag: one bag, (instances, ...); or a source of bags as `zoo.predict` takes it, that holds one.
        top: instances to show.
        head: weights of this head; the mean over heads if None.
        images: (instances, height, width) or (instances, channels, height, width), how the instances look; if None,
            the instances of a tensor of one of these shapes, of a set of images, or their image files.
        names: one for every instance; file names or numbers if None.
        mean, std: of the channels, where images were normalised: they are shown as they were before, 0 to 1.
        title: of the figure; the answer and its probability if None.
        path: a PNG file to write.

    Raises:
        ValueError: several bags, a head that is not there, images or names of another number than the instances.
        DataError: what is no bag of the model's, see `zoo.predict`.
        MissingExtraError: matplotlib is not installed.
    """
    if top < 1:
        raise ValueError(f"there must be an instance to show, got top={top}")
    answers = predict(model, [bag] if isinstance(bag, Tensor) else bag, 1)
    if len(answers) != 1:
        raise ValueError(f"the picture is of one bag, got {len(answers)}")
    (answer,) = answers
    found = answer["instances"]
    heads = torch.tensor([one["heads"] for one in found])
    if head is not None and not 0 <= head < heads.shape[1]:
        raise ValueError(f"head must be in 0..{heads.shape[1] - 1}, got {head}")
    weights = torch.tensor([one["weight"] for one in found]) if head is None else heads[:, head]
    check_names("names", names, len(found))
    if images is not None and len(images) != len(found):
        raise ValueError(f"images must be one for each of {len(found)} instances, got {len(images)}")
    look = _looks(bag, found) if images is None else images.__getitem__
    best: list[int] = weights.topk(min(top, len(weights))).indices.tolist()
    shown = [shorten(Path(str(found[i]["instance"])).name if names is None else names[i]) for i in best]
    if title is None:
        title = f"class {answer['label']}, probability {answer['probability']:.3g}" + (
            "" if head is None else f", head {head}"
        )
    if look is not None:
        pictures = [to_picture(look(i).detach().float().cpu(), mean, std) for i in best]
        above = [f"{name}: {float(weights[i]):.3g}" for name, i in zip(shown, best, strict=True)]
        return finish(grid(pictures, above, min(_COLUMNS, len(best)), title, signed=False), path)
    dots = heads if head is None and heads.shape[1] > 1 else None
    return finish(_bars(weights, dots, best, shown, title), path)


def _looks(bag: Any, found: list[dict[str, Any]]) -> Callable[[int], Tensor] | None:
    """What gives the image of an instance; None where instances are no images."""
    if isinstance(bag, Tensor):
        return bag.__getitem__ if bag.ndim in (3, 4) else None
    if isinstance(bag, BagSet) and isinstance(bag.instances, ImageSet):
        stored, places = bag.instances, bag.places[0]
        return lambda i: _pixels(stored.image(int(places[i])))
    files = [str(one["instance"]) for one in found]
    return (lambda i: _pixels(read_image(Path(files[i])))) if all(Path(name).is_file() for name in files) else None


def _pixels(image: Any) -> Tensor:
    """(channels, height, width) of an image as it is stored."""
    pixels = torch.from_numpy(np.array(picture(image)))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _bars(weights: Tensor, dots: Tensor | None, best: list[int], labels: list[str], title: str) -> Any:
    figure, (axes,) = new_figure(1, (6.5 + 0.07 * max(map(len, labels)), 1.4 + 0.3 * len(labels)))
    axes.barh(range(len(best)), weights[best].tolist(), height=0.6, color=BLUE, label="weight")
    if dots is not None:
        places = torch.arange(len(best)).repeat_interleave(dots.shape[1])
        axes.plot(dots[best].flatten(), places, "o", color="#222222", ms=3, alpha=0.6, label="of one head")
    axes.axvline(1 / len(weights), color=GREY, lw=1.2, ls="--", label="an even share")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)  # beside the bars
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)  # the first on top
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    others = weights.sort(descending=True).values[len(best) :]
    rest = f"; {len(others)} others together {float(others.sum()):.3g}" if len(others) else ""
    axes.set_xlabel(f"share in the pooled bag{rest}")
    axes.set_title(title, fontsize=11, loc="left", weight="bold")
    return figure
