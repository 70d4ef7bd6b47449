"""Where a network that looks twice looked, and what each look said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.explain.figure import check_names, finish, picked
from zoo.explain.finding import only_layer
from zoo.explain.images import to_picture
from zoo.layers.modes import evaluating
from zoo.layers.varifocal import boxcar_mask, varifocal_crop
from zoo.models.placed import example_of
from zoo.models.varifocal.network import VarifocalNet
from zoo.models.varifocal.output import VarifocalOutput
from zoo.training.plots import BLUE, GREEN, ORANGE, new_figure, shorten

#: Inches of a row, so many images if nobody says which, and how much what lies outside the boxcar is veiled.
_HIGH, _MOST, _VEIL = 1.9, 6, 0.65
#: What a scale is called in an output, in words, and its colour; the decision last.
_SCALES = (("g_", "global", BLUE), ("l_", "local", ORANGE), ("", "both", GREEN))


def plot_regions(
    model: nn.Module,
    images: Tensor,
    *,
    indices: Sequence[int] | None = None,
    top: int = 3,
    mask: float | None = None,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    polarity_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    title: str = "",
    path: str | Path | None = None,
) -> Any:
    """The box of the localisation on every image, its crop, and what both scales make of them, as a matplotlib Figure.

    A row an image, three axes each: the image in pixels with the box, the crop at the size that the local network sees,
    and bars of probabilities (by the network's temperature) of the likeliest types by the last decision: of the global
    scale, of the local one, and of both, as far as the network is run (`model.stage`). Above the bars the decision,
    and that of the second task where there is one.

    Args:
        model: a `VarifocalNet`, or a module that has one in it, which then is asked by itself.
        images: (n, chans, height, width), as the network takes them.
        indices: which; the first 6 if None.
        top: types that have bars.
        mask: steepness, a pixel, of RA-CNN's boxcar (`zoo.layers.varifocal.boxcar_mask`; 10 there): what it leaves out
            is veiled. None for the box alone, which is what the network crops by.
        names: one for every image, as titles; numbers if None.
        class_names: of the types; those of the network's configuration if None.
        polarity_names: of the second task; those of the network if None.
        mean, std: of the channels, where inputs were normalised: images are shown as they were before, 0 to 1.
        title: of the figure.
        path: a PNG file to write.

    Raises:
        ValueError: a model without a varifocal network, no types, images that are not the network's, an index out of
            range, names of another number, a steepness that is not above 0.
        TypeError: what is no tensor of images.
        MissingExtraError: matplotlib is not installed.
    """
    net = only_layer(model, None, "varifocal network", VarifocalNet)
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor (n, chans, height, width), got {type(images).__name__}")
    if not len(images):
        raise ValueError("there must be at least one image, got none")
    if not net.num_classes:
        raise ValueError("the network has no types to tell (num_classes=0)")
    if top < 1:
        raise ValueError(f"there must be a type to show, got top={top}")
    if mask is not None and not mask > 0:
        raise ValueError(f"mask must be a steepness above 0, got {mask}")
    check_names("names", names, len(images))
    chosen = picked("indices", indices, len(images), _MOST)
    types, polarities = _all_names(net, class_names, polarity_names)
    out, crops = _looked(net, images[chosen] if images.ndim == 4 else images)
    scales = _probabilities(net, out)
    assert out.box is not None
    boxes = out.box.float().cpu()
    size = (images.shape[2], images.shape[3])
    figure, axes = new_figure(3, (7.4, _HIGH * len(chosen) + 0.3), len(chosen))
    for row, index in enumerate(chosen):
        whole, near, bars = axes[3 * row : 3 * row + 3]
        picture, crop = (to_picture(one.detach().float().cpu(), mean, std) for one in (images[index], crops[row]))
        _show(whole, picture, picture)
        whole.set_title(str(index) if names is None else shorten(names[index]), fontsize=9)
        if mask is not None:
            _veil(whole, boxcar_mask(boxes[row, None], size, mask)[0, 0])
        _frame(whole, boxes[row], size)
        _show(near, crop, picture)
        near.set_title(f"crop, {crop.shape[0]}×{crop.shape[1]}", fontsize=9)
        _draw_bars(bars, {words: (own[row], colour) for words, (own, colour) in scales.items()}, types, top, row == 0)
        bars.set_title(_decision(net, out, row, scales, types, polarities), fontsize=9, loc="left")
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left", weight="bold")
    return finish(figure, path)


def _all_names(
    net: VarifocalNet, types: Sequence[str] | None, polarities: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Names of the types and of the second task; numbers where there are none."""
    check_names("class_names", types, net.num_classes)
    check_names("polarity_names", polarities, net.num_polarities)
    own = (getattr(net, "pretrained_cfg", None) or {}).get("label_names")
    found = []
    for given, kept, count in (
        (types, own, net.num_classes),
        (polarities, net.polarity_names, net.num_polarities),
    ):
        some = given if given is not None else kept
        found.append(list(map(str, some if some is not None and len(some) == count else range(count))))
    return found[0], found[1]


@torch.no_grad()
def _looked(net: VarifocalNet, images: Tensor) -> tuple[VarifocalOutput, Tensor]:
    """What the network says, in evaluation mode, and the crops, also where it is not run so far."""
    like = example_of(net, (1,))
    with evaluating(net):
        placed = images.to(like.device, like.dtype if images.is_floating_point() else None)
        out = net(placed)
    assert out.box is not None
    return out, varifocal_crop(placed, out.box, net.local_size) if out.crop is None else out.crop


def _probabilities(net: VarifocalNet, out: VarifocalOutput) -> dict[str, tuple[Tensor, str]]:
    """(n, types) and the colour of every scale that was run, the decision last."""
    found = {}
    for prefix, words, colour in _SCALES:
        logits = getattr(out, f"{prefix}type")
        if logits is not None:
            found[words] = (_shares(logits, net.temperature[0]), colour)
    return found


def _shares(logits: Tensor, temperature: float) -> Tensor:
    return (logits.float().cpu() / temperature).softmax(-1)


def _show(axes: Any, picture: Tensor, whole: Tensor) -> None:
    """A picture in pixels, from corner to corner; grey values mean the same in both of a row."""
    high, wide = picture.shape[:2]
    limits = {"cmap": "gray", "vmin": float(whole.min()), "vmax": float(whole.max())} if picture.ndim == 2 else {}
    axes.imshow(picture.numpy(), extent=(0, wide, high, 0), interpolation="nearest", **limits)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _frame(axes: Any, box: Tensor, size: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    height, width = size
    x0, y0, x1, y1 = box.tolist()
    corner = (x0 * width, y0 * height)
    edges = {"fill": False, "ec": ORANGE, "lw": 1.8, "clip_on": False}  # an edge of the image is seen, too
    axes.add_patch(Rectangle(corner, (x1 - x0) * width, (y1 - y0) * height, **edges))


def _veil(axes: Any, kept: Tensor) -> None:
    """Blue over what the mask leaves out."""
    high, wide = kept.shape
    veil = torch.tensor([0.16, 0.44, 0.73, 0.0]).repeat(high, wide, 1)
    veil[..., 3] = _VEIL * (1 - kept.clamp(0, 1))
    axes.imshow(veil.numpy(), extent=(0, wide, high, 0), interpolation="nearest")


def _draw_bars(axes: Any, scales: dict[str, tuple[Tensor, str]], types: list[str], top: int, legend: bool) -> None:
    """Probabilities of the likeliest types, a bar a scale; the likeliest on top."""
    last = list(scales.values())[-1][0]
    best = last.topk(min(top, len(last))).indices
    thick = 0.8 / len(scales)
    for place, (words, (values, colour)) in enumerate(scales.items()):
        middles = [row + (place - (len(scales) - 1) / 2) * thick for row in range(len(best))]
        axes.barh(middles, values[best].tolist(), height=thick, color=colour, label=words)
    axes.set_yticks(range(len(best)), [shorten(types[i], 14) for i in best.tolist()], fontsize=8)
    axes.set_ylim(len(best) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    if legend:
        axes.legend(frameon=False, fontsize=7, loc="lower right")


def _decision(
    net: VarifocalNet,
    out: VarifocalOutput,
    row: int,
    scales: dict[str, tuple[Tensor, str]],
    types: list[str],
    polarities: list[str],
) -> str:
    own = list(scales.values())[-1][0][row]
    text = f"{shorten(types[int(own.argmax())], 14)} ({float(own.max()):.2f})"
    if out.polarity_logits is None:
        return text
    second = _shares(out.polarity_logits[row], net.temperature[1])
    return f"{text}, {shorten(polarities[int(second.argmax())], 16)} ({float(second.max()):.2f})"
