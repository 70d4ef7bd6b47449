"""Draws docs/assets/hopfield*.png: energies in the plane, digits recalled from their halves, instances of a bag."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from sklearn.datasets import load_digits
from torch import Tensor

import zoo
from zoo.explain import beta_sweep, energy_curves, top_instances
from zoo.layers.hopfield.memory import beta_for, energy, retrieve
from zoo.training.data.source import open_split

TEAL, ORANGE, GREY = "#00796b", "#ef6c00", "#9a9a9a"
PLANE = torch.tensor([8.0, 36.0, 64.0, 150.0, 185.0, 280.0]).deg2rad()
ASSETS = Path(__file__).parents[1] / "assets"
#: The upper half of an image of 8x8 pixels: what is compared.
UPPER = torch.eye(64)[:32]


def fixed_points(stored: Tensor, beta: float) -> Tensor:
    """Where states of the whole plane end."""
    side = torch.linspace(-1.1, 1.1, 23)
    starts = torch.cartesian_prod(side, side).to(stored)
    ends = retrieve(starts, stored, beta=beta, num_updates=3000)
    return torch.unique(ends.mul(100).round() / 100, dim=0)


def draw_energy(axes: Axes, beta: float, title: str) -> None:
    """The energy of six patterns on the circle, and where it has its minima."""
    stored = torch.stack([PLANE.cos(), PLANE.sin()], 1).double()
    side = torch.linspace(-1.35, 1.35, 200).double()
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    axes.contourf(side, side, energy(grid, stored, beta=beta), 24, cmap="BuGn_r")
    for start in torch.tensor([[0.5, -0.9], [-1.2, -0.8], [-0.3, 1.2], [1.2, 1.0], [0.2, 0.25]]).double():
        path = [start, *(retrieve(start, stored, beta=beta, num_updates=n) for n in (1, 2, 3, 5, 8, 13, 21, 34, 55))]
        axes.plot(*torch.stack(path).T, color="#333333", linewidth=0.9)
        axes.plot(*start, "o", color="#333333", markersize=2.5)
    axes.plot(*stored.T, "x", color="black", markersize=6, label="stored")
    ends = fixed_points(stored, beta)
    axes.plot(*ends.T, "o", color=ORANGE, markeredgecolor="white", markersize=6.5, label="fixed point")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=10)


def draw_digits(axes: Axes, stored: Tensor, betas: dict[str, float]) -> None:
    """Four digits: the half that is known, and what one update makes of it."""
    rows = torch.tensor([8, 15, 23, 36])
    half = stored[rows] * UPPER.sum(0)
    how = {"similarity": "neg_sq_l2", "feature_map": UPPER}
    recalled = [retrieve(half, stored, beta=beta, **how) for beta in betas.values()]
    for column, images in enumerate([half, *recalled, stored[rows]]):
        for row, image in enumerate(images.view(-1, 8, 8)):
            left = column * 1.12 + 0.35 * (column > 0) + 0.35 * (column > len(betas))
            axes.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(left, left + 1, row * 1.1 + 1, row * 1.1))
        name = ["the half", *betas, "stored"][column]
        axes.text(left + 0.5, -0.12, name, ha="center", va="bottom", fontsize=8)
    axes.set_xlim(-0.1, left + 1.1)
    axes.set_ylim(len(rows) * 1.1, -0.1)
    axes.set_axis_off()
    axes.set_title("recalled from the upper half, in one update", fontsize=10, pad=16)


def draw_shares(axes: Axes, stored: Tensor, marks: dict[str, float]) -> None:
    """How many of 1,000 digits come back from their halves."""
    half, betas = stored * UPPER.sum(0), torch.logspace(-1.5, 3, 40)
    for association, colour, side, place in (
        ("softmax", TEAL, "left", (13, 52)),
        ("sparsemax", ORANGE, "right", (3.5, 85)),
    ):
        how = {"similarity": "neg_sq_l2", "feature_map": UPPER, "association": association}
        lost = torch.stack([(retrieve(half, stored, beta=float(beta), **how) - stored).norm(dim=1) for beta in betas])
        share = (lost <= 0.01 * stored.norm(dim=1)).float().mean(1)
        axes.plot(betas, 100 * share, color=colour)
        axes.text(*place, association, color=colour, fontsize=9, ha=side, va="center")
    for name, beta in marks.items():
        axes.axvline(beta, color=GREY, linestyle="--", linewidth=1, zorder=0)
        axes.annotate(name, (beta, 18), (-3, 0), textcoords="offset points", rotation=90, fontsize=8, ha="right",
                      va="center", color="#555555")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("β")
    axes.set_title("% of 1,000 digits recalled within 1%", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def draw_family(stored: Tensor) -> None:
    enough = beta_for(0.01 * float(stored.norm(dim=1).max()), stored, similarity="neg_sq_l2", feature_map=UPPER)
    figure = plt.figure(figsize=(14.5, 3.4), layout="constrained")
    panels: Any = figure.subfigures(1, 3, width_ratios=[2.25, 1.65, 1.1])
    landscapes = panels[0].subplots(1, 3)
    betas = {1.0: "one average", 6.0: "cluster averages", 120.0: "patterns"}
    for axes, (beta, what) in zip(landscapes, betas.items(), strict=True):
        draw_energy(axes, beta, f"β = {beta:g}: {what}")
    landscapes[0].legend(fontsize=7, loc="lower left", framealpha=0.7)
    shown = {"β = 1/8": 1 / 8, "β = 2": 2.0, "β = 20": 20.0, f"β = {enough:.0f}": enough}
    draw_digits(panels[1].subplots(), stored, shown)
    draw_shares(panels[2].subplots(), stored, {"1/√64": 1 / 8, "beta_for": enough})
    figure.savefig(ASSETS / "hopfield.png", dpi=110)


def draw_explained(stored: Tensor) -> None:
    """What docs/guides/recall.md draws with zoo.explain."""
    how = {"similarity": "neg_sq_l2", "feature_map": UPPER}
    small(beta_sweep(stored, stored * UPPER.sum(0), torch.arange(len(stored)), **how), "hopfield_beta_sweep.png")
    unit = stored - stored.mean(0)
    unit = unit / unit.norm(dim=1, keepdim=True)
    torch.manual_seed(0)
    start = unit + 0.1 * torch.randn_like(unit)
    small(energy_curves(unit, start, beta=20, association=["softmax", "entmax", "sparsemax"]), "hopfield_energy.png")


def draw_instances() -> None:
    """A bag of clothes that holds an ankle boot: which images the answer was made of."""
    model = zoo.create_model("hopfield_mnist_bags.fashion", pretrained=True)
    bags = open_split("fashion_mnist_bags", "test").images
    positive = next(i for i in range(len(bags)) if bags.labels[i] == 1)
    small(top_instances(model, bags.subset([positive], "one"), top=8), "hopfield_instances.png")


def small(figure: Any, name: str) -> None:
    figure.savefig(ASSETS / name, dpi=90)


def main() -> None:
    stored = torch.tensor(load_digits(return_X_y=True)[0][:1000], dtype=torch.float32) / 16
    draw_family(stored)
    draw_explained(stored)
    draw_instances()


if __name__ == "__main__":
    main()
