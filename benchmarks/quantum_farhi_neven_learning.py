"""Two garments of Fashion-MNIST by a Farhi-Neven network and by the classical models that have as many numbers.

`python -m benchmarks.quantum_farhi_neven_learning` prints a Markdown table. It wants the files of Fashion-MNIST. The
models and how they are trained and chosen are those of `weights/farhi_neven.py`, with ten epochs, one learning rate a
size of the images, and no string left out: of 4×4 bits most images have one that both classes share.
"""

import runpy
import time
from pathlib import Path
from typing import Any, cast

import torch

import zoo
from benchmarks._measure import table
from zoo.models.farhi_neven import QNNImageClassifier
from zoo.quantum import SineModel

SCRIPT = Path(__file__).parents[1] / "weights/farhi_neven.py"
PAIRS = ("T-shirt/top,trouser", "sandal,ankle boot", "dress,shirt")
#: Name of the model, learning rate.
SIZES = {"28×28": ("qnn_farhi_neven_785q", 3e-4), "4×4": ("qnn_farhi_neven_17q", 0.02)}


def row(script: dict[str, Any], size: str, pair: str) -> list[str]:
    """Accuracies on the test images, and seconds of CPU that the network took to learn."""
    name, lr = SIZES[size]
    model = cast(QNNImageClassifier, zoo.create_model(name, threshold=0.3))
    task = script["Task"](name, "", f"fashion_mnist?classes={pair}", (lr,), 10, 64)
    splits = {split: script["bits_of"](model, task.data, split) for split in ("train", "val", "test")}
    training, (_, counts) = splits["train"], script["unambiguous"](*splits["train"])
    start = time.process_time()
    network, _ = script["chosen"](lambda: zoo.create_model(name).qnn, task, training, splits["val"])
    seconds = time.process_time() - start
    sine, _ = script["chosen"](lambda: SineModel(model.num_features), task, training, splits["val"])
    linear = script["logistic"](training, splits["val"], splits["test"])
    found = [script["measure"](net, *splits["test"])["accuracy"] for net in (network, sine)]
    return [
        pair.replace(",", " or "),
        size,
        f"{counts['strings']:,} / {counts['distinct']:,} / {counts['ambiguous']:,}",
        *(f"{value:.3f}" for value in (*found, linear["test"])),
        f"{seconds:.0f}",
    ]


def main() -> None:
    torch.set_num_threads(1)
    script = runpy.run_path(str(SCRIPT))
    head = ["garments", "bits", "images / patterns / of both", "network", "sine", "logistic regression", "s"]
    print("Test accuracy. *Sine* has a phase a bit and an amplitude, the regression a weight a bit and one more.\n")
    print(table(head, [row(script, size, pair) for size in SIZES for pair in PAIRS]))


if __name__ == "__main__":
    main()
