"""3x3 convolutions of stride 1 with 16 multiplications for 4 values in the place of 36, as products of matrices.

    Y = A^T [(G g G^T) * (B^T d B)] A

for tiles d of 4x4 values and 2x2 results: the sum over channels of the middle product is 16 products of matrices. The
numbers in A and B are 0, 1 and -1, so that nothing is lost but rounding.

"Fast Algorithms for Convolutional Neural Networks", Lavin and Gray, CVPR 2016, arXiv:1509.09308.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

#: Channels from which fewer multiplications outweigh the sums around them.
_LEAST = 64
#: Values of the transformed map that are worked on at a time: about what a core's cache holds.
_AT_A_TIME = 1 << 21


def pays(weight: Tensor) -> bool:
    """Whether a convolution of these weights (out, in, 3, 3) is faster so, on a CPU."""
    return weight.shape[2:] == (3, 3) and min(weight.shape[:2]) >= _LEAST and weight.dtype == torch.float32


def transformed_weight(weight: Float[Tensor, "out in 3 3"]) -> Float[Tensor, "16 in out"]:
    """G g G^T of every pair of channels, computed in float64."""
    rows = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    G = torch.tensor(rows, dtype=torch.float64, device=weight.device)
    found = torch.einsum("ik,ockl,jl->ijco", G, weight.double(), G)
    return found.flatten(0, 1).to(weight.dtype).contiguous()


def winograd_conv(
    x: Float[Tensor, "batch in height width"], weight: Float[Tensor, "16 in out"], bias: Tensor | None = None
) -> Float[Tensor, "batch out height width"]:
    """`F.conv2d(x, w, bias, padding=1)` of the w that `weight` is `transformed_weight` of; without gradients.

    Args:
        x: maps; channels innermost in memory are what it works on, and gives.
        weight: transformed.
        bias: one number an output channel.
    """
    batch, channels, height, width = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2  # of tiles
    out_chans = weight.shape[2]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + width % 2, 1, 1 + height % 2))
    out = x.new_empty(batch, rows, 2, columns, 2, out_chans)
    step = max(1, _AT_A_TIME // (16 * columns * max(channels, out_chans)))
    for image, result in zip(padded, out, strict=True):
        for begin in range(0, rows, step):
            end = min(begin + step, rows)
            products = torch.bmm(_tiles(image[2 * begin : 2 * end + 2], columns), weight)
            _untile(products.view(4, 4, end - begin, columns, out_chans), result[begin:end], bias)
    whole = out.view(batch, 2 * rows, 2 * columns, out_chans)[:, :height, :width]
    return whole.permute(0, 3, 1, 2)


def _tiles(rows: Tensor, columns: int) -> Tensor:
    """B^T d B of each tile: (16, tiles, channels) of padded rows (height, width, channels)."""
    count = rows.shape[0] // 2 - 1
    a, b, c, d = (rows[i : i + 2 * count - 1 : 2] for i in range(4))
    across = (a - c, b + c, c - b, b - d)
    found = rows.new_empty(4, 4, count, columns, rows.shape[2])
    for i, part in enumerate(across):
        e, f, g, h = (part[:, j : j + 2 * columns - 1 : 2] for j in range(4))
        torch.sub(e, g, out=found[i, 0])
        torch.add(f, g, out=found[i, 1])
        torch.sub(g, f, out=found[i, 2])
        torch.sub(f, h, out=found[i, 3])
    return found.view(16, count * columns, rows.shape[2])


def _untile(products: Tensor, result: Tensor, bias: Tensor | None) -> None:
    """A^T M A of each tile into result (rows, 2, columns, 2, channels)."""
    m = products
    middle = m[1] + m[2], m[1] - m[2]
    down = middle[0].add_(m[0]), middle[1].sub_(m[3])
    for i, part in enumerate(down):
        inner = part[1] + part[2]
        inner.add_(part[0])
        other = part[1].sub_(part[2]).sub_(part[3])
        if bias is not None:
            inner.add_(bias)
            other.add_(bias)
        result[:, i, :, 0] = inner
        result[:, i, :, 1] = other
