"""How often states are updated: a number of times for each head, or until nothing changes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Held = tuple[Tensor, ...]


def settle(
    held: Held,
    step: Callable[..., Held],
    changed: Callable[[Held, Held, Tensor], Tensor],
    num_updates: Sequence[int],
    tol: Sequence[float] | None,
) -> tuple[Held, tuple[int, ...]]:
    """Step on from what is held before the first update, each head as long as it has updates left and still changes.

    Args:
        held: tensors (B, H, L, ...), the states among them.
        step: the next of them.
        changed: from the last, the next and a limit that broadcasts, whether they differ by more than it: of each
            head (H, 1, 1), or of each state (B, H, L, 1).
        num_updates: of each head, the first included.
        tol: of each head, the change at which it stops; None for no test.

    Returns:
        What is held at the end, and how many updates every head made.
    """
    if tol is None:
        for update in range(1, max(num_updates)):
            new = step(*held)
            going = [count > update for count in num_updates]
            held = tuple(_where_heads(going, *pair) for pair in zip(new, held, strict=True))
        return held, tuple(num_updates)
    first = held[0]
    counts = [1] * len(num_updates)
    limit = torch.tensor(num_updates, device=first.device).view(-1, 1, 1)
    wide = torch.promote_types(first.dtype, torch.float32)
    smallest = torch.tensor(tol, device=first.device, dtype=wide).view(-1, 1, 1)
    active = limit > 1
    for update in range(1, max(num_updates)):
        new = step(*held)
        going = active.expand(*new[0].shape[:3], 1).transpose(0, 1).flatten(1).any(1).tolist()
        counts = [count + on for count, on in zip(counts, going, strict=True)]
        on = active & (limit > update + 1)
        if bool(on.any()):  # a limit that all exceed asks nothing of those that stop anyway
            on = on & changed(held, new, torch.where(on, smallest, -1.0))
        held = tuple(torch.where(active, *pair) for pair in zip(new, held, strict=True))
        active = on
        if not bool(active.any()):
            break
    return held, tuple(counts)


def _where_heads(going: list[bool], new: Tensor, old: Tensor) -> Tensor:
    """`new` for the heads that go on, without a tensor that says which."""
    if all(going):
        return new
    return torch.stack([(new if on else old.expand_as(new))[:, head] for head, on in enumerate(going)], 1)


def moved(old: Tensor, new: Tensor) -> Tensor:
    """For each state how far it moved, relative to its length, (B, H, L, 1)."""
    old, new = old.detach(), new.detach()
    length = new.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(new.dtype).tiny)
    return (new - old).norm(dim=-1, keepdim=True) / length
