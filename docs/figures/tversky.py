"""Draws docs/assets/tversky.png: two things as sets of features, one feature's part, and exclusive or by one layer."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch.nn.functional import cross_entropy

from zoo.layers.tversky import TverskyProjection, tversky_similarity

TEAL, ORANGE, VIOLET, GREY = "#00796b", "#ef6c00", "#5e35b1", "#cfcfcf"


def draw_sets(axes: Axes) -> None:
    """Measures of an input and of a prototype in twelve features, coloured by what they count as."""
    a = torch.tensor([1.6, 0.9, -0.7, 1.2, -0.4, 0.5, -1.1, 0.8, -0.3, 1.9, -0.6, 0.4])
    q = torch.tensor([1.1, 1.4, 0.9, -0.8, 1.3, -0.5, -0.7, 1.0, 0.6, -0.9, -0.4, 1.2])
    similarity = float(tversky_similarity(a[None], q[None], torch.eye(len(a))))
    for k, (ours, theirs) in enumerate(zip(a.tolist(), q.tolist(), strict=True)):
        both = ours > 0 and theirs > 0
        axes.bar(k, max(ours, 0), color=TEAL if both else ORANGE, width=0.75)
        axes.bar(k, -max(theirs, 0), color=TEAL if both else VIOLET, width=0.75)
        if ours <= 0 and theirs <= 0:
            axes.plot(k, 0, "x", color="grey")
    axes.axhline(0, color="black", linewidth=0.8, zorder=0)
    for colour, label in ((TEAL, "common, θ"), (ORANGE, "input only, −α"), (VIOLET, "prototype only, −β")):
        axes.bar(0, 0, color=colour, label=label)
    axes.set_ylim(-2.1, 2.1)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", columnspacing=1.0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel("prototype ↓      measure      ↑ input")
    axes.set_title(f"two sets of features: S = {similarity:.2f}", fontsize=10)


def draw_feature(axes: Axes) -> None:
    """What one feature adds, as its measure in the input grows; the prototype has it with measure 1."""
    a = torch.linspace(-1.5, 3, 500)[:, None]
    one = torch.ones(1, 1)
    for colour, intersection, difference in (
        (TEAL, "product", "ignorematch"),
        (ORANGE, "product", "substractmatch"),
        (VIOLET, "min", "substractmatch"),
    ):
        s = tversky_similarity(a, one, one, intersection=intersection, difference=difference)[:, 0]
        axes.plot(a[:, 0], s, color=colour, label=f"{intersection} + {difference}")
    axes.axvline(0, color=GREY, zorder=0)
    axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("measure in the input")
    axes.set_title("one feature's part, prototype's measure 1", fontsize=10)


def draw_exclusive_or(axes: Axes) -> None:
    """What a layer with two prototypes over 16 features, trained on four points, says of the plane."""
    torch.manual_seed(1)
    points, labels = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([0, 1, 1, 0])
    layer = TverskyProjection(2, 2, 16, difference="substractmatch", init="uniform")
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        cross_entropy(layer(points), labels).backward()
        optimizer.step()
    side = torch.linspace(-0.4, 1.4, 300)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    with torch.no_grad():
        assert torch.equal(layer(points).argmax(1), labels)
        chance = layer(grid).softmax(-1)[..., 1]
    axes.imshow(chance, origin="lower", extent=(-0.4, 1.4, -0.4, 1.4), cmap="PuOr_r", vmin=0, vmax=1, alpha=0.8)
    for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
        axes.plot(x, y, "o" if label else "s", color="white", markeredgecolor="black", markersize=8)
    axes.set_xticks([0, 1])
    axes.set_yticks([0, 1])
    axes.set_title("exclusive or, by one layer", fontsize=10)


def main() -> None:
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.8), width_ratios=[1.3, 1.3, 1], constrained_layout=True)
    draw_sets(panels[0])
    draw_feature(panels[1])
    draw_exclusive_or(panels[2])
    for axes in panels[:2]:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).parents[1] / "assets/tversky.png", dpi=110)


if __name__ == "__main__":
    main()
