"""Cases of chromosomes: padding, and random orders."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_case_mask(mask: Tensor | None) -> Tensor | None:
    """The mask, None if nothing is padding.

    Raises:
        ValueError: a case without chromosomes.
    """
    if mask is None or torch.compiler.is_compiling():
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

    They are drawn on the CPU, so that a seed gives the same ones on every device.
    """
    cases, rows = shape
    keys = torch.rand(count, cases, rows, generator=generator).to(device)
    if mask is not None:
        keys = keys + 2.0 * ~mask
    return keys.argsort(dim=-1).flatten(0, 1)
