"""Makes `qnn_farhi_neven_17q.digits36` and `qnn_farhi_neven_785q.fashion`, and measures them beside classical models.

`python weights/farhi_neven.py` trains, for two classes each of scikit-learn's digits and of Fashion-MNIST, whose files
must be there (the data sets `digits?classes=3,6` and `fashion_mnist?classes=T-shirt/top,trouser`):

- the quantum network, by Adam on the paper's loss, 1 - label y;
- the sine that it comes down to, amplitude sin(phases . z), with as many phases as bits and one amplitude, likewise;
- a logistic regression on the same bits, with as many weights and an intercept, whose penalty is tuned.

Strings of bits that carry both labels are left out of training, as in the paper, and stay in val and test. Learning
rate and epoch are chosen by the loss on val; test is measured once, of what was chosen.
"""

from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

import zoo
from zoo.models.farhi_neven import QNNImageClassifier
from zoo.quantum import SineModel, distinct_strings
from zoo.training import open_data
from zoo.weights.save import save_safetensors

HERE = Path(__file__).parent
PAIR = "T-shirt/top,trouser"


class Task(NamedTuple):
    """A checkpoint.

    Attributes:
        model, tag: its name.
        data: the data set.
        rates: learning rates to choose from.
        epochs, batch_size: of training.
    """

    model: str
    tag: str
    data: str
    rates: tuple[float, ...]
    epochs: int
    batch_size: int

    @property
    def file(self) -> Path:
        return HERE / f"{self.model}.{self.tag}.safetensors"


TASKS = (
    Task("qnn_farhi_neven_17q", "digits36", "digits?classes=3,6", (0.003, 0.01, 0.03, 0.1), 60, 16),
    Task("qnn_farhi_neven_785q", "fashion", f"fashion_mnist?classes={PAIR}", (1e-4, 3e-4, 1e-3, 3e-3), 20, 64),
)
Bits = tuple[Tensor, Tensor]


def bits_of(model: QNNImageClassifier, data: str, split: str) -> Bits:
    """Bits of the images, as the model makes them, and labels of +1 and -1."""
    images, labels = zip(*open_data(data, split, model=model), strict=True)
    return model.bits(torch.stack(images)), 2 * torch.tensor(labels) - 1


def unambiguous(bits: Tensor, labels: Tensor) -> tuple[Bits, dict[str, int]]:
    """The images whose string of bits carries one label, and the counts of `distinct_strings`."""
    strings, _, counts = distinct_strings(bits, labels)
    clear = {tuple(string) for string in strings.tolist()}
    rows = torch.tensor([tuple(string) in clear for string in bits.tolist()])
    return (bits[rows], labels[rows]), counts


@torch.no_grad()
def measure(model: nn.Module, bits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, the chance that one of label +1 has the higher prediction of two, and the paper's loss."""
    y = model(bits.float())
    pairs = y[labels > 0][:, None] - y[labels < 0][None]
    auroc = (pairs > 0).double().mean() + 0.5 * (pairs == 0).double().mean()
    accuracy = (y.sign() == labels).double().mean()
    return {"accuracy": float(accuracy), "auroc": float(auroc), "loss": float((1 - labels * y).mean())}


def train(model: nn.Module, task: Task, lr: float, training: Bits, val: Bits) -> dict[str, Any]:
    """Adam; the model is left as it was after the best epoch, which is returned with its metrics on val."""
    bits, labels = training
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    best: dict[str, Any] = {"val": {"loss": float("inf")}}
    for epoch in range(task.epochs):
        for rows in torch.randperm(len(bits)).split(task.batch_size):
            optimizer.zero_grad()
            (1 - labels[rows] * model(bits[rows].float())).mean().backward()
            optimizer.step()
        found = measure(model, *val)
        if found["loss"] < best["val"]["loss"]:
            state = {name: value.clone() for name, value in model.state_dict().items()}
            best = {"lr": lr, "epoch": epoch + 1, "val": found, "state": state}
    model.load_state_dict(best.pop("state"))
    return best


def chosen(make: Any, task: Task, training: Bits, val: Bits) -> tuple[nn.Module, dict[str, Any]]:
    """The best model over the learning rates."""
    runs = []
    for lr in task.rates:
        torch.manual_seed(0)
        model = make()
        runs.append((model, train(model, task, lr, training, val)))
    return min(runs, key=lambda run: run[1]["val"]["loss"])


def logistic(training: Bits, val: Bits, test: Bits) -> dict[str, float]:
    """A logistic regression whose penalty is tuned on val."""
    from sklearn.linear_model import LogisticRegression

    runs = []
    for c in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):
        model = LogisticRegression(C=c, max_iter=2000).fit(*(part.numpy() for part in training))
        runs.append((model.score(*(part.numpy() for part in val)), -c, model))
    value, c, model = max(runs, key=lambda run: run[:2])
    return {"C": -c, "val": float(value), "test": float(model.score(*(part.numpy() for part in test)))}


def build(task: Task) -> tuple[QNNImageClassifier, dict[str, Any]]:
    """The network of a checkpoint, and how it was chosen."""
    model = cast(QNNImageClassifier, zoo.create_model(task.model))
    training, _ = unambiguous(*bits_of(model, task.data, "train"))
    val = bits_of(model, task.data, "val")
    network, how = chosen(lambda: cast(QNNImageClassifier, zoo.create_model(task.model)).qnn, task, training, val)
    model.qnn.load_state_dict(network.state_dict())
    return model.eval(), how


def report(task: Task, model: QNNImageClassifier) -> dict[str, float | int | str]:
    """The metrics of the manifest."""
    test = bits_of(model, task.data, "test")
    found = measure(model.qnn, *test)
    metrics = {name: round(found[name], 4) for name in ("accuracy", "auroc")}
    return {**metrics, "split": "test", "samples": len(test[0])}


def main() -> None:
    for task in TASKS:
        model, how = build(task)
        everything = {split: bits_of(model, task.data, split) for split in ("train", "val", "test")}
        training, counts = unambiguous(*everything["train"])
        print(task.file.name, counts, {split: len(bits) for split, (bits, _) in everything.items()})
        print("  quantum network", how, report(task, model))
        n = model.num_features
        sine, how = chosen(lambda n=n: SineModel(n), task, training, everything["val"])
        print(f"  sine of {n + 1} numbers", how, measure(sine, *everything["test"]))
        print("  logistic regression", logistic(training, everything["val"], everything["test"]))
        print(" ", save_safetensors(model.state_dict(), task.file), task.file.stat().st_size)


if __name__ == "__main__":
    main()
