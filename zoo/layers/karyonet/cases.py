"""Cases of chromosomes: what is one, padding, and random orders."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def check_case(values: Any, name: str, width: int | None = None) -> None:
    """Refuse what is no case or batch of cases.

    Args:
        values: numbers of every chromosome.
        name: of the argument.
        width: of the last axis; any from 1 if None.

    Raises:
        TypeError: no tensor, or none of real numbers.
        ValueError: other axes, no chromosome.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(values).__name__}; torch.as_tensor({name}) makes one")
    if not values.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {values.dtype}; {name}.float() converts")
    if values.ndim not in (2, 3) or 0 in values.shape[-2:] or width not in (None, values.shape[-1]):
        last = "C" if width is None else width
        wanted = f"[N, {last}] or [cases, N, {last}] of one chromosome at least"
        raise ValueError(f"{name} must be {wanted}, got {list(values.shape)}")


def check_case_mask(mask: Any, shape: Sequence[int]) -> Tensor | None:
    """The mask, None if nothing is padding.

    Args:
        mask: True where there is a chromosome, or None.
        shape: of the chromosomes.

    Raises:
        TypeError: no tensor of truth values.
        ValueError: another shape, a case without chromosomes.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a tensor of torch.bool, True where there is a chromosome, got {got}")
    if tuple(mask.shape) != tuple(shape):
        raise ValueError(f"mask must be {list(shape)}, a value per chromosome, got {list(mask.shape)}")
    if torch.compiler.is_compiling() or mask.is_meta:
        return mask
    if not mask.any(-1).all():
        empty = (~mask.reshape(-1, mask.shape[-1]).any(-1)).nonzero().flatten().tolist()
        raise ValueError(f"case {empty[0]} has no chromosomes: its mask is all False")
    return None if mask.all() else mask


def random_orders(
    count: int,
    shape: Sequence[int],
    mask: Tensor | None,
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    """`count` random orders of the chromosomes of every case, [count * cases, N], padding last.

    All cases of a number of chromosomes have the same ones: what becomes of a case depends neither on the others of its
    batch nor on padding. They are drawn on the CPU, so that a seed gives the same ones on every device.
    """
    cases, rows = shape
    # A row of numbers per chromosome: more rows, for padding, leave the first ones as they are.
    keys = torch.rand(rows, count, generator=generator).T.to(device)[:, None].expand(-1, cases, -1)
    if mask is None:
        return keys.argsort(dim=-1).flatten(0, 1)
    first = (~mask).long().argsort(dim=-1, stable=True)  # chromosomes, then padding
    padding = torch.arange(rows, device=device) >= mask.sum(-1, keepdim=True)
    return first.expand_as(keys).gather(-1, (keys + 2.0 * padding).argsort(dim=-1)).flatten(0, 1)
