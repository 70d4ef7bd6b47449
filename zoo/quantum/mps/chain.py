"""A chain of tensors (B, left, 2, right), one a qubit, and products of one-qubit matrices applied to it."""

import torch
from torch import Tensor

from zoo.quantum.gates import complex_type
from zoo.quantum.mps.products import Products


def zero_chain(n: int, like: Tensor) -> list[Tensor]:
    """Every wire in 0; B = 1 and all bonds 1."""
    site = torch.zeros(1, 1, 2, 1, dtype=complex_type(like.dtype), device=like.device)
    site[:, :, 0] = 1
    return [site] * n


def apply_products(chain: list[Tensor], products: Products) -> None:
    """In place of the tensors from the first to the last wire; r products multiply the bonds between these by r."""
    count = products[0][1].shape[-3]
    if len(products) == 1:
        wire, matrices = products[0]
        # A sum on one wire has one term: no bond carries it.
        chain[wire] = matrices.squeeze(-3)[..., None, :, :] @ chain[wire]
        return
    factors = dict(products)
    first, last = products[0][0], products[-1][0]
    for wire in range(first, last + 1):
        site = chain[wire]
        after = site[:, None] if wire not in factors else factors[wire][..., None, :, :] @ site[:, None]
        after = after.expand(-1, count, -1, -1, -1)  # (B, product, left, 2, right)
        if wire == first:
            chain[wire] = after.permute(0, 2, 3, 4, 1).flatten(-2)
        elif wire == last:
            chain[wire] = after.transpose(1, 2).flatten(1, 2)
        else:
            between = torch.diag_embed(after.permute(0, 2, 3, 4, 1))  # (B, left, 2, right, product, product)
            chain[wire] = between.permute(0, 1, 4, 2, 3, 5).flatten(-2).flatten(1, 2)


def to_state(chain: list[Tensor]) -> Tensor:
    """(B, 2^n) amplitudes."""
    state = chain[0].flatten(1, 2)  # (B, 2, right)
    for site in chain[1:]:
        state = (state @ site.flatten(-2)).unflatten(-1, site.shape[2:]).flatten(1, 2)
    return state.squeeze(-1)
