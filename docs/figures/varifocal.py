"""Draws docs/assets/varifocal.png, how a varifocal network looks twice, and with the embedded checkpoint
varifocal_regions.png, where it looked again, and varifocal_karyogram.png, a case with three chromosomes 21.

All chromosomes are rendered: drawn by a program, of no patient.
"""

import dataclasses
from pathlib import Path
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

import zoo
from zoo import explain
from zoo.layers.varifocal import foreground_region, square_box, varifocal_crop
from zoo.models.varifocal import VarifocalNet
from zoo.training.data.chromosome_transform import ChromosomeToTensor
from zoo.training.data.rendered_chromosomes import RenderedCase, render_case

ASSETS = Path(__file__).parents[1] / "assets"
TEAL, ORANGE, VIOLET, GREY = "#00796b", "#ef6c00", "#5e35b1", "#9e9e9e"
#: Seeds of cases that no checkpoint has seen.
SCHEME, REGIONS, KARYOGRAM = 3_000_000, 3_000_012, 3_000_015


def images_of(case: RenderedCase, size: int = 64) -> Tensor:
    """(N, 1, size, size), as a network takes them."""
    prepare = ChromosomeToTensor(size)
    return torch.stack([prepare(case.picture(index, size)) for index in range(len(case.kinds))])


def three_of_21(seed: int) -> RenderedCase:
    """A case with one chromosome 21 too many."""
    case = render_case(seed)
    draw = np.random.RandomState(seed % 2**32)
    order = draw.permutation(len(case.kinds) + 1)
    kinds, inverted = np.append(case.kinds, 20)[order], np.append(case.inverted, draw.rand() < 0.5)[order]
    return dataclasses.replace(case, kinds=kinds, inverted=inverted)


def part(axes: Axes, x: float, y: float, text: str, colour: str, wide: float = 1.3) -> None:
    """A part of the network, its middle at (x, y)."""
    shape = FancyBboxPatch((x - wide / 2, y - 0.32), wide, 0.64, "round,pad=0.02,rounding_size=0.1")
    shape.set(facecolor=colour, edgecolor=colour)
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=9, color="white")


def arrow(axes: Axes, start: tuple[float, float], stop: tuple[float, float], text: str = "", bend: float = 0.0) -> None:
    line = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=stop, xytext=start, arrowprops={**line, "connectionstyle": f"arc3,rad={bend}"})
    axes.text((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2 + 0.1, text, ha="center", va="bottom", fontsize=8)


def draw_scheme() -> None:
    """The image, its box and the crop; two networks, the decision on both, and the case."""
    case = render_case(SCHEME)
    image = images_of(case)[int(np.flatnonzero(case.kinds == 2)[0])][None]
    box = square_box(foreground_region(image, 0.2))
    crop = varifocal_crop(image, box, 32)
    figure, axes = plt.subplots(figsize=(11, 3.9), layout="constrained")
    shown: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": float(image.max()), "interpolation": "nearest"}
    axes.imshow(image[0, 0].numpy(), extent=(0, 2, 1.1, 3.1), **shown)
    x0, y0, x1, _ = box[0].tolist()
    frame = Rectangle((2 * x0, 3.1 - 2 * y0), 2 * (x1 - x0), -2 * (x1 - x0))
    frame.set(fill=False, edgecolor=ORANGE, linewidth=2)
    axes.add_patch(frame)
    axes.imshow(crop[0, 0].numpy(), extent=(2.6, 3.8, -0.6, 0.6), **shown)
    axes.text(1, 0.98, "image", ha="center", va="top", fontsize=9)
    axes.text(3.2, -0.7, "crop, resampled", ha="center", va="top", fontsize=9)
    part(axes, 3.2, 2.1, "G-Net", TEAL)
    part(axes, 5.4, 0, "L-Net", ORANGE)
    part(axes, 7.5, 1.05, "MLPs", VIOLET)
    part(axes, 10.3, 1.05, "dispatch", GREY)
    arrow(axes, (2.05, 2.1), (2.5, 2.1))
    arrow(axes, (3.2, 1.75), (3.2, 0.66))
    axes.text(3.3, 1.2, "u: a box", fontsize=8, va="center")
    arrow(axes, (3.85, 0), (4.7, 0))
    arrow(axes, (3.9, 2.1), (6.8, 1.2))
    arrow(axes, (6.1, 0.1), (6.8, 0.9))
    axes.text(5.6, 1.8, "features", ha="center", fontsize=8)
    axes.text(6.6, 0.35, "features", ha="left", va="center", fontsize=8)
    arrow(axes, (8.2, 1.05), (9.6, 1.05), "type, polarity")
    axes.text(10.3, 0.62, "with all others\nof the case: 46,XY", ha="center", va="top", fontsize=8)
    axes.plot((5.4, 5.4, 2.3, 2.3), (-0.36, -1.1, -1.1, 1.6), color=ORANGE, linewidth=1.1, linestyle="--")
    axes.annotate(
        "", (2.6, 1.85), (2.3, 1.55), arrowprops={"arrowstyle": "-|>", "color": ORANGE, "shrinkA": 0, "shrinkB": 0}
    )
    axes.text(
        3.85, -1.2, "the loss of L-Net teaches G-Net where to look", ha="center", va="top", fontsize=8, color=ORANGE
    )
    axes.set_xlim(-0.1, 11.1)
    axes.set_ylim(-1.6, 3.2)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(ASSETS / "varifocal.png", dpi=110)
    plt.close(figure)


def draw_regions(net: VarifocalNet) -> None:
    """Where the checkpoint looked again: a long chromosome, a middling and a short one."""
    case = render_case(REGIONS)
    chosen = [int(np.flatnonzero(case.kinds == kind)[0]) for kind in (0, 7, 19)]
    sides = ["down" if case.inverted[i] else "up" for i in chosen]
    names = [f"{zoo.karyotype.HUMAN.names[case.kinds[i]]}, {side}" for i, side in zip(chosen, sides, strict=True)]
    explain.plot_regions(net, images_of(case)[chosen], names=names, path=ASSETS / "varifocal_regions.png")


def draw_karyogram(net: VarifocalNet) -> None:
    """A case of 47 as the checkpoint and the dispatch see it."""
    case = three_of_21(KARYOGRAM)
    images = images_of(case)
    found = net.predict_case(images)
    print(found)
    print("wrong:", np.flatnonzero(found.types != case.kinds).tolist())
    with torch.inference_mode():
        polarity = cast(Tensor, net(images).polarity_logits).argmax(1)
    explain.plot_karyogram(images, found, polarity=polarity, path=ASSETS / "varifocal_karyogram.png")


def main() -> None:
    draw_scheme()
    net = cast(VarifocalNet, zoo.create_model("varifocal_chromosome_nano", pretrained=True).eval())
    draw_regions(net)
    draw_karyogram(net)


if __name__ == "__main__":
    main()
