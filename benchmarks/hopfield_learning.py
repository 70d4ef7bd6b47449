"""A learning check, not a timing: the authors' examples of bags and sequences, and data sets of bags by ten folds.

`python -m benchmarks.hopfield_learning` makes its data: bit patterns and latch sequences. Given a folder, it also reads
every file of bags in it (.npz or .safetensors): with `rows`, `offsets`, `labels` for ten-fold cross-validation, with
`train_rows`, ..., `test_labels` of bags of one size as another set of bit patterns.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

import zoo
from benchmarks._measure import table
from zoo.layers.hopfield import HopfieldLookupHead
from zoo.training.data.bags_files import is_bag_file, open_bag_file

SEEDS = (0, 1, 2, 3)
BAGS, INSTANCES, BITS, SIGNALS = 2048, 16, 8, 8
SAMPLES, LENGTH, SYMBOLS = 4096, 32, 20


class Split(NamedTuple):
    """Bags and their labels, to train on and to evaluate."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


class LookupBags(nn.Module):
    """Each instance is given what the prototypes that it recalls stand for; a bag is a sum of its instances."""

    def __init__(self, bags: Tensor, labels: Tensor, quantity: int) -> None:
        super().__init__()
        self.lookup = HopfieldLookupHead(bags.shape[2], 1, quantity=quantity, beta=4.0, trainable_targets=False)
        chosen = torch.randperm(bags.shape[0] * bags.shape[1])[:quantity]
        self.lookup.set_prototypes(bags.flatten(0, 1)[chosen], labels.long().repeat_interleave(bags.shape[1])[chosen])
        self.head = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lookup(x).sum(1))


