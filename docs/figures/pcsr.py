"""Draws docs/assets/pcsr.png: a part of a photograph that the checkpoint never saw, enlarged by it."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

import zoo
from zoo.layers.bicubic import bicubic_downscale
from zoo.training.super_resolution.photos import in_steps, made_small

SCALE, BUDGET = 4, 0.7
#: Rows and columns of the photograph that are shown.
SHOWN = (slice(96, 256), slice(176, 416))


def as_array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def main() -> None:
    whole = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    height, width = (side // SCALE * SCALE for side in whole.shape[1:])
    large = whole[:, :height, :width].contiguous()
    small = made_small(large, SCALE)
    bicubic = in_steps(bicubic_downscale(small.float() / 255, (height, width)))
    net = zoo.create_model("pcsr_srresnet_nano_x4", pretrained=True)
    made = zoo.upscale(net, as_array(small), budget=BUDGET)
    pictures = {
        "bicubic": as_array(bicubic),
        f"ours, {made.facts['flops_share']:.0%} of the FLOPs": np.asarray(made.image),
        f"classes: {made.facts['hard']:.0%} hard, in red": np.asarray(made.overlay()),
        "photograph": as_array(large),
    }
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
    for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
        axis.imshow(picture[SHOWN])
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    target = Path(__file__).parents[1] / "assets" / "pcsr.png"
    figure.savefig(target, dpi=110)
    plt.close(figure)
    with Image.open(target) as image:
        image.convert("RGB").quantize(192).save(target, optimize=True)


if __name__ == "__main__":
    main()
