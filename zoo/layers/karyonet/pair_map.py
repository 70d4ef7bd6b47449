"""Which chromosomes belong to the same group, from all pairs of their features, without the map of pairs."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from zoo.eager import must_compose
from zoo.layers.folding import norm_affine
from zoo.weight_cache import WeightCache

#: Pairs that are held at once where nothing is recorded: what a processor's own memory holds, and a GPU's well.
_PAIRS_CPU, _PAIRS = 768, 1 << 17
#: Every batch norm that is folded, and the convolution before it; the first stands before all of them.
_FOLDED = (("11", 1), ("20", None), ("21", 2), ("3", 3), ("4", 4), ("5", None))


class PairMap(nn.Module):
    """Logits of "same group" and "another group" for every pair (i, j), by 1x1 convolutions over [x_j ; x_i].

    BN0, 2 dim -> 2 dim, ReLU, -> dim, BN1, ReLU, -> dim, ReLU, -> dim/2, BN2, ReLU, -> dim/4, BN3, ReLU, -> dim/8,
    BN4, ReLU, -> 2. The official code makes the map of pairs, 2 dim x N x N, and starts from that. Here BN0 is folded
    into the first convolution and both are split: what it gives is A x_j + B x_i + b, exactly, 2 N rows of work
    instead of N^2. In evaluation the other batch norms are folded too, and pairs run in parts. In training BN0's
    statistics of all pairs are those of the features, each of which the map holds N times in each half.

    Args:
        dim: of the features, a multiple of 8.
        device, dtype: of the parameters.
    """

    def __init__(
        self, dim: int = 256, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if dim < 8 or dim % 8:
            raise ValueError(f"dim must be a multiple of 8, at least 8, got {dim}")
        self.dim = dim
        self._folded = WeightCache()
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.bn0 = nn.BatchNorm2d(2 * dim, **options)
        self.conv10 = nn.Conv2d(2 * dim, 2 * dim, 1, bias=False, **options)
        self.conv11 = nn.Conv2d(2 * dim, dim, 1, bias=False, **options)
        self.bn1 = nn.BatchNorm2d(dim, **options)
        self.conv20 = nn.Conv2d(dim, dim, 1, bias=False, **options)
        self.conv21 = nn.Conv2d(dim, dim // 2, 1, bias=False, **options)
        self.bn2 = nn.BatchNorm2d(dim // 2, **options)
        self.conv3 = nn.Conv2d(dim // 2, dim // 4, 1, bias=False, **options)
        self.bn3 = nn.BatchNorm2d(dim // 4, **options)
        self.conv4 = nn.Conv2d(dim // 4, dim // 8, 1, bias=False, **options)
        self.bn4 = nn.BatchNorm2d(dim // 8, **options)
        self.conv5 = nn.Conv2d(dim // 8, 2, 1, bias=False, **options)

    def reset_parameters(self) -> None:
        """Draw new parameters, as torch draws those of these layers, and forget what batch norms have seen."""
        for layer in self.children():
            layer.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(
        self, x: Float[Tensor, "cases n dim"], mask: Bool[Tensor, "cases n"] | None = None
    ) -> Float[Tensor, "cases n n 2"]:
        """Logits of the pair (i, j) at [:, i, j].

        Args:
            x: features of the chromosomes of every case.
            mask: True where there is a chromosome. In training the statistics are of pairs of chromosomes alone, and
                the logits of others are 0; in evaluation those are of no use.
        """
        if self.training:
            return self._train(x, mask)
        at_j, at_i, bias, *layers = self._folded.get(tuple(self._tensors()), self._fold)
        assert at_j is not None
        assert at_i is not None
        first, second = functional.linear(x, at_j), functional.linear(x, at_i, bias)
        if torch.is_grad_enabled() or must_compose(x, self.conv10.weight) or not len(x):
            return _run(first[:, None] + second[:, :, None], layers)
        rows = max((_PAIRS_CPU if x.device.type == "cpu" else _PAIRS) // x.shape[1], 1)
        parts = math.ceil(x.shape[1] / rows)  # of one size, nearly: a product of few rows is slow
        return torch.stack(
            [
                torch.cat([_run(js + part[:, None], layers) for part in of_i.tensor_split(parts)])
                for js, of_i in zip(first, second, strict=True)
            ]
        )

    def _tensors(self) -> list[Tensor]:
        """All that evaluation reads."""
        norms = (self.bn0, self.bn1, self.bn2, self.bn3, self.bn4)
        return [
            *self.parameters(),
            *(buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None),
        ]

    def _fold(self) -> tuple[Tensor | None, ...]:
        """A, B and b of the first layer, then weight and bias of the others."""
        scale, shift = norm_affine(self.bn0)
        values: list[Tensor | None] = [*_split(self.conv10.weight, scale, shift)]
        for name, number in _FOLDED:
            weight = _matrix(self.get_submodule(f"conv{name}"))
            if number is None:
                values += [weight, None]
            else:
                scale, shift = norm_affine(self.get_submodule(f"bn{number}"))
                values += [(weight.double() * scale[:, None]).to(weight.dtype), shift.to(weight.dtype)]
        return tuple(values)

    def _train(self, x: Tensor, mask: Tensor | None) -> Tensor:
        count = x.shape[1]
        if type(self.bn0) is nn.BatchNorm2d:
            at_j, at_i, bias = _split(self.conv10.weight, *_pair_statistics(self.bn0, x, mask))
            hidden = functional.linear(x, at_j)[:, None] + functional.linear(x, at_i, bias)[:, :, None]
            pairs = _pairs_of(hidden, mask)
        else:  # statistics of several processes, say: these are over the pairs themselves
            both = [x[:, None].expand(-1, count, -1, -1), x[:, :, None].expand(-1, -1, count, -1)]
            pairs = self.bn0(_pairs_of(torch.cat(both, dim=-1), mask)[..., None, None])[..., 0, 0]
            pairs = functional.linear(pairs, _matrix(self.conv10))
        pairs = functional.relu(pairs)
        for name, number in _FOLDED:
            pairs = functional.linear(pairs, _matrix(self.get_submodule(f"conv{name}")))
            if number is not None:
                pairs = self.get_submodule(f"bn{number}")(pairs[..., None, None])[..., 0, 0]
            if name != "5":
                pairs = functional.relu(pairs)
        if mask is None:
            return pairs.view(len(x), count, count, 2)
        return pairs.new_zeros(len(x), count, count, 2).masked_scatter(_of_pairs(mask)[..., None], pairs)


def _run(hidden: Tensor, layers: list[Tensor | None]) -> Tensor:
    """From what the first convolution gives to logits; `hidden` is overwritten."""
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        assert weight is not None
        hidden = functional.linear(hidden.relu_(), weight, bias)
    return hidden


def _matrix(convolution: nn.Module) -> Tensor:
    weight = convolution.weight
    assert isinstance(weight, Tensor)
    return weight[..., 0, 0]


def _split(weight: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, B, b: weight (scale [x_j ; x_i] + shift) = A x_j + B x_i + b."""
    matrix = weight[..., 0, 0].to(scale.dtype)
    at_j, at_i = (matrix * scale).to(weight.dtype).chunk(2, dim=1)
    return at_j, at_i, (matrix @ shift).to(weight.dtype)


