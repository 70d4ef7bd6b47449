"""Draws docs/assets/qtn.png: the three topologies; the amino acids as states; answers as peptides are read."""

from pathlib import Path
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import zoo
from zoo.models.qtn import SequenceQTN
from zoo.training.data import open_splits
from zoo.training.data.sequences import SequenceSet

TEAL, ORANGE, GREY = "#00796b", "#ef6c00", "#9a9a9a"
ASSETS = Path(__file__).parents[1] / "assets"
#: Amino acids that shun water, and those with a charge.
GREASY, CHARGED = "AVLIMFW", "KRHDE"


def box(axes: Axes, x: float, y: float, color: str = TEAL) -> tuple[float, float]:
    """A square that merges or joins; its place."""
    axes.plot(x, y, "s", color=color, markersize=9, zorder=3)
    return x, y


def wire(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.plot([start[0], end[0]], [start[1], end[1]], color=GREY, linewidth=1.2, zorder=1)


def words(axes: Axes, left: float, bottom: float, count: int) -> list[tuple[float, float]]:
    """The words of a sequence, as dots in a row."""
    places = [(left + k, bottom) for k in range(count)]
    axes.plot(*zip(*places, strict=True), "o", color="#333333", markersize=5, linestyle="none", zorder=3)
    return places


def merge(axes: Axes, left: tuple[float, float], right: tuple[float, float], height: float) -> tuple[float, float]:
    made = box(axes, (left[0] + right[0]) / 2, height)
    wire(axes, left, made)
    wire(axes, right, made)
    return made


def draw_topologies(axes: Axes) -> None:
    """A path, a tree and a convolutional tree over four, eight and eight words."""
    state, *rest = words(axes, 0, 0, 5)
    for k, word in enumerate(rest):
        made = box(axes, word[0], 0.8 + 0.75 * k)
        wire(axes, state, made)
        wire(axes, word, made)
        state = made
    wire(axes, state, (state[0], state[1] + 0.6))
    for left, across in ((6.0, False), (14.5, True)):
        level, height = words(axes, left, 0, 8), 0.0
        while len(level) > 1:
            if across and len(level) > 2:
                height += 0.65
                raised = [(x, height) for x, _ in level]
                for low, high in zip(level, raised, strict=True):
                    wire(axes, low, high)
                for one, other in zip(raised[1:-1:2], raised[2::2], strict=True):
                    axes.plot([one[0], other[0]], [height, height], color=ORANGE, linewidth=5, zorder=2)
                level = raised
            height += 0.95
            level = [merge(axes, *level[k : k + 2], height) for k in range(0, len(level), 2)]
        wire(axes, level[0], (level[0][0], height + 0.6))
    for x, text in ((2.0, "path"), (9.5, "tree"), (18.0, "convolutional tree")):
        axes.text(x, -0.9, text, ha="center", fontsize=9)
    axes.set_ylim(-1.4, 5.4)
    axes.axis("off")


def draw_words(axes: Axes, net: SequenceQTN) -> None:
    """Bloch vectors of the words, seen along y."""
    turn = torch.linspace(0, 2 * torch.pi, 200)
    axes.plot(turn.cos(), turn.sin(), color=GREY, linewidth=0.8)
    states = net.tensors().words.detach()
    x = 2 * (states[:, 0].conj() * states[:, 1]).real
    z = states[:, 0].abs().square() - states[:, 1].abs().square()
    for k, letter in enumerate(net.tokenizer.alphabet):
        color = ORANGE if letter in GREASY else TEAL if letter in CHARGED else "#333333"
        axes.text(float(x[k]), float(z[k]), letter, color=color, ha="center", va="center", fontsize=9, weight="bold")
    axes.set_aspect("equal")
    axes.set_title("words: ⟨X⟩ and ⟨Z⟩ of each amino acid", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_frame_on(False)


def draw_answers(axes: Axes, net: SequenceQTN) -> None:
    """The chance of the first class after 2, 3, ... words, for ten test peptides of either class."""
    test: Any = open_splits("peptides").test
    assert isinstance(test, SequenceSet)
    for label, color in ((0, TEAL), (1, ORANGE)):
        for k in [k for k in range(len(test)) if test.labels[k] == label][:10]:
            tokens = torch.tensor(net.tokenizer.encode(test.texts[k])[: net.max_len])
            lengths = torch.arange(2, len(tokens) + 1)
            with torch.no_grad():
                chances = net(tokens.expand(len(lengths), -1), lengths)[:, 0]
            axes.plot(lengths, chances, color=color, linewidth=0.9, alpha=0.8)
    axes.set_xlabel("amino acids read", fontsize=8)
    axes.set_title("probability of AMP: peptides (green), segments", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    net = cast(SequenceQTN, zoo.create_model("qtn_uptn_aa.peptides", pretrained=True).eval())
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), width_ratios=[2.2, 1, 1.4], layout="constrained")
    draw_topologies(axes[0])
    draw_words(axes[1], net)
    draw_answers(axes[2], net)
    figure.savefig(ASSETS / "qtn.png", dpi=120)


if __name__ == "__main__":
    main()
