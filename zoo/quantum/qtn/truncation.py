"""Chains of tensors with narrower bonds: at each bond what weighs least between its two sides is left out."""

import torch
from jaxtyping import Inexact
from torch import Tensor

#: Singular values below this share of the largest are rounding.
_RANK = 1e-7


def narrowed(
    first: Inexact[Tensor, "batch one dim bond"],
    inner: Inexact[Tensor, "batch sites bond dim bond"],
    last: Inexact[Tensor, "batch bond dim one"],
    max_bond: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same chain with bonds of `max_bond` states.

    A bond joins left parts l_a and right parts r_a. Of X Y, where X^* X = <l_a|l_b> and Y Y^* = <r_b|r_a>, the singular
    vectors of the largest values span what is kept. They are found in double precision and taken as constants, so
    gradients lack what a change of the angles would move out of the kept states.
    """
    with torch.no_grad():
        wide = torch.complex128 if first.is_complex() else torch.float64
        sites = [part.to(wide) for part in (first, *inner.unbind(1), last)]
        left = [torch.einsum("zlxa,zlxb->zab", sites[0].conj(), sites[0])]
        for site in sites[1:-1]:
            left.append(torch.einsum("zac,zaxd,zcxe->zde", left[-1], site.conj(), site))
        right = [torch.einsum("zaxr,zcxr->zac", sites[-1], sites[-1].conj())]
        for site in reversed(sites[1:-1]):
            right.append(torch.einsum("zdxa,zac,zexc->zde", site, right[-1], site.conj()))
        pairs = [_basis(a, b, max_bond) for a, b in zip(left, reversed(right), strict=True)]
        into = torch.stack([pair[0] for pair in pairs], 1).to(first.dtype)
        out = torch.stack([pair[1] for pair in pairs], 1).to(first.dtype)
    return (
        torch.einsum("blxa,bak->blxk", first, into[:, 0]),
        torch.einsum("bnka,bnaxc,bncm->bnkxm", out[:, :-1], inner, into[:, 1:]),
        torch.einsum("bka,baxr->bkxr", out[:, -1], last),
    )


def _basis(left: Tensor, right: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """What a bond is multiplied by on its left side, (B, bond, kept), and on its right, (B, kept, bond)."""
    x, y = _root(left), _root(right).mH
    u, values, v = torch.linalg.svd(x @ y)
    values = values[:, :kept]
    good = values > _RANK * values[:, :1]
    scale = torch.where(good, values, 1).rsqrt() * good
    return y @ v.mH[:, :, :kept] * scale.unsqueeze(1), scale.unsqueeze(2) * (u.mH[:, :kept] @ x)


def _root(gram: Tensor) -> Tensor:
    """X with X^* X = gram."""
    values, vectors = torch.linalg.eigh(gram)
    return values.clamp_min(0).sqrt().unsqueeze(2) * vectors.mH