def bit_patterns(seed: int) -> Split:
    """Bags of random bits; in positive ones an instance is one of the signals, in the others none is."""
    draw = torch.Generator().manual_seed(seed)
    powers = 2 ** torch.arange(BITS)
    codes = torch.randperm(2**BITS, generator=draw)
    signals, others = codes[:SIGNALS], codes[SIGNALS:]
    bags = others[torch.randint(len(others), (BAGS, INSTANCES), generator=draw)]
    y = torch.arange(BAGS) < BAGS // 2
    places = torch.randint(INSTANCES, (BAGS // 2,), generator=draw)
    bags[torch.arange(BAGS // 2), places] = signals[torch.randint(SIGNALS, (BAGS // 2,), generator=draw)]
    x = (bags.unsqueeze(-1) // powers % 2).float()
    train = torch.arange(BAGS // 8, BAGS - BAGS // 8)
    test = torch.cat([torch.arange(BAGS // 8), torch.arange(BAGS - BAGS // 8, BAGS)])
    return Split(x[train], y[train].float(), x[test], y[test].float())


def latch(seed: int) -> Split:
    """Sequences of symbols, of which the first, 0 or 1, is the label, and no later one is either."""
    draw = torch.Generator().manual_seed(seed)
    symbols = torch.randint(2, SYMBOLS, (SAMPLES, LENGTH), generator=draw)
    symbols[:, 0] = torch.randint(2, (SAMPLES,), generator=draw)
    x, y = F.one_hot(symbols, SYMBOLS).float(), symbols[:, 0].float()
    part = SAMPLES * 3 // 4
    return Split(x[:part], y[:part], x[part:], y[part:])


def fit(model: nn.Module, split: Split, epochs: int) -> float:
    """Accuracy on what is held out, after training as the authors' notebooks: AdamW, 1e-3, batches of 32, clipped."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(split.x)).split(32):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model(split.x[batch]).flatten(), split.y[batch]).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = (model(split.test_x).flatten() > 0) == (split.test_y > 0)
    return float(right.float().mean())


def cross_validated(path: Path, epochs: int = 30, seed: int = 0) -> list[float]:
    """AUC of each of ten folds: `hopfield_mil`, features standardised by the training bags, one setting for all."""
    bags = open_bag_file(path).train
    assert bags is not None
    rows, labels = [bags.image(k) for k in range(len(bags))], np.asarray(bags.labels)
    found = []
    for train, test in StratifiedKFold(10, shuffle=True, random_state=seed).split(labels, labels):
        torch.manual_seed(seed)
        known = torch.cat([rows[k] for k in train])
        mean, std = known.mean(0), known.std(0).clamp_min(1e-6)
        model = zoo.create_model("hopfield_mil", num_classes=1, dim=known.shape[1], attn_drop=0.5)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)

        def scores(chosen: Tensor, model: nn.Module = model, mean: Tensor = mean, std: Tensor = std) -> Tensor:
            sizes = torch.tensor([0, *(len(rows[k]) for k in chosen.tolist())])
            x = torch.cat([rows[k] for k in chosen.tolist()])
            return model((x - mean) / std, offsets=sizes.cumsum(0)).flatten()

        for _ in range(epochs):
            for batch in torch.from_numpy(train[torch.randperm(len(train)).numpy()]).split(16):
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(scores(batch), torch.from_numpy(labels)[batch].float()).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
        model.eval()
        with torch.no_grad():
            found.append(float(roc_auc_score(labels[test], scores(torch.from_numpy(test)).numpy())))
    return found


def of_file(path: Path) -> Split:
    """Bags of one size, and which are held out."""
    found = open_bag_file(path)
    parts = []
    for bags in (found.train, found.test):
        assert bags is not None
        parts += [torch.stack([bags.image(k) for k in range(len(bags))]), torch.from_numpy(np.asarray(bags.labels))]
    x, y, test_x, test_y = parts
    return Split(x, y.float(), test_x, test_y.float())


def pooling_of_bits(_: Split) -> nn.Module:
    return zoo.create_model("hopfield_bit_pattern")


def prototypes_of_bits(split: Split) -> nn.Module:
    return LookupBags(split.x, split.y, 4096)


def pooling_of_symbols(_: Split) -> nn.Module:
    plain: dict[str, Any] = {"num_heads": 1, "num_updates": 1, "attn_drop": 0.0}
    return zoo.create_model("hopfield_bit_pattern", dim=SYMBOLS, head_dim=SYMBOLS, beta=SYMBOLS**-0.5, **plain)


def main() -> None:
    torch.set_num_threads(1)
    files = [path for folder in sys.argv[1:] for path in sorted(Path(folder).iterdir()) if is_bag_file(path)]
    held_out = [path for path in files if open_bag_file(path).test is not None]
    tasks: list[tuple[str, Callable[[int], Split], Callable[[Split], nn.Module], int]] = [
        ("bit patterns, `hopfield_bit_pattern`", bit_patterns, pooling_of_bits, 250),
        ("bit patterns, prototypes", bit_patterns, prototypes_of_bits, 10),
        ("latch, pooling", latch, pooling_of_symbols, 3),
        *((f"{path.stem}, `hopfield_bit_pattern`", lambda _, path=path: of_file(path), pooling_of_bits, 250)
          for path in held_out),
    ]  # fmt: skip
    rows = []
    for name, draw, make, epochs in tasks:
        reached = []
        for seed in SEEDS:
            split = draw(seed)
            torch.manual_seed(seed)
            reached.append(fit(make(split), split, epochs))
        rows.append([name, epochs, *(f"{accuracy:.3f}" for accuracy in reached)])
    print(table(["task", "epochs", *(f"accuracy, seed {seed}" for seed in SEEDS)], rows))
    print(
        f"\nHeld out: a quarter of {BAGS:,} bags of {INSTANCES} instances, of {SAMPLES:,} sequences of {LENGTH}. The "
        "seed also draws the data: some signals are harder to learn than others. Prototypes start as instances of the "
        "training bags, with the label of their bag.\n"
    )
    rows = []
    for path in files:
        if path not in held_out:
            found = cross_validated(path)
            rows.append([path.stem, f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}"])
    if rows:
        print(table(["bags", "AUC, ten folds"], rows))


if __name__ == "__main__":
    main()
