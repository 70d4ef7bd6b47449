"""A learning check, not a timing: stitched paths as drawn, from least squares, and trained for five epochs.

`python -m benchmarks.stitch_learning` prints a Markdown table. The network is `snnet_vit_nano`, trained as in
`weights/stitch.py`, but for one learning rate, fewer epochs, and 100 images for the stitching layers.
"""

import runpy
from pathlib import Path
from statistics import mean
from typing import Any, cast

import torch

import zoo
from benchmarks._measure import table
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.sampling import StitchSampler

SCRIPT = Path(__file__).parents[1] / "weights/stitch.py"
SEEDS = (0, 1, 2)
ANCHOR_RATE, ANCHOR_EPOCHS = 2e-3, 25
JOINT_RATE, JOINT_EPOCHS = 2e-4, 5
INIT_IMAGES = 100
#: Stages of learning, in order.
STAGES = ("as drawn", "least squares", "5 epochs")


def learn(seed: int) -> dict[str, list[float]]:
    """Test accuracies of all paths at every stage."""
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    torch.manual_seed(seed)
    net = cast(StitchNet, zoo.create_model("snnet_vit_nano"))
    training, test = script["split_of"](net, "train"), script["split_of"](net, "test")
    for anchor in net.anchors:
        list(script["epochs"](anchor, training, ANCHOR_RATE, ANCHOR_EPOCHS))
    found = [script["accuracies"](net, test)]
    net.init_stitches(training.images, num_samples=INIT_IMAGES)
    found.append(script["accuracies"](net, test))
    list(script["epochs"](net, training, JOINT_RATE, JOINT_EPOCHS, sampler=StitchSampler(net, seed=seed)))
    found.append(script["accuracies"](net, test))
    return dict(zip(STAGES, found, strict=True))


def main() -> None:
    torch.set_num_threads(1)
    runs = [learn(seed) for seed in SEEDS]
    net = cast(StitchNet, zoo.create_model("snnet_vit_nano"))
    rows = []
    for stitch in net.stitches:
        widths = [str(net.anchors[a].embed_dim) for a in stitch.anchors]
        cut = "".join(f", block {front} to block {end}" for front, end in stitch.cuts)
        at = [f"{mean(run[stage][stitch.id] for run in runs):.3f}" for stage in STAGES]
        rows.append([str(stitch.id), f"width {' to '.join(widths)}{cut}", f"{stitch.flops:,}", *at])
    first = len(net.anchors)
    over = [f"{mean(mean(run[stage][first:]) for run in runs):.3f}" for stage in STAGES]
    rows.append(["", "mean of the stitched paths", "", *over])
    print(f"Test accuracy, the mean over {len(SEEDS)} seeds. The first three paths are the anchors alone.\n")
    print(table(["id", "path", "FLOPs", *STAGES], rows))


if __name__ == "__main__":
    main()
