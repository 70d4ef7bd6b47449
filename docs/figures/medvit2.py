"""Draws docs/assets/medvit2.png: what a query sees, and the bases of the KAN; both asked of the layers themselves."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from zoo.layers.kan import switch_basis
from zoo.layers.neighborhood import neighborhood_attention

TEAL, GREY, ORANGE = "#00796b", "#e6e6e6", "#ef6c00"
SIDE, KERNEL = 14, 5


def keys_of(query: tuple[int, int], dilation: int) -> torch.Tensor:
    """Which values the output at `query` depends on: those with a gradient."""
    q = torch.zeros(1, SIDE, SIDE, 1, 1)
    v = torch.zeros(1, SIDE, SIDE, 1, 1, requires_grad=True)
    neighborhood_attention(q, q, v, kernel_size=KERNEL, dilation=dilation)[0, query[0], query[1]].sum().backward()
    assert v.grad is not None
    return v.grad[0, :, :, 0, 0] > 0


def draw_neighbourhood(axes: Axes, query: tuple[int, int], dilation: int, title: str) -> None:
    axes.imshow(torch.zeros(SIDE, SIDE), cmap="Greys", vmin=0, vmax=1)
    for row, column in keys_of(query, dilation).nonzero().tolist():
        axes.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, color=TEAL))
    axes.add_patch(plt.Circle((query[1], query[0]), 0.33, fill=False, color=ORANGE, linewidth=2.5))
    axes.set_xticks([i - 0.5 for i in range(SIDE + 1)], [])
    axes.set_yticks([i - 0.5 for i in range(SIDE + 1)], [])
    axes.grid(color=GREY)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10)


def main() -> None:
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.4), width_ratios=[1, 1, 1, 1.5], constrained_layout=True)
    draw_neighbourhood(panels[0], (6, 6), 1, "K = 5, D = 1")
    draw_neighbourhood(panels[1], (0, 13), 1, "at a corner: shifted, not padded")
    draw_neighbourhood(panels[2], (6, 6), 2, "K = 5, D = 2")
    u = torch.linspace(-3, 3, 400)
    basis = switch_basis(u[:, None], torch.linspace(-2, 2, 8), 1 / 0.33)[:, 0]
    for j in range(8):
        panels[3].plot(u, basis[:, j], color=plt.get_cmap("viridis")(j / 7))
    panels[3].set_title("the eight bases of the switch KAN: sech²((u − g)/0.33)", fontsize=10)
    panels[3].set_xlabel("u, layer-normalised input")
    panels[3].set_ylabel("φ(u)")
    panels[3].spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).parents[1] / "assets/medvit2.png", dpi=110)


if __name__ == "__main__":
    main()
