"""Draws docs/assets/quantum.png: a circuit, an expectation over two of its weights, and a barren plateau."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from zoo import quantum as zq
from zoo.quantum.drawing import draw_on

TEAL, GREY = "#00796b", "#777777"
ASSETS = Path(__file__).parents[1] / "assets"
WIDTHS = (2, 4, 6, 8, 10)


def draw_landscape(axes: Axes, circuit: zq.Circuit) -> None:
    """Z0 Z1 over two weights, the others fixed."""
    weights = 2 * torch.pi * torch.rand(circuit.n_weights, generator=torch.Generator().manual_seed(3))
    found = zq.landscape(lambda w: circuit.expval("Z0 Z1", w), weights, (1, 4), steps=61, batched=True)
    axes.contourf(found.second, found.first, found.values, levels=21, cmap="BrBG")
    axes.set_xlabel("change of weight 4", fontsize=9)
    axes.set_ylabel("change of weight 1", fontsize=9)
    axes.set_title("⟨Z₀Z₁⟩ over two weights", fontsize=10)


def draw_plateau(axes: Axes) -> None:
    """How the variance of a gradient falls with the width, from random weights and from the default start."""
    for name, start, colour in (
        ("weights over a full turn", None, GREY),
        ("the default start, near zero", lambda u: 0.01 * torch.pi * 2**0.5 * torch.erfinv(2 * u - 1), TEAL),
    ):
        found = zq.gradient_variance(
            "strongly_entangling",
            WIDTHS,
            observable="X0",
            start=start,
            samples=100,
            generator=torch.Generator().manual_seed(0),
        )
        axes.semilogy(found.widths, found.variances, "o-", color=colour, label=name)
    axes.set_xlabel("qubits", fontsize=9)
    axes.set_title("variance of the gradient of ⟨X₀⟩, 10 layers", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def main() -> None:
    circuit = zq.ansatz("strongly_entangling", 3, 2)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.4), width_ratios=(1.5, 1, 1.2))
    draw_on(left, circuit)
    draw_landscape(middle, circuit)
    draw_plateau(right)
    figure.tight_layout()
    figure.savefig(ASSETS / "quantum.png", dpi=110)


if __name__ == "__main__":
    main()
