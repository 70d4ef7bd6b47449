"""Stacks of switch-basis KAN layers, with the parameter names of the published checkpoints."""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.basis import SwitchBasis
from zoo.layers.kan.functional import BACKENDS
from zoo.layers.kan.imitation import imitate_stack
from zoo.layers.kan.linear import KANLinear
from zoo.layers.kan.options import check_choice, check_count
from zoo.layers.kan.switch import switch_basis


class SwitchGrid(SwitchBasis):
    """The basis with its centres under their published name, `grid`.

    Upstream stores them as a parameter that never trains. A buffer has the same name in a checkpoint and no
    part in optimisers or in gradient checks.
    """

    state_name: ClassVar[str] = "grid"
    __jit_unused_properties__: ClassVar[list[str]] = ["centers"]
    grid: Tensor

    @property
    def centers(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The centres."""
        return self.grid

    @torch.jit.unused
    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        return super().forward(x)


class FasterKANLayer(KANLinear):
    """One switch-basis KAN layer: `y = W phi(LayerNorm(x))`, phi_ij = sech^2((u_i - g_j) / h).

    With `base_branch` also `+ W_b silu(x) + b_b`, on the input before its norm. It is a `KANLinear` whose state dict
    has the published names: `layernorm.*`, `rbf.grid`, `spline_linear.weight` as (out, in * K), and `base_linear.*`.

    Shapes: (*, in_features) -> (*, out_features).

    Args:
        in_features: inputs I.
        out_features: outputs O.
        num_centres: basis functions per input, K.
        grid_range: first and last centre; the rest lie evenly between.
        inv_width: 1 / h.
        base_branch: add the SiLU branch.
        backend: "auto" or "reference", see `switch_linear`.

    Raises:
        ValueError: sizes, centres or backend out of range.

    Source: faster-kan (2024) as used in MedViTV2 (2025, arXiv 2502.13693), which fixes h = 0.33.
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["basis", "norm", "weight", "base_weight", "bias", "num_bases"]
    edge_scale = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        inv_width: float = 1 / 0.33,
        base_branch: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)  # KANLinear's would make its parts under its own names
        self.in_features = check_count("in_features", in_features)
        self.out_features = check_count("out_features", out_features)
        self.backend = check_choice("backend", backend, BACKENDS)
        self.scale_noise = self.scale_base = self.scale_spline = 1.0
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.layernorm = nn.LayerNorm(in_features, **dd)
        self.rbf = SwitchGrid(num_centres, grid_range, inv_width=inv_width, **dd)
        self.spline_linear = nn.Linear(in_features * num_centres, out_features, bias=False, **dd)
        self.base_linear = nn.Linear(in_features, out_features, **dd) if base_branch else None
        self.base_activation = nn.SiLU() if base_branch else None
        self.register_buffer("mask", None)
        self.rbf.draw_(self.weight, self.scale_noise)

    @property
    def basis(self) -> SwitchGrid:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The basis of the layer."""
        return self.rbf

    @property
    def norm(self) -> nn.LayerNorm:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the inputs of the basis pass first."""
        return self.layernorm

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The stored weight as (out_features, in_features, K)."""
        return self.spline_linear.weight.unflatten(1, (self.in_features, -1))

    @property
    def base_weight(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The weight of the base branch."""
        return None if self.base_linear is None else self.base_linear.weight

    @property
    def bias(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The bias of the base branch."""
        return None if self.base_linear is None else self.base_linear.bias

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        # type: (Tensor) -> Tensor
        if torch.jit.is_scripting():
            return self._formula(x)
        else:  # TorchScript compiles what follows a return
            if isinstance(x, torch.fx.Proxy):
                return self._formula(x)
            return super().forward(x)

    def _formula(self, x):
        # type: (Tensor) -> Tensor
        """The layer in operations that TorchScript and torch.fx can read."""
        norm = self.layernorm
        weight = self.spline_linear.weight
        if self.mask is not None:
            weight = (weight.unflatten(1, (self.in_features, -1)) * self.mask.unsqueeze(-1)).flatten(1)
        u = F.layer_norm(x, [self.in_features], norm.weight, norm.bias, norm.eps)
        y = F.linear(switch_basis(u, self.rbf.grid, self.rbf.inv_width).flatten(-2), weight)
        if self.base_linear is not None:
            weight = self.base_linear.weight
            if self.mask is not None:
                weight = weight * self.mask
            y = y + F.linear(F.silu(x), weight, self.base_linear.bias)
        return y

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, backend={self.backend!r}"


class FasterKAN(nn.Module):
    """Switch-basis KAN layers in a row: `sizes = [in, hidden, ..., out]`.

    Shapes: (*, sizes[0]) -> (*, sizes[-1]). State-dict names are those of the published checkpoints:
    `layers.{i}.layernorm.{weight,bias}`, `.rbf.grid`, `.spline_linear.weight` and, with `base_branch`,
    `.base_linear.{weight,bias}`.

    Args:
        sizes: widths, two or more.
        drop: dropout after every layer.
        num_centres, grid_range, inv_width, base_branch, backend: see `FasterKANLayer`.

    Raises:
        ValueError: fewer than two sizes, or a value that `FasterKANLayer` refuses.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        drop: float = 0.0,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        inv_width: float = 1 / 0.33,
        base_branch: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = list(sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold at least an input and an output width, got {sizes}")
        self.layers = nn.ModuleList(
            FasterKANLayer(
                width_in,
                width_out,
                num_centres=num_centres,
                grid_range=grid_range,
                inv_width=inv_width,
                base_branch=base_branch,
                backend=backend,
                device=device,
                dtype=dtype,
            )
            for width_in, width_out in itertools.pairwise(sizes)
        )
        self.drop = nn.Dropout(drop)

    def reset_parameters(self) -> None:
        for layer in self.layers:
            layer.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        # type: (Tensor) -> Tensor
        for layer in self.layers:
            x = self.drop(layer(x))
        return x

    def imitate(self, reference: nn.Module, inputs: Float[Tensor, "*batch features"]) -> bool:
        """Change the parameters so that the stack computes what `reference` computes, as nearly as it can.

        Two layers copy a perceptron fc2(act(fc1(x))) (timm's `Mlp`) part by part: the error is 13 to 21 % of its
        output. For any other reference
        the last layer is fitted to random directions of the inputs, which the others hand on.

        Args:
            reference: a module (n, in) -> (n, out).
            inputs: examples of what it gets; a thousand rows or more serve best.

        Returns:
            False, with nothing changed, if the widths do not agree, values are not finite or rows are fewer
            than 16.
        """
        return imitate_stack(self, reference, inputs)


class KANBlock(FasterKAN):
    """A two-layer `FasterKAN` with the constructor of a transformer's feed-forward part.

    Shapes: (*, in_features) -> (*, out_features).

    Args:
        in_features: width of the tokens.
        hidden_features: width between the layers; 2 * in_features if None, as in MedViTV2.
        out_features: in_features if None.
        act_layer: taken so that the block fits where a `Mlp` was, and unused: the basis is the non-linearity.
        drop: dropout after each layer.
        num_centres, grid_range, inv_width, base_branch, backend: see `FasterKANLayer`.

    Source: MedViTV2 (2025, arXiv 2502.13693), where it follows the attention of every global block.
    """

    layout: ClassVar[str] = "NLC"

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        *,
        act_layer: Any = None,
        drop: float = 0.0,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        inv_width: float = 1 / 0.33,
        base_branch: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            [in_features, hidden_features or 2 * in_features, out_features or in_features],
            drop=drop,
            num_centres=num_centres,
            grid_range=grid_range,
            inv_width=inv_width,
            base_branch=base_branch,
            backend=backend,
            device=device,
            dtype=dtype,
        )
