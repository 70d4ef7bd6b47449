"""The product of many small matrices in log2(T) rounds."""

import torch
from jaxtyping import Inexact
from torch import Tensor


def rescaled(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """x over its largest absolute value along `dims`, and the logarithm of that value, for which no gradient is taken.

    A scale that cancels in what is computed in the end takes nothing from its gradient.
    """
    largest = x.detach().abs().amax(dims, keepdim=True)
    largest = torch.where(largest > 0, largest, 1)
    return x / largest, largest.log().squeeze(dims)


def ordered_product(
    matrices: Inexact[Tensor, "batch steps dim dim"], *, rescale: bool
) -> tuple[Inexact[Tensor, "batch dim dim"], Tensor]:
    """M_{T-1} ... M_1 M_0 for every sample, by multiplying neighbours, and the logarithm of what was divided out, (B,).

    Args:
        matrices: (B, T, d, d), T at least 1.
        rescale: divide by the largest absolute value after every round; then the product of any number of matrices is
            finite, up to the factor that is returned beside it.
    """
    scale = torch.zeros(matrices.shape[0], dtype=matrices.real.dtype, device=matrices.device)
    while matrices.shape[1] > 1:
        odd = matrices[:, -1:] if matrices.shape[1] % 2 else None
        even = matrices.shape[1] // 2 * 2
        matrices = matrices[:, 1:even:2] @ matrices[:, 0:even:2]
        if rescale:
            matrices, logs = rescaled(matrices, (-2, -1))
            scale = scale + logs.sum(1)
        if odd is not None:
            matrices = torch.cat([matrices, odd], 1)
    return matrices[:, 0], scale
