"""Draws docs/assets/stitch.png: a stitch through three anchors' blocks, and the nine networks of the checkpoint."""

from pathlib import Path
from typing import cast

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

import zoo
from zoo.models.stitching.network import StitchNet

TEAL, ORANGE, VIOLET, GREY = "#00796b", "#ef6c00", "#5e35b1", "#bdbdbd"
ANCHORS, STITCHED = ("small", "medium", "large"), (0, 1)
DEPTH, CUT = 4, (1, 2)


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, ran: bool) -> None:
    """A part of a network, its middle at (x, y); filled if it runs."""
    shape = FancyBboxPatch((x - width / 2, y - height / 2), width, height, "round,pad=0.02,rounding_size=0.08")
    shape.set(facecolor=colour if ran else "white", edgecolor=colour if ran else GREY)
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if ran else GREY)


def draw_stitch(axes: Axes) -> None:
    """Three anchors as rows of blocks; the path runs the first blocks of one and the last of the next."""
    front, end = STITCHED
    for row, (name, colour) in enumerate(zip(ANCHORS, (TEAL, ORANGE, VIOLET), strict=True)):
        y, height = -1.5 * row, 0.5 + 0.2 * row
        axes.text(-0.85, y, name, ha="right", va="center", fontsize=9)
        parts = ["stem", *(f"block {k}" for k in range(DEPTH)), "head"]
        for place, text in enumerate(parts):
            block = place - 1
            ran = (row == front and block <= CUT[0]) or (row == end and block >= CUT[1])
            box(axes, 1.3 * place, y, 0.95, height, text, colour, ran)
            if place:
                seen = ran and (row, block) != (end, CUT[1])
                axes.plot([1.3 * place - 0.8, 1.3 * place - 0.5], [y, y], color=colour if seen else GREY, linewidth=1.2)
    start, stop = (1.3 * (CUT[0] + 1) + 0.5, -1.5 * front), (1.3 * (CUT[1] + 1) - 0.5, -1.5 * end)
    line = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=stop, xytext=start, arrowprops=line)
    axes.text((start[0] + stop[0]) / 2 + 0.25, -0.75, "stitching layer: W x + b", va="center", fontsize=9)
    axes.set_xlim(-2, 7.2)
    axes.set_ylim(-3.7, 0.6)
    axes.axis("off")
    axes.set_title("a stitch", fontsize=10)


def draw_front(axes: Axes) -> None:
    """Accuracy over FLOPs of all paths, and those that none beats at no more cost."""
    net = cast(StitchNet, zoo.create_model("snnet_vit_nano", pretrained=True))
    rows = sorted((stitch.flops or 0, stitch.top1 or 0.0, stitch.id) for stitch in net.stitches)
    front = zoo.pareto(net.stitches)
    axes.plot([s.flops / 1e6 for s in front], [s.top1 for s in front], color=GREY, linewidth=1.2, zorder=0)
    for kind, colour, marker in (("anchors", VIOLET, "s"), ("stitched", TEAL, "o")):
        chosen = [row for row in rows if (row[2] < len(net.anchors)) is (kind == "anchors")]
        x, y = [row[0] / 1e6 for row in chosen], [row[1] for row in chosen]
        axes.scatter(x, y, color=colour, marker=marker, label=kind)
    for flops, top1, number in rows:
        axes.annotate(str(number), (flops / 1e6, top1), textcoords="offset points", xytext=(4, 5), fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
    axes.minorticks_off()
    axes.margins(0.09)
    axes.set_xlabel("MFLOPs")
    axes.set_ylabel("test accuracy, %")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("snnet_vit_nano.digits: one file, nine networks", fontsize=10)


def main() -> None:
    figure, panels = plt.subplots(1, 2, figsize=(12, 3.9), width_ratios=[1.35, 1], constrained_layout=True)
    draw_stitch(panels[0])
    draw_front(panels[1])
    figure.savefig(Path(__file__).parents[1] / "assets/stitch.png", dpi=110)


if __name__ == "__main__":
    main()
