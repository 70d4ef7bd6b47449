"""Bonds that have grown too wide, made narrow again.

With M = A B the part of the state on both sides of a bond, seen in orthonormal bases of the rest of the chain, the best
narrow bond keeps the largest singular values of M = U S V†. The singular vectors are constants for autograd: their own
gradient is unsafe where singular values meet. What is kept is M V (U† M V)^-1 U† M, which has the value U S V† and is M
itself for every M of that rank in the neighbourhood. So values and derivatives of any order are exact where nothing is
discarded.
"""

import torch
from torch import Tensor

from zoo.eager import must_compose

#: Singular values below this, relative to the largest, are rounding.
_NOISE = {torch.float32: 1e-6, torch.complex64: 1e-6, torch.float64: 1e-13, torch.complex128: 1e-13}

#: Of double precision, relative to the largest entry.
_ROUNDING = 1e-17


def widest(chain: list[Tensor]) -> int:
    """The largest bond."""
    return max(site.shape[-1] for site in chain)


def narrow(chain: list[Tensor], above: int, max_bond: int) -> Tensor:
    """Narrow every bond that is wider than `above`, in place.

    Args:
        chain: (B, left, d, right) tensors, complex or real; d = 2 for qubits.
        above: bonds up to here stay as they are.
        max_bond: the widest bond left.

    Returns:
        (B,) the part of the squared norm that was discarded.
    """
    lost = chain[0].new_zeros(1).real
    wide = [i for i in range(len(chain) - 1) if chain[i].shape[-1] > above]
    if not wide:
        return lost
    dtype = chain[0].dtype
    # Single precision has no room for the small numbers that products of nearly dependent rows lead to.
    double = torch.complex128 if dtype.is_complex else torch.float64
    chain[:] = [site.to(double) for site in chain]
    right = _right_frames(chain, wide[0] + 2)
    left = chain[0].new_ones(1, 1, 1)  # (B, frame, bond)
    for i in range(wide[-1] + 1):
        if i in wide:
            pair = chain[i], chain[i + 1]
            chain[i], chain[i + 1], discarded = _cut(*pair, left, right[i + 2], max_bond, _NOISE[dtype])
            lost = also_lost(lost, discarded)
        seen = _from_left(left, chain[i])
        left = _columns(seen).mH @ seen
    chain[:] = [site.to(dtype) for site in chain]
    return lost.to(chain[0].real.dtype)


def also_lost(before: Tensor, more: Tensor) -> Tensor:
    """What is missing of a whole after a part of it, and then a part of the rest, was lost."""
    return before + more * (1 - before)


def _right_frames(chain: list[Tensor], first: int) -> dict[int, Tensor]:
    """(B, bond, frame) of the bonds left of the sites from `first` on: what follows is this times orthonormal rows.

    The rows are constants for autograd.
    """
    frames = {len(chain): chain[-1].new_ones(1, 1, 1)}
    for i in range(len(chain) - 1, first - 1, -1):
        seen = _from_right(chain[i], frames[i + 1])
        frames[i] = seen @ _columns(seen.mT).conj()
    return frames


def _from_left(left: Tensor, site: Tensor) -> Tensor:
    """(B, frame d, right) of (B, frame, left) and (B, left, d, right)."""
    return (left @ site.flatten(-2)).unflatten(-1, site.shape[2:]).flatten(1, 2)


def _from_right(site: Tensor, right: Tensor) -> Tensor:
    """(B, left, d frame) of (B, left, d, right) and (B, right, frame)."""
    return (site @ right[:, None]).flatten(-2)


def _columns(matrix: Tensor) -> Tensor:
    """Orthonormal columns that span those of the matrix."""
    return torch.linalg.qr(_stirred(matrix.detach())).Q


def _stirred(matrix: Tensor) -> Tensor:
    """The matrix with entries of its rounding error added, which make its columns independent.

    Of dependent columns with many zeros, LAPACK's QR finds remainders that shrink from column to column until they
    underflow, and then answers NaN.
    """
    rows = torch.arange(1, matrix.shape[-2] + 1, device=matrix.device, dtype=torch.float64)
    columns = torch.arange(1, matrix.shape[-1] + 1, device=matrix.device, dtype=torch.float64)
    size = _ROUNDING * matrix.abs().amax((-2, -1), keepdim=True)
    return matrix + size * torch.cos(2.3 * rows[:, None] * columns)


def _cut(
    a: Tensor, b: Tensor, left: Tensor, right: Tensor, max_bond: int, noise: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The two sites beside a bond with a narrower one, and the discarded weight.

    Shapes: a (B, l, d, m), b (B, m, d, r), left (B, f, l), right (B, r, g).
    """
    seen_a, seen_b = _from_left(left, a), _from_right(b, right)
    with torch.no_grad():
        rows, upper = torch.linalg.qr(_stirred(seen_a))
        columns, lower = torch.linalg.qr(_stirred(seen_b.mT))
        u, s, vh = torch.linalg.svd(upper @ lower.mT, full_matrices=False)
        fits = s > s[..., :1] * noise
        count = max(1, min(max_bond, _most(fits)))
        weight = s.square()
        discarded = weight[..., count:].sum(-1) / weight.sum(-1)
        inverse = torch.where(fits, 1 / s, 0)[..., :count].to(a.dtype)
        left_vectors = rows @ u[..., :count]
        right_vectors = (vh[..., :count, :] @ columns.mT).mH
    kept = left_vectors.mH @ seen_a  # (B, count, m), of value S V†
    across = seen_b @ (right_vectors * inverse[..., None, :])  # (B, m, count)
    # Of value 1, but for vectors that a sample of lower rank does not have.
    core = kept @ across + torch.diag_embed((inverse == 0).to(a.dtype))
    vectors = a.flatten(1, 2) @ torch.linalg.solve(core, across, left=False)
    return vectors.unflatten(-2, (-1, a.shape[2])), (kept @ b.flatten(-2)).unflatten(-1, b.shape[2:]), discarded


def _most(fits: Tensor) -> int:
    """The largest rank of a batch; where no number can be looked at, as under compilation, that which there can be."""
    if must_compose(fits):
        return fits.shape[-1]
    return int(fits.sum(-1).max()) if fits.numel() else 1
