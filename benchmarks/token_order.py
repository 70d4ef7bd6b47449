"""A learning check, not a timing: how a MedViTV2 reads a map as tokens, and how far its attention reaches.

Trains `medvit2_kan_nano` on scikit-learn's digits from random weights under one recipe, for each token order and with
and without dilation, three seeds each, and prints test accuracies: `python -m benchmarks.token_order`.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from pathlib import Path

import zoo
from benchmarks._measure import table

SEEDS = (0, 1, 2)
DILATIONS = {"1, 1, 1, 1": (1, 1, 1, 1), "4, 2, 1, 1": (4, 2, 1, 1)}
RECIPE = {"epochs": 6, "batch_size": 32, "lr": 1e-3, "warmup_epochs": 1, "progress": False}


def accuracy(order: str, dilations: tuple[int, ...], seed: int) -> float:
    """Test accuracy of one run, the epoch chosen on the validation split."""
    import torch

    torch.manual_seed(seed)
    model = zoo.create_model("medvit2_kan_nano", num_classes=10, token_order=order, dilations=dilations)
    with tempfile.TemporaryDirectory() as folder:
        result = zoo.finetune(model, "digits", out=Path(folder) / "run", seed=seed, **RECIPE)
    return float(result.metrics["accuracy"])


def main() -> None:
    warnings.simplefilter("ignore")
    rows = []
    for order in ("memory", "spatial"):
        for name, dilations in DILATIONS.items():
            reached = [accuracy(order, dilations, seed) for seed in SEEDS]
            mean, spread = statistics.mean(reached), statistics.stdev(reached)
            rows.append([order, name, ", ".join(f"{a:.4f}" for a in reached), f"{mean:.4f} ± {spread:.4f}"])
    print(f"`medvit2_kan_nano` on digits, {RECIPE['epochs']} epochs; accuracy on 360 test images, seeds 0, 1, 2.\n")
    print(table(["token order", "dilations", "accuracies", "mean ± deviation"], rows))


if __name__ == "__main__":
    main()
