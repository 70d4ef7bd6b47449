"""Makes `hopfield_memory.digits`, and measures it: `python weights/hopfield_memory.py`.

The memory stores the first 1,000 training images of scikit-learn's digits (the data set `digits`), with their labels.
Its metrics: the share of the test images that it names rightly, of the test images that it names rightly when it sees
the upper half alone, and of the stored images that it recalls from their upper half, no pixel off by more than 1e-5.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

import zoo
from zoo.models.hopfield_memory import HopfieldImageMemory
from zoo.training import open_data
from zoo.weights.save import save_safetensors

STORED = 1_000
FILE = Path(__file__).with_name("hopfield_memory.digits.safetensors")


def digits(model: HopfieldImageMemory, split: str) -> tuple[Tensor, Tensor]:
    """Images, as the model is given them, and labels."""
    images, labels = zip(*open_data("digits", split, model=model), strict=True)
    return torch.stack(images), torch.tensor(labels)


def build() -> HopfieldImageMemory:
    """The memory of the digits."""
    model = cast(HopfieldImageMemory, zoo.create_model("hopfield_memory").eval())
    images, labels = digits(model, "train")
    model.store(images[:STORED], labels[:STORED])
    return model


def measure(model: HopfieldImageMemory) -> dict[str, float | int | str]:
    """The metrics of the manifest."""
    images, labels = digits(model, "test")
    stored = digits(model, "train")[0][:STORED]
    upper = torch.zeros(images.shape[-2:], dtype=torch.bool)
    upper[: len(upper) // 2] = True
    weights = model.association(images, upper)
    answered = torch.stack([weights[:, model.memory.labels == c].sum(1) for c in range(model.num_classes)], 1)
    recalled = (model.recall(stored, upper) - stored).abs().flatten(1).amax(1) < 1e-5
    return {
        "accuracy": round(float((model(images).argmax(1) == labels).double().mean()), 4),
        "accuracy_upper_half": round(float((answered.argmax(1) == labels).double().mean()), 4),
        "recalled_upper_half": round(float(recalled.double().mean()), 4),
        "split": "test",
        "samples": len(images),
    }


if __name__ == "__main__":
    made = build()
    print(save_safetensors(made.state_dict(), FILE), FILE.stat().st_size)
    print(measure(made))
