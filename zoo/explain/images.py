"""Prototypes and features as images: what they are, where they are images, and the inputs that are nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.explain.figure import check_names, finish, picked
from zoo.explain.finding import tversky_layer
from zoo.layers.tversky.banks import SharedBank
from zoo.layers.tversky.data_bank import DataDomainBank
from zoo.layers.tversky.interpretation import feature_activations
from zoo.training.plots import new_figure, shorten

# Inches of a square, and how far apart the rows are in squares: their titles stand between them.
_COLUMNS, _SIDE, _PITCH = 8, 1.3, 1.14


def prototype_images(model: nn.Module, **options: Any) -> Any:
    """The prototypes of a layer as a grid of images, a matplotlib Figure.

    Where the prototypes are a `DataDomainBank`, its inputs; else their vectors, if they are images (`image_shape`).

    Args:
        model: a model with a `TverskyProjection`, the layer itself, or a `DataDomainBank`.
        options: see `feature_images`.

    Raises:
        ValueError, MissingExtraError: see `feature_images`.
    """
    return _bank_images(model, "prototypes", "prototype", **options)


def feature_images(model: nn.Module, **options: Any) -> Any:
    """The features of a layer as a grid of images, a matplotlib Figure.

    Where the bank is a `DataDomainBank`, its inputs, each from its darkest to its brightest value; else its vectors,
    if they are images (`image_shape`): one channel from blue (below 0) over white to red.

    Args:
        model: a model with a `TverskyProjection`, the layer itself, or a `DataDomainBank`.
        image_shape: (height, width) or (channels, height, width) of the layer's inputs.
        indices: which; the first 64 if None.
        names: one for every row of the bank, as titles; numbers if None.
        mean, std: of the channels, where inputs were normalised: images are shown as they were before, 0 to 1.
        layer: name of the layer where the model has several.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: rows that are no images, an index out of range, too few names, or see `tversky_layer`.
        MissingExtraError: matplotlib is not installed.
    """
    return _bank_images(model, "feature_bank", "feature", **options)


def _bank_images(
    model: nn.Module,
    attribute: str,
    what: str,
    *,
    image_shape: Sequence[int] | None = None,
    indices: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layer: str | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    bank: Any = model if isinstance(model, DataDomainBank) else getattr(tversky_layer(model, layer), attribute)
    while isinstance(bank, SharedBank):
        bank = bank.owner
    made = isinstance(bank, DataDomainBank)
    rows: Tensor = bank.inputs if made else bank if isinstance(bank, Tensor) else bank.weight
    rows = rows.detach().float().cpu()
    if not made:
        rows = _reshape(rows, image_shape, what)
    check_names("names", names, len(rows))
    chosen = picked("indices", indices, len(rows), 64)
    titles = [str(i) if names is None else shorten(names[i], 14) for i in chosen]
    images = [to_picture(rows[i], mean, std) for i in chosen]
    return finish(grid(images, titles, min(_COLUMNS, len(images)), title, signed=not made), path)


def nearest_examples(
    model: nn.Module,
    inputs: Tensor,
    images: Tensor,
    *,
    of: str = "prototypes",
    count: int = 6,
    indices: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layer: str | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """The examples that are most similar to each prototype, or have most of each feature, as a matplotlib Figure.

    A row a prototype or feature, the nearest example first, its similarity or activation above it; blank where no
    further example has the feature.

    Args:
        model: a model with a `TverskyProjection`, or the layer itself.
        inputs: (n, in_features), the layer's inputs, as `zoo.explain.layer_inputs` gives them.
        images: (n, channels, height, width) or (n, height, width), the same examples as they look.
        of: "prototypes" or "features".
        count: examples a row.
        indices: which prototypes or features; the first 10 if None.
        names: one for every prototype or feature.
        mean, std, layer, title, path: see `feature_images`.

    Raises:
        ValueError: examples and images of different numbers, an index out of range, another `of`, too few names.
        MissingExtraError: matplotlib is not installed.
    """
    found = tversky_layer(model, layer)
    if of not in ("prototypes", "features"):
        raise ValueError(f"of must be 'prototypes' or 'features', got {of!r}")
    if inputs.ndim != 2 or len(inputs) != len(images) or not len(inputs):
        raise ValueError(
            f"inputs must be (n, {found.in_features}) with an image each, got {tuple(inputs.shape)} and {len(images)} "
            "images"
        )
    with torch.no_grad():
        values = (found(inputs) if of == "prototypes" else feature_activations(found, inputs)).float().cpu()
    total = values.shape[1]
    check_names("names", names, total)
    chosen = picked("indices", indices, total, 10)
    if count < 1:
        raise ValueError(f"there must be an example at least, got count={count}")
    count = min(count, len(images))
    pictures, titles, labels = [], [], []
    for index in chosen:
        best = values[:, index].topk(count)
        for place, value in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            picture = to_picture(images[place].detach().float().cpu(), mean, std)
            absent = of == "features" and value <= 0  # it is in none of the examples that are left
            pictures.append(torch.ones_like(picture) if absent else picture)
            titles.append("–" if absent else f"{value:.3g}")
        labels.append(str(index) if names is None else shorten(names[index], 14))
    return finish(grid(pictures, titles, count, title, signed=False, labels=labels), path)


def _reshape(rows: Tensor, image_shape: Sequence[int] | None, what: str) -> Tensor:
    width = rows.shape[1]
    if image_shape is None:
        raise ValueError(
            f"a {what} of this layer is a vector of {width} numbers: give image_shape=(height, width) if the layer "
            "sees pixels, train with a DataDomainBank, or look at zoo.explain.nearest_examples"
        )
    if math.prod(image_shape) != width:
        raise ValueError(f"image_shape {tuple(image_shape)} has {math.prod(image_shape)} numbers, a {what} {width}")
    return rows.reshape(-1, *image_shape)


def to_picture(image: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """(height, width) or (height, width, 3), as matplotlib takes it; with `mean` and `std` in 0..1."""
    if image.ndim == 2:
        image = image.unsqueeze(0)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image must be (height, width) or of 1 or 3 channels first, got {tuple(image.shape)}")
    if mean is not None and std is not None:
        image = image * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
        image = image.clamp(0, 1)
    elif image.shape[0] == 3:
        low, high = image.min(), image.max()
        image = (image - low) / (high - low).clamp(min=1e-12)
    return image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)


def grid(
    images: Sequence[Tensor],
    titles: Sequence[str],
    columns: int,
    title: str,
    *,
    signed: bool,
    labels: Sequence[str] = (),
) -> Any:
    """Images side by side in one axes, each in a square of its own, its title above it, a label left of each row."""
    rows = math.ceil(len(images) / columns)
    size = (columns * _SIDE + 0.4 + 0.09 * max(map(len, labels), default=0), rows * _SIDE * _PITCH + 0.4)
    figure, (axes,) = new_figure(1, size)
    for place, (image, above) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(place, columns)
        middle = row * _PITCH
        height, width = image.shape[:2]
        # The longer side takes 0.9 of the square.
        wide, high = 0.45 * width / max(height, width), 0.45 * height / max(height, width)
        limits: dict[str, Any] = {"cmap": "gray"}
        if signed and image.ndim == 2:
            widest = float(image.abs().max()) or 1.0
            limits = {"cmap": "RdBu_r", "vmin": -widest, "vmax": widest}
        extent = (column - wide, column + wide, middle + high, middle - high)
        axes.imshow(image.numpy(), extent=extent, interpolation="nearest", **limits)
        axes.text(column, middle - high - 0.03, above, ha="center", va="bottom", fontsize=7)
    for row, label in enumerate(labels):
        axes.text(-0.55, row * _PITCH, label, ha="right", va="center", fontsize=8, weight="bold")
    axes.set_xlim(-0.55, columns - 0.45)
    axes.set_ylim((rows - 1) * _PITCH + 0.5, -0.65)
    axes.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    return figure
