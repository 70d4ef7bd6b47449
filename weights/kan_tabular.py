"""Makes `kan_breast_cancer.wdbc`, and measures it: `python weights/kan_tabular.py`.

A KAN with two hidden nodes learns scikit-learn's breast cancer table, 569 rows of 30 measurements (UCI, Breast Cancer
Wisconsin, Diagnostic), with a penalty on how much its curves do on the training rows; edges of low score are masked
and the rest is trained on: 18 edges from 14 measurements are left. Rows are split by class with seed 0: 364 to train,
91 by which penalty and number of steps were chosen, 114 to test.
"""

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

import zoo
from zoo.models.kan_tabular import TabularKAN
from zoo.training.data.split import stratified_split
from zoo.weights.save import save_safetensors

TEST, VAL = 114, 91
PENALTY, STEPS, STEPS_AFTER = 1e-2, 30, 30
FILE = Path(__file__).with_name("kan_breast_cancer.wdbc.safetensors")


def table(split: str) -> tuple[Tensor, Tensor]:
    """Measurements and classes (0 malignant, 1 benign) of a split."""
    from sklearn.datasets import load_breast_cancer

    data: Any = load_breast_cancer()
    rest, test = stratified_split(data.target, TEST, seed=0)
    train, val = stratified_split(data.target[rest], VAL, seed=0)
    rows = {"train": rest[train], "val": rest[val], "test": test}[split]
    return torch.tensor(data.data[rows], dtype=torch.float32), torch.tensor(data.target[rows])


def train(model: TabularKAN, x: Tensor, y: Tensor, steps: int, penalty: float) -> None:
    """Adam on all rows at once."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        if penalty:
            loss = loss + penalty * model.kan.sample_regularization(model.scaling(x))
        loss.backward()
        optimizer.step()


def build() -> TabularKAN:
    """The network, trained, pruned and trained on."""
    torch.manual_seed(0)
    names = zoo.registry.model_entry("kan_breast_cancer").args["feature_names"]
    model = cast(TabularKAN, zoo.create_model("kan_tabular", in_features=30, hidden_sizes=[2], feature_names=names))
    x, y = table("train")
    model.fit_scaling(x)
    z = model.scaling(x)
    model.kan.update_grid(z)
    train(model, x, y, STEPS, PENALTY)
    model.kan.prune(z)
    train(model, x, y, STEPS_AFTER, 0.0)
    return model.eval()


@torch.no_grad()
def measure(model: TabularKAN, split: str = "test") -> dict[str, float | int | str]:
    """The metrics of the manifest: accuracy, and how often a benign row has the higher score of two."""
    x, y = table(split)
    logits = model(x)
    score = logits[:, 1] - logits[:, 0]
    pairs = score[y == 1][:, None] - score[y == 0][None]
    auroc = (pairs > 0).double().mean() + 0.5 * (pairs == 0).double().mean()
    accuracy = (logits.argmax(1) == y).double().mean()
    return {"accuracy": round(float(accuracy), 4), "auroc": round(float(auroc), 4), "split": split, "samples": len(y)}


if __name__ == "__main__":
    made = build()
    print(made.kan.sizes, {key: made._model_args[key] for key in ("own_knots", "masked")})
    print(save_safetensors(made.state_dict(), FILE), FILE.stat().st_size)
    print(measure(made, "val"), measure(made))
