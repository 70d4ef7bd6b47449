"""The product of many small matrices in log2(T) rounds, and the scales that are taken out on the way."""

import torch
from jaxtyping import Inexact
from torch import Tensor


class Rescaler:
    """Divides amplitudes by the largest of them and keeps account, sample by sample.

    A factor cancels where probabilities are divided by their sum, so no gradient is taken of it and none is lost.

    Attributes:
        log: (B,) the logarithm of all that was divided out.
        lowest: (B,) the lowest logarithm that was met: of amplitudes whose largest is a rounding error it is that.

    Args:
        batch: samples.
        like: whose precision and device the logarithms have.
    """

    def __init__(self, batch: int, like: Tensor):
        self.log = torch.zeros(batch, dtype=like.real.dtype, device=like.device)
        self.lowest = self.log

    def __call__(self, x: Tensor, axes: int) -> Tensor:
        """x (B, ..., *axes) over its largest absolute value along so many last axes."""
        x, logs = rescaled(x, axes)
        self.note(logs)
        return x

    def note(self, logs: Tensor) -> None:
        """Take account of (B, ...) logarithms of what was divided out."""
        logs = logs.flatten(1) if logs.ndim > 1 else logs.unsqueeze(1)
        if logs.shape[1]:
            self.log = self.log + logs.sum(1)
            self.lowest = torch.minimum(self.lowest, logs.amin(1))


def rescaled(x: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """x over its largest absolute value along so many last axes, and the logarithm of that value; 0 stays 0."""
    dims = tuple(range(-axes, 0))
    largest = x.detach().abs().amax(dims, keepdim=True)
    logs = largest.clamp_min(torch.finfo(largest.dtype).tiny).log().squeeze(dims)
    return x / torch.where(largest > 0, largest, 1), logs


def ordered_product(
    matrices: Inexact[Tensor, "batch steps dim dim"], rescale: Rescaler | None = None
) -> Inexact[Tensor, "batch dim dim"]:
    """M_{T-1} ... M_1 M_0 for every sample, by multiplying neighbours.

    Args:
        matrices: (B, T, d, d), T at least 1.
        rescale: called after every round; then the product of any number of matrices is finite.
    """
    while matrices.shape[1] > 1:
        odd = matrices[:, -1:] if matrices.shape[1] % 2 else None
        even = matrices.shape[1] // 2 * 2
        matrices = matrices[:, 1:even:2] @ matrices[:, 0:even:2]
        if rescale is not None:
            matrices = rescale(matrices, 2)
        if odd is not None:
            matrices = torch.cat([matrices, odd], 1)
    return matrices[:, 0]
