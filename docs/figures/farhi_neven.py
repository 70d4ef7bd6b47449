"""Draws docs/assets/farhi_neven.png: the circuit, its phases, the sine that it is, and the amplitude of wide inputs.

It wants the files of Fashion-MNIST, see `zoo.training.data.fashion_mnist`.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import zoo
from zoo.quantum import QNN
from zoo.training import open_data

NAMES = ("T-shirt/top", "trouser")
TEAL, ORANGE, VIOLET, GREY = "#00796b", "#ef6c00", "#5e35b1", "#9e9e9e"


def draw_circuit(axes: Axes) -> None:
    """Three data qubits and the readout: a ZX layer, then an XX layer."""
    names = ["$z_1$", "$z_2$", "$z_3$", "readout"]
    for wire, name in enumerate(names):
        axes.plot([0, 7.6], [-wire, -wire], color="black", linewidth=0.8, zorder=0)
        axes.text(-0.2, -wire, name, ha="right", va="center", fontsize=9)
    for k in range(6):
        x, wire, letter = 0.9 + 1.1 * k, k % 3, "ZX"[k // 3]
        colour = TEAL if letter == "Z" else ORANGE
        axes.plot([x, x], [-wire, -3], color=colour, linewidth=1.5, zorder=1)
        for y, text in ((-wire, letter), (-3, "X")):
            box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour}
            axes.text(x, y, text, ha="center", va="center", fontsize=9, bbox=box, zorder=2)
    axes.text(7.8, -3, "⟨Y⟩", va="center", fontsize=10)
    axes.set_xlim(-1.6, 8.6)
    axes.set_ylim(-3.6, 0.6)
    axes.axis("off")
    axes.set_title("exp(iθ ZX), then exp(iθ XX)", fontsize=10)


@torch.no_grad()
def draw_phases(axes: Axes) -> None:
    """The 784 phases of the network that tells T-shirts from trousers."""
    form = zoo.create_model("qnn_farhi_neven_785q", pretrained=True).qnn.phases_and_amplitude()
    limit = float(form.phases.abs().max())
    picture = axes.imshow(form.phases.reshape(28, 28), cmap="PuOr_r", vmin=-limit, vmax=limit)
    axes.figure.colorbar(picture, ax=axes, shrink=0.85)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"785 qubits: phases, amplitude {float(form.amplitude):.2f}", fontsize=10)


@torch.no_grad()
def draw_sine(axes: Axes) -> None:
    """Where the test images lie on the linear form, and the prediction over it."""
    model = zoo.create_model("qnn_farhi_neven_785q", pretrained=True).eval()
    form = model.qnn.phases_and_amplitude()
    images, labels = zip(*open_data(f"fashion_mnist?classes={','.join(NAMES)}", "test", model=model), strict=True)
    bits, labels = model.bits(torch.stack(images)), torch.tensor(labels)
    place = (1 - 2 * bits.double()) @ form.phases
    assert torch.allclose(-form.amplitude * place.sin(), model(bits).double(), atol=1e-5)
    ends = float(place.min()), float(place.max())
    line = torch.linspace(*ends, 300)
    axes.plot(line, -float(form.amplitude) * line.sin(), color="black", linewidth=1.2)
    behind = axes.twinx()
    for k, colour in enumerate((ORANGE, TEAL)):
        behind.hist(place[labels == k], bins=60, range=ends, color=colour, alpha=0.45, label=NAMES[k])
    behind.set_yticks([])
    behind.set_ylim(0, 400)
    behind.legend(frameon=False, fontsize=8, loc="upper right")
    behind.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    axes.set_xlabel("linear form of the bits")
    axes.set_title("prediction, and test images behind it", fontsize=10)


@torch.no_grad()
def draw_amplitude(axes: Axes) -> None:
    """The amplitude at the start, over the number of data qubits."""
    sizes = [2**k for k in range(1, 11)]
    limits = {"U(−0.5/n, 0.5/n)": lambda n: 0.5 / n, "U(−0.1, 0.1)": lambda n: 0.1, "U(−0.3, 0.3)": lambda n: 0.3}
    for (name, limit), colour in zip(limits.items(), (TEAL, ORANGE, VIOLET), strict=True):
        torch.manual_seed(0)
        found = [
            float(QNN(n, init=(-limit(n), limit(n)), dtype=torch.float64).phases_and_amplitude().amplitude)
            for n in sizes
        ]
        axes.plot(sizes, found, "o-", color=colour, markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(1e-16, 3)
    axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("data qubits n")
    axes.set_title("amplitude at the start", fontsize=10)


def main() -> None:
    figure, panels = plt.subplots(1, 4, figsize=(15, 3.5), width_ratios=[1.15, 1, 1, 1], constrained_layout=True)
    draw_circuit(panels[0])
    draw_phases(panels[1])
    draw_sine(panels[2])
    draw_amplitude(panels[3])
    for axes in panels[2:]:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).parents[1] / "assets/farhi_neven.png", dpi=110)


if __name__ == "__main__":
    main()
