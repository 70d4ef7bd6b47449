"""KAN layers in a row."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.imitation import imitate_stack
from zoo.layers.kan.life import KANLife
from zoo.layers.kan.life.sample import Stage, stages_of
from zoo.layers.kan.linear import KANLinear
from zoo.layers.kan.nodes import MultiplyNodes
from zoo.layers.kan.options import check_count


class KAN(KANLife):
    """KAN layers in a row: `sizes = [in, hidden, ..., out]`.

    Shapes: (*, sizes[0]) -> (*, sizes[-1]). State dict: `layers.{i}.` and the names of `KANLinear`; `nodes.{i}.` and
    the names of `MultiplyNodes`, if the nodes are affine.

    Args:
        sizes: widths, two or more. After the first, a width may be a pair (sums, products): nodes that are what comes
            in, and nodes that multiply what comes in `arity` times.
        arity: factors of a product.
        affine: a scale and a bias on every node and on what comes into it.
        layer: what makes a layer of two widths: `KANLinear`, or one of its presets such as `KANLinear.fast`.
        options: keyword arguments of every layer.

    Raises:
        ValueError: fewer than two sizes, or a value that the layer refuses.
        TypeError: sizes that are no sequence, a layer that cannot be called, options the layer does not have.

    `KAN(sizes, layer=KANLinear.faster, grid_range=(-1.2, 1.2))` is the network of faster-kan, `KAN([3, (2, 2), 1],
    affine=True)` a network of pykan with two sums and two products.

    Source: KAN (2024, arXiv 2404.19756); KAN 2.0 (2024, arXiv 2408.10205).
    """

    def __init__(
        self,
        sizes: Sequence[int | Sequence[int]],
        *,
        arity: int = 2,
        affine: bool = False,
        layer: Callable[..., nn.Module] = KANLinear,
        **options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(sizes, Sequence) or isinstance(sizes, str):
            raise TypeError(f"sizes must be a list of widths such as [4, 5, 3], got {sizes!r}")
        if not callable(layer):
            raise TypeError(f"layer must make a layer of two widths, as KANLinear.fast does, got {layer!r}")
        sizes = list(sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold at least an input and an output width, got {sizes}")
        shared = [name for name, value in options.items() if isinstance(value, nn.Module) and _holds_tensors(value)]
        if shared:
            raise TypeError(
                f"{', '.join(shared)}: one module with parameters or buffers would be shared by all layers; give "
                "names, or a function as `layer` that makes a new one for each"
            )
        place = {name: options.get(name) for name in ("device", "dtype")}
        nodes = [MultiplyNodes(*_sums_and_products(size), arity, affine=affine, **place) for size in sizes[1:]]
        if not isinstance(sizes[0], int):
            raise TypeError(f"sizes must begin with the number of inputs, which have nothing to multiply, got {sizes}")
        widths = [sizes[0], *(node.num_nodes for node in nodes)]
        self.layers = nn.ModuleList(
            layer(width, node.num_subnodes, **options) for width, node in zip(widths, nodes, strict=False)
        )
        plain = not affine and all(node.num_products == 0 for node in nodes)
        self.nodes = None if plain else nn.ModuleList(nodes)

    @property
    def sizes(self) -> list[int | tuple[int, int]]:
        """Widths, as the constructor takes them; pruning makes them smaller."""
        layers, nodes = list[Any](self.layers), list[Any](self.nodes or ())
        pairs = [(node.num_sum, node.num_products) for node in nodes] or [(layer.out_features, 0) for layer in layers]
        return [layers[0].in_features, *((sums, products) if products else sums for sums, products in pairs)]

    def reset_parameters(self) -> None:
        """Every layer's, and the nodes'."""
        for part in itertools.chain(self.layers, self.nodes or ()):
            part.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.nodes is not None:
                x = self.nodes[i](x)
        return x

    def imitate(self, reference: nn.Module, inputs: Float[Tensor, "*batch features"]) -> bool:
        """Change the parameters so that the network computes what `reference` computes, as nearly as it can.

        Two layers copy a perceptron fc2(act(fc1(x))) (timm's `Mlp`) part by part. For any other reference the last
        layer is fitted to random directions of the inputs, which the others hand on.

        Args:
            reference: a module (n, in) -> (n, out).
            inputs: examples of what it gets; a thousand rows or more serve best.

        Returns:
            False, with nothing changed, if the widths do not agree, values are not finite, rows are fewer than 16, a
            layer is no `KANLinear` or there are nodes behind the layers.
        """
        return self.nodes is None and imitate_stack(self, reference, inputs)

    def stages(self) -> list[Stage]:
        """The layers, each with the nodes behind it or None.

        Raises:
            TypeError: a layer is no `KANLinear`.
        """
        return stages_of(self.layers, self.nodes)

    def regularization_loss(self, l1: float = 1.0, entropy: float = 1.0) -> Float[Tensor, ""]:
        """The sum over the layers; see `KANLinear.regularization_loss`.

        Args:
            l1, entropy: weights of its two terms.
        """
        losses = [layer.regularization_loss(l1, entropy) for layer in self.layers]  # pyright: ignore[reportCallIssue]
        return torch.stack(losses).sum()


def _sums_and_products(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return check_count("a width", size), 0
    if len(size) != 2:
        raise ValueError(f"a width must be a number or a pair (sums, products), got {size}")
    return size[0], size[1]


def _holds_tensors(module: nn.Module) -> bool:
    return next(itertools.chain(module.parameters(), module.buffers()), None) is not None
