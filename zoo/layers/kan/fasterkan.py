"""Stacks of switch-basis KAN layers, with the parameter names of the published checkpoints."""

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.imitation import imitate_layer, imitate_stack
from zoo.layers.kan.switch import _BACKENDS, _composed, _normalised, switch_basis, switch_linear

# It chooses a path by what its input is: a leaf for torch.fx.
torch.fx.wrap("switch_linear")


class SwitchGrid(nn.Module):
    """The fixed centres of the basis.

    Upstream stores them as a parameter that never trains. A buffer has the same name in a checkpoint and no
    part in optimisers or in gradient checks.
    """

    grid: Tensor

    def __init__(
        self,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        num_centres: int = 8,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.grid_range = (float(grid_range[0]), float(grid_range[1]))
        self.num_centres = num_centres
        self.register_buffer("grid", torch.empty(num_centres, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.grid.is_meta:
            return  # there is no place for values
        with torch.no_grad():
            # Made in float32 like the published grids, on the CPU whatever the default device is.
            dtype = torch.float64 if self.grid.dtype == torch.float64 else torch.float32
            self.grid.copy_(torch.linspace(*self.grid_range, self.num_centres, dtype=dtype, device="cpu"))


class FasterKANLayer(nn.Module):
    """One switch-basis KAN layer: `y = W phi(LayerNorm(x))`, phi_ij = sech^2((u_i - g_j) / h).

    With `base_branch` also `+ W_b silu(x) + b_b`, on the input before its norm.

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
        super().__init__()
        for name, value in (("in_features", in_features), ("out_features", out_features), ("num_centres", num_centres)):
            if value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if not grid_range[0] < grid_range[1]:
            raise ValueError(f"grid_range must be (low, high) with low < high, got {tuple(grid_range)}")
        if not inv_width > 0:
            raise ValueError(f"inv_width must be greater than 0 (it is 1 / h), got {inv_width}")
        if backend not in _BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))}, got {backend!r}")
        self.in_features = in_features
        self.out_features = out_features
        self.inv_width = float(inv_width)
        self.backend = backend
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.layernorm = nn.LayerNorm(in_features, **dd)
        self.rbf = SwitchGrid(grid_range, num_centres, **dd)
        self._make_weight(in_features, out_features, num_centres, **dd)
        self.base_linear = nn.Linear(in_features, out_features, **dd) if base_branch else None
        nn.init.xavier_uniform_(self.matrix())

    def _make_weight(self, in_features: int, out_features: int, num_centres: int, **dd: Any) -> None:
        self.spline_linear = nn.Linear(in_features * num_centres, out_features, bias=False, **dd)

    def matrix(self):
        # type: () -> Tensor
        """The weight W as (out_features, in_features * num_centres)."""
        return self.spline_linear.weight

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, as faster-kan draws them; the norm to (1, 0); the centres to their places."""
        self.layernorm.reset_parameters()
        self.rbf.reset_parameters()
        nn.init.xavier_uniform_(self.matrix())
        if self.base_linear is not None:
            self.base_linear.reset_parameters()

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        # type: (Tensor) -> Tensor
        norm = self.layernorm
        weight = self.matrix()
        if torch.jit.is_scripting():
            y = _composed(x, weight, self.rbf.grid, self.inv_width, norm.weight, norm.bias)
        else:
            y = switch_linear(
                x,
                weight,
                self.rbf.grid,
                self.inv_width,
                norm_weight=norm.weight,
                norm_bias=norm.bias,
                backend=self.backend,
            )
        if self.base_linear is not None:
            y = y + self.base_linear(F.silu(x))
        return y

    def imitate(self, reference: nn.Module, inputs: Float[Tensor, "*batch features"]) -> bool:
        """Change the parameters so that the layer computes what `reference` computes, as nearly as it can.

        Each feature's norm is scaled to fill the grid; the reference's linear part is copied curve by curve, what is
        left by ridge regression. Eight centres copy a linear map with an error of 7 to 8 % of its output.

        Args:
            reference: a module (n, in_features) -> (n, out_features).
            inputs: examples of what it gets; a thousand rows or more serve best.

        Returns:
            False, with nothing changed, if the widths do not agree, values are not finite or rows are fewer
            than 16.
        """
        return imitate_layer(self, reference, inputs)

    def normalised(self, x: Float[Tensor, "rows in_features"]) -> Float[Tensor, "rows in_features"]:
        """The inputs of the basis, u, in float32 or float64."""
        return _normalised(x, self.layernorm.weight, self.layernorm.bias)

    def design(self, x: Float[Tensor, "rows in_features"]) -> Float[Tensor, "rows columns"]:
        """The columns of which the output is a linear function: `self(x) == self.design(x) @ self.solution()`.

        The basis, then with `base_branch` silu(x), then a column of ones if the layer has a bias of any kind: that of
        the base branch, or a parameter `bias` that a subclass adds to the output.
        """
        u = self.normalised(x)
        columns = [switch_basis(u, self.rbf.grid.to(u.dtype), self.inv_width).flatten(-2)]
        if self.base_linear is not None:
            columns.append(F.silu(x).to(u.dtype))
        if self._biases():
            columns.append(torch.ones_like(u[:, :1]))
        return torch.cat(columns, -1) if len(columns) > 1 else columns[0]

    def solution(self) -> Float[Tensor, "columns out_features"]:
        """The coefficients of the columns of `design`, in float32 or float64."""
        rows = [self.matrix().t()]
        if self.base_linear is not None:
            rows.append(self.base_linear.weight.t())
        biases = self._biases()
        if biases:
            rows.append(sum(biases[1:], biases[0]).unsqueeze(0))
        solution = torch.cat(rows)
        return solution if solution.dtype == torch.float64 else solution.float()

    @torch.no_grad()
    def take(self, solution: Float[Tensor, "columns out_features"]) -> None:
        """Set the parameters to coefficients of the columns of `design`."""
        width = self.in_features * self.rbf.num_centres
        self.matrix().copy_(solution[:width].t())
        if self.base_linear is not None:
            self.base_linear.weight.copy_(solution[width : width + self.in_features].t())
        for index, bias in enumerate(self._biases()):
            bias.copy_(solution[-1] if index == 0 else torch.zeros_like(bias))

    def _biases(self) -> list[Tensor]:
        own = getattr(self, "bias", None)
        base = None if self.base_linear is None else self.base_linear.bias
        return [bias for bias in (own, base) if bias is not None]

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, inv_width={self.inv_width:.4g}, backend={self.backend!r}"


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
