"""Draws docs/assets/kan.png, a KAN that learns a formula, and the pictures of `kan_breast_cancer.wdbc`."""

import runpy
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn.functional import mse_loss

import zoo
from zoo import explain
from zoo.layers.kan import KAN

TEAL, ORANGE, VIOLET, GREY = "#00796b", "#ef6c00", "#5e35b1", "#cfcfcf"
ASSETS, ROOT = Path(__file__).parents[1] / "assets", Path(__file__).parents[2]


def formula(x: Tensor) -> Tensor:
    """What the network learns."""
    return torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2


def train() -> KAN:
    """A KAN without hidden nodes on 300 points of the formula."""
    torch.manual_seed(0)
    x = 2 * torch.rand(300, 2) - 1
    kan = KAN([2, 1], grid_size=6)
    optimizer = torch.optim.Adam(kan.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        mse_loss(kan(x), formula(x)).backward()
        optimizer.step()
    return kan


def draw_basis(axes: Axes, kan: KAN) -> None:
    """One curve as the sum of its B-splines and its base branch."""
    layer: Any = kan.layers[0]
    u = torch.linspace(-1, 1, 300)
    bases = layer.basis(u[:, None].expand(-1, 2))[:, 0] * layer.scaled_weight()[0, 0]
    for k in range(bases.shape[1]):
        axes.plot(u, bases[:, k], color=GREY, lw=1, label="B-splines" if k == 0 else None)
    axes.plot(u, layer.base_weight[0, 0] * layer.base_activation(u), color=ORANGE, lw=1.4, label="base branch")
    axes.plot(u, layer.edge_curve(u, 0, 0), color=TEAL, lw=2.2, label="their sum, φ")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("a curve on an edge", fontsize=10)


def draw_learned(axes: Axes, kan: KAN) -> None:
    """The two curves beside the terms of the formula, each around its mean."""
    u = torch.linspace(-1, 1, 300)
    for i, (wanted, colour, name) in enumerate(((torch.sin(torch.pi * u), TEAL, "sin(πx₁)"), (u**2, VIOLET, "x₂²"))):
        curve: Tensor = kan.layers[0].edge_curve(u, i, 0)  # pyright: ignore[reportCallIssue]
        axes.plot(u, curve - curve.mean(), color=colour, lw=2.2, label=f"φ of x{'₁₂'[i]}")
        axes.plot(u, wanted - wanted.mean(), color="black", lw=1, ls=":", label=name)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    axes.set_title("learned from sin(πx₁) + x₂²", fontsize=10)


def draw_bases(axes: Axes) -> None:
    """One function of each basis."""
    u = torch.linspace(-2.5, 2.5, 300)
    named = {"bspline": TEAL, "gaussian": ORANGE, "switch": VIOLET, "chebyshev": "#777777"}
    for basis, colour in named.items():
        layer = zoo.create_module("head/kan", 1, 1, basis=basis, norm=None)
        functions = layer.basis(u[:, None])[:, 0]
        axes.plot(u, functions[:, functions.shape[1] // 2], color=colour, lw=1.8, label=basis)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("a function of each basis", fontsize=10)


def draw_table() -> None:
    """The network of the breast cancer table, its curves, and what its measurements are worth."""
    table = runpy.run_path(str(ROOT / "weights/kan_tabular.py"))["table"]
    model: Any = zoo.create_model("kan_breast_cancer.wdbc", pretrained=True).eval()
    x, y = table("train")
    small(explain.network_graph(model, x), "kan_network.png")
    small(explain.edge_curves(model, x), "kan_curves.png")
    methods = ("l1", "sensitivity", "knockout")
    scores = {method: explain.feature_scores(model, x, y, method=method) for method in methods}
    small(explain.importance_chart(scores, model.feature_names, top=14), "kan_importances.png")


def small(figure: Any, name: str) -> None:
    figure.savefig(ASSETS / name, dpi=80)


@torch.no_grad()
def draw(kan: KAN) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(13, 3.6), constrained_layout=True)
    draw_bases(panels[0])
    draw_basis(panels[1], kan)
    draw_learned(panels[2], kan)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(ASSETS / "kan.png", dpi=110)


def main() -> None:
    draw(train())
    draw_table()


if __name__ == "__main__":
    main()
