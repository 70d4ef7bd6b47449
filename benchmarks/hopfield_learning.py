"""A learning check, not a timing: the authors' examples of bags and sequences, and data sets of bags by ten folds.

`python -m benchmarks.hopfield_learning` makes its data: bit patterns and latch sequences. Given a folder, it also
evaluates every file of bags in it (`rows`, `offsets`, `labels`, in .npz or .safetensors) by ten-fold cross-validation.
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

SEEDS = (0, 1)
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


def bit_patterns() -> Split:
    """Bags of random bits; in positive ones an instance is one of the signals, in the others none is."""
    draw = torch.Generator().manual_seed(0)
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


def latch() -> Split:
    """Sequences of symbols, of which the first, 0 or 1, is the label, and no later one is either."""
    draw = torch.Generator().manual_seed(0)
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


def main() -> None:
    torch.set_num_threads(1)
    bits, sequences = bit_patterns(), latch()

    def pooling(**options: Any) -> Callable[[], nn.Module]:
        return lambda: zoo.create_model("hopfield_bit_pattern", **options)

    plain: dict[str, Any] = {"num_heads": 1, "num_updates": 1, "attn_drop": 0.0}
    examples: dict[str, tuple[Callable[[], nn.Module], Split, int]] = {
        "bit patterns, `hopfield_bit_pattern`": (pooling(), bits, 250),
        "bit patterns, prototypes": (lambda: LookupBags(bits.x, bits.y, 4096), bits, 10),
        "latch, pooling": (pooling(dim=SYMBOLS, head_dim=SYMBOLS, beta=SYMBOLS**-0.5, **plain), sequences, 3),
    }
    rows = []
    for name, (make, split, epochs) in examples.items():
        reached = []
        for seed in SEEDS:
            torch.manual_seed(seed)
            reached.append(fit(make(), split, epochs))
        rows.append([name, epochs, *(f"{accuracy:.3f}" for accuracy in reached)])
    print(table(["task", "epochs", *(f"accuracy, seed {seed}" for seed in SEEDS)], rows))
    print(
        f"\nHeld out: {len(bits.test_x)} bags of {INSTANCES} instances, {len(sequences.test_x)} sequences of {LENGTH}. "
        "Prototypes start as training instances with the label of their bag.\n"
    )
    rows = []
    for path in [path for folder in sys.argv[1:] for path in sorted(Path(folder).iterdir()) if is_bag_file(path)]:
        found = cross_validated(path)
        rows.append([path.stem, f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}"])
    if rows:
        print(table(["bags", "AUC, ten folds"], rows))


if __name__ == "__main__":
    main()
