"""Training of a network on a table that lies in memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import NonFiniteLossError
from zoo.layers.modes import evaluating

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam on shuffled batches.

    Args:
        epochs: passes over the rows, at most.
        batch_size: rows of a step.
        lr: learning rate.
        weight_decay: of Adam.
        patience: epochs without a better loss of the held-out rows after which training ends.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float = 0.0
    patience: int = 20


def train(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    penalty: Callable[[Tensor], Tensor] | None = None,
    held_out: Tensor | None = None,
) -> list[dict[str, Any]]:
    """Train a network in place; with rows held out, it ends with the parameters of its best epoch.

    Args:
        net: called on rows.
        x, y: rows and their targets.
        loss: (outputs, targets) -> a mean over rows.
        recipe: see `Recipe`.
        generator: of the order of the rows.
        penalty: of the rows of a batch; added to its loss.
        held_out: numbers of the rows that are not trained on, and whose loss decides when to stop. None: all epochs.

    Returns:
        An entry an epoch: `epoch`, `train_loss` with the penalty and, with rows held out, `val_loss` without.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
    """
    rows = torch.arange(len(x))
    if held_out is not None:
        rows = rows[~torch.isin(rows, held_out)]
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    history: list[dict[str, Any]] = []
    best, best_loss, waited = None, math.inf, 0
    net.train()
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(recipe.batch_size):
            optimizer.zero_grad(set_to_none=True)
            value = loss(net(x[batch]), y[batch])
            if penalty is not None:
                value = value + penalty(x[batch])
            value.backward()
            optimizer.step()
            total += float(value.detach()) * len(batch)
        entry = {"epoch": epoch, "train_loss": total / len(rows)}
        history.append(entry)
        if not math.isfinite(total):
            raise NonFiniteLossError(
                f"the loss is {total} in epoch {epoch}; a lower learning rate than lr={recipe.lr:g} may help"
            )
        if held_out is None:
            continue
        with evaluating(net), torch.no_grad():
            entry["val_loss"] = float(loss(net(x[held_out]), y[held_out]))
        waited += 1
        if entry["val_loss"] < best_loss:
            best, best_loss, waited = copy.deepcopy(net.state_dict()), entry["val_loss"], 0
        if waited >= recipe.patience:
            break
    if best is not None:
        net.load_state_dict(best)
    net.eval()
    return history


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """A generator of a seed, and the global one set to it for a while: initial values are drawn from that."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def hold_out(groups: Tensor, fraction: float, generator: torch.Generator) -> Tensor | None:
    """Numbers of rows to hold out, the fraction of every group, rounded down; None if they are fewer than ten.

    Args:
        groups: (rows,), a number for each: the class, or all the same.
        fraction: between 0 and 1.
        generator: of the choice.
    """
    chosen = []
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[: int(fraction * len(members))]])
    found = torch.cat(chosen)
    return found if len(found) >= 10 else None
