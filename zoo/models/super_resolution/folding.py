"""CARN in evaluation without its batch norms and without putting results side by side.

    relu(bn(W [x, u_1, ..., u_k])) = relu(s W_0 x + s W_1 u_1 + ... + s W_k u_k + t)

with s and t the scale and shift of the batch norm, and W_j the columns of W that belong to a part. Channels are
innermost, so that a 1x1 convolution is one product of matrices, and a sum of them adds up in place.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import autocasts, must_compose
from zoo.layers.folding import norm_affine
from zoo.models.super_resolution.carn import CARN, CascadingBlock
from zoo.weight_cache import Values

#: Pixels that go through a product and what follows it before the next ones do: they stay in the cache.
_AT_A_TIME = 4096


def can_fold(network: nn.Module, x: Tensor) -> bool:
    """Whether `folded_features` gives what the network gives for x: no statistics are gathered, nothing is learnt."""
    if not isinstance(network, CARN) or any(part.training for part in network.modules()):
        return False
    if any(isinstance(n, nn.BatchNorm2d) and not n.track_running_stats for n in network.modules()):
        return False
    parameters = tuple(network.parameters())
    if must_compose(x, *parameters) or autocasts(x) or x.is_meta or not x.numel():
        return False
    return not torch.is_grad_enabled() or not any(t.requires_grad for t in (x, *parameters))


def folded_features(
    network: CARN, x: Float[Tensor, "batch in_chans height width"]
) -> Float[Tensor, "batch nf height width"]:
    """`network.forward_features`, with channels innermost in memory.

    Args:
        network: in evaluation, see `can_fold`.
        x: normalised images.
    """
    tensors = (*network.parameters(), *network.buffers())
    weights = iter(network.folded.get(tensors, lambda: tuple(_arranged(network))))
    maps = F.conv2d(x, _next(weights), _next(weights), padding=1).contiguous(memory_format=torch.channels_last)
    batch, height, width = len(x), x.shape[2], x.shape[3]
    groups = network.b1.b1.body[0].groups
    assert isinstance(groups, int)
    folded = _Folded(weights, (batch, height, width), groups)
    out = folded.trunk(maps.permute(0, 2, 3, 1).flatten(0, 2))
    return out.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)


class _Folded:
    """One pass. Maps are rows of channels, a pixel each."""

    def __init__(self, weights: Iterator[Tensor | None], shape: tuple[int, int, int], groups: int) -> None:
        self.weights, self.shape, self.groups = weights, shape, groups

    def trunk(self, x: Tensor) -> Tensor:
        return self.cascade(x, self.block)

    def block(self, x: Tensor) -> Tensor:
        weights = [_next(self.weights) for _ in range(6)]
        return self.cascade(x, lambda out: self.unit(weights, out))

    def cascade(self, x: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
        """o_k = relu(sum_j W_kj u_j + t_k) with u_0 = x and u_k = step(o_{k-1}); o_3."""
        parts = [x, step(x)]
        parts.append(step(self.fuse(parts).relu_()))
        out = self.fuse(parts).relu_()
        last = self.fuse(parts)  # all but one part of it: takes less memory than the parts
        parts.clear()
        newest, matrix = step(out), _next(self.weights)
        for result, piece in _blocks(last, newest):
            result.addmm_(piece, matrix).relu_()
        return last

    def unit(self, weights: list[Tensor], x: Tensor) -> Tensor:
        """relu(x + W relu(conv(relu(conv(x)))))."""
        inner = self.convolve(self.convolve(x, *weights[:2]), *weights[2:4])
        out = torch.empty_like(x)
        for own, given, result in _blocks(x, inner, out):
            torch.addmm(own, given, weights[4], out=result).add_(weights[5]).relu_()
        return out

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        maps = x.unflatten(0, self.shape).permute(0, 3, 1, 2)
        maps = F.conv2d(maps, weight, bias, padding=1, groups=self.groups).relu_()
        return maps.permute(0, 2, 3, 1).flatten(0, 2)

    def fuse(self, parts: list[Tensor]) -> Tensor:
        """sum_j W_j u_j + t."""
        matrices = [_next(self.weights) for _ in parts]
        bias = _next(self.weights)
        out = torch.empty_like(parts[0])
        for result, *pieces in _blocks(out, *parts):
            torch.addmm(bias, pieces[0], matrices[0], out=result)
            for piece, matrix in zip(pieces[1:], matrices[1:], strict=True):
                result.addmm_(piece, matrix)
        return out


def _next(weights: Iterator[Tensor | None]) -> Tensor:
    found = next(weights)
    assert found is not None
    return found


def _blocks(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    step = _AT_A_TIME if rows[0].device.type == "cpu" else max(len(rows[0]), 1)
    return zip(*(tensor.split(step) for tensor in rows), strict=True)


@torch.no_grad()
def _arranged(network: CARN) -> Iterator[Tensor | None]:
    """Weights in the order in which they are used."""
    yield from _convolution(network.entry)
    first, second, third = (_fusion(fusion) for fusion in (network.c1, network.c2, network.c3))
    yield from (*_of_block(network.b1), *first, *_of_block(network.b2), *second)
    yield from (*third[:3], third[-1], *_of_block(network.b3), third[3])


def _of_block(block: CascadingBlock) -> Iterator[Tensor | None]:
    inner, _, outer, _, last = block.b1.body
    yield from (*_convolution(inner), *_convolution(outer))
    assert isinstance(last, nn.Conv2d)
    yield from (last.weight.flatten(1).t().contiguous(), last.bias)
    third = _fusion(block.c3)
    yield from (*_fusion(block.c1), *_fusion(block.c2), *third[:3], third[-1], third[3])


def _convolution(layer: nn.Module) -> Values:
    assert isinstance(layer, nn.Conv2d)
    return layer.weight.contiguous(memory_format=torch.channels_last), layer.bias


def _fusion(fusion: nn.Sequential) -> list[Tensor]:
    """A matrix (in, out) for every part, then the shift."""
    convolution, norm = fusion[0], fusion[1]
    assert isinstance(convolution, nn.Conv2d)
    scale, shift = norm_affine(norm)
    weight = convolution.weight
    whole = (weight.flatten(1).double() * scale[:, None]).to(weight)
    return [*(part.t().contiguous() for part in whole.split(weight.shape[0], 1)), shift.to(weight)]