def _pair_statistics(norm: nn.BatchNorm2d, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scale and shift of a training batch norm over all pairs [x_j ; x_i], from the features; it learns as usual.

    A chromosome stands in as many pairs, in each half, as its case has chromosomes.
    """
    features = x.to(norm.weight.dtype)
    if mask is None:
        flat = features.flatten(0, 1)
        var, mean = torch.var_mean(flat, dim=0, correction=0)
        pairs = float(x.shape[0] * x.shape[1] ** 2)
    else:
        weight = (mask * mask.sum(-1, keepdim=True)).to(features.dtype)[..., None]
        total = weight.sum()
        mean = (features * weight).sum((0, 1)) / total
        var = ((features - mean).square() * weight).sum((0, 1)) / total
        pairs = float(total)
    mean, var = mean.repeat(2), var.repeat(2)
    _learn(norm, mean.detach(), var.detach() * (pairs / max(pairs - 1, 1)))
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return scale, norm.bias - mean * scale


@torch.no_grad()
def _learn(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, rate)
    norm.running_var.lerp_(var, rate)


def _of_pairs(mask: Tensor) -> Tensor:
    return mask[:, None] & mask[:, :, None]


def _pairs_of(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The rows of all pairs of chromosomes."""
    return hidden.flatten(0, 2) if mask is None else hidden[_of_pairs(mask)]
