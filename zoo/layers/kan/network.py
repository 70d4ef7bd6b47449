"""KAN layers in a row."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.linear import KANLinear


class KAN(nn.Module):
    """KAN layers in a row: `sizes = [in, hidden, ..., out]`.

    Shapes: (*, sizes[0]) -> (*, sizes[-1]). State dict: `layers.{i}.` and the names of `KANLinear`.

    Args:
        sizes: widths, two or more.
        layer: what makes a layer of two widths: `KANLinear`, or one of its presets such as `KANLinear.fast`.
        options: keyword arguments of every layer.

    Raises:
        ValueError: fewer than two sizes, or a value that the layer refuses.

    `KAN(sizes, layer=KANLinear.faster, grid_range=(-1.2, 1.2))` is the network of faster-kan.

    Source: KAN (2024, arXiv 2404.19756).
    """

    def __init__(self, sizes: Sequence[int], *, layer: Callable[..., nn.Module] = KANLinear, **options: Any) -> None:
        super().__init__()
        sizes = list(sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold at least an input and an output width, got {sizes}")
        shared = [name for name, value in options.items() if isinstance(value, nn.Module) and _holds_tensors(value)]
        if shared:
            raise TypeError(
                f"{', '.join(shared)}: one module with parameters or buffers would be shared by all layers; give "
                "names, or a function as `layer` that makes a new one for each"
            )
        self.layers = nn.ModuleList(layer(*widths, **options) for widths in itertools.pairwise(sizes))

    def reset_parameters(self) -> None:
        """Every layer's."""
        for layer in self.layers:
            layer.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        for layer in self.layers:
            x = layer(x)
        return x

    def regularization_loss(self, l1: float = 1.0, entropy: float = 1.0) -> Float[Tensor, ""]:
        """The sum over the layers; see `KANLinear.regularization_loss`.

        Args:
            l1, entropy: weights of its two terms.
        """
        losses = [layer.regularization_loss(l1, entropy) for layer in self.layers]  # pyright: ignore[reportCallIssue]
        return torch.stack(losses).sum()


def _holds_tensors(module: nn.Module) -> bool:
    return next(itertools.chain(module.parameters(), module.buffers()), None) is not None
