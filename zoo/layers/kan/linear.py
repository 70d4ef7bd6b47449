"""The Kolmogorov-Arnold layer: a learned curve on every edge, where a linear layer has a number."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.layers.kan.basis import ChebyshevBasis, GaussianBasis, SwitchBasis, named_basis
from zoo.layers.kan.functional import check_backend, checked_bases, kan_linear, normalised
from zoo.layers.kan.imitation import imitate_layer
from zoo.layers.kan.life import KANLife
from zoo.layers.kan.life.sample import Stage
from zoo.layers.kan.options import (
    as_activation,
    check_choice,
    check_count,
    check_dtype,
    check_input,
    check_nonnegative,
    check_same_dtype,
)


class KANLinear(KANLife):
    """A KAN layer: y_o = sum_i phi_oi(x_i), every phi_oi a combination of K basis functions and a base branch.

        y_o = sum_i w^b_oi sigma(x_i) + sum_ij s_oi c_oij B_j(norm(x)_i) + b_o

    Shapes: (*, in_features) -> (*, out_features). State dict: `weight` c (out, in, K), `edge_scale` s and `base_weight`
    w^b (out, in), `bias` (out), `norm.*`, and `basis.knots` or `basis.centers`; what is switched off is not there.
    `mask` (out, in) is there once edges were pruned: where it is False the curve is 0 and stays so.

    The defaults are the B-spline layer of efficient-kan; `efficient`, `fast`, `faster` and `chebyshev` have those of
    the four libraries that people use.

    Args:
        in_features: inputs.
        out_features: outputs.
        basis: "bspline", "gaussian", "switch", "chebyshev", or a module with `num_bases` and
            `forward(x) -> (*, in_features, num_bases)`, to which grid_size, spline_order and grid_range say nothing.
        grid_size: intervals of B-splines, centres of bells, degree of polynomials.
        spline_order: degree of the pieces of B-splines, 1 to 9.
        grid_range: where intervals or centres lie. B-splines are 0 outside (order more intervals on either side
            excepted): there only the base branch is left. Polynomials are of tanh(x) and have no range.
        base_activation: sigma: a name, a module, or None for no base branch. It sees x before the norm.
        edge_scale: learn s, drawn anew ("ones": all start at 1); otherwise it is 1.
        norm: before the basis: None, "layer" for a layer norm over the inputs, or a module.
        bias: add b.
        scale_noise: how large the curves start: values of B-splines are drawn from U(-1/2, 1/2) * scale_noise /
            grid_size; for Gaussians the standard deviation of c; of no effect on the other bases.
        scale_base: base weights are drawn within sqrt(6 / ((1 + 5 scale_base^2) in_features)). The larger the
            argument, the smaller the weights: as in efficient-kan.
        scale_spline: the same for s; where s is not drawn the factor of c.
        backend: "auto", "reference" or, for B-splines, "compiled"; see `kan_linear`.

    Raises:
        ValueError: a value out of range, an unknown name, a layer norm over a single input; in the call, an input of
            another width, a basis that gives another shape than it should.
        TypeError: something that is no basis, activation or norm, a preset's basis or its options under another name;
            in the call, an input that is not of the layer's type (autocast excepted).

    Half precision and autocast: layer norm and basis are computed in float32, the products in the lower type.

    Source: KAN (2024, arXiv 2404.19756); efficient-kan (2024).
    """

    mask: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        basis: str | nn.Module = "bspline",
        grid_size: int = 5,
        spline_order: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        base_activation: str | nn.Module | None = "silu",
        edge_scale: bool | str = True,
        norm: str | nn.Module | None = None,
        bias: bool = False,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_count("in_features", in_features)
        self.out_features = check_count("out_features", out_features)
        self.scale_noise = check_nonnegative("scale_noise", scale_noise)
        self.scale_base = check_nonnegative("scale_base", scale_base)
        self.scale_spline = check_nonnegative("scale_spline", scale_spline)
        dd: dict[str, Any] = {"device": device, "dtype": check_dtype(dtype)}
        if isinstance(basis, str):
            basis = named_basis(basis, in_features, grid_size, spline_order, grid_range, **dd)
        self.basis = _checked_basis(basis)
        self.backend = check_backend(backend, self.basis)
        self.norm = _norm(norm, in_features, **dd)
        self.base_activation = as_activation("base_activation", base_activation)
        self._unit_scales = isinstance(edge_scale, str) and check_choice("edge_scale", edge_scale, ("ones",)) == "ones"

        def parameter(wanted: bool, *shape: int) -> nn.Parameter | None:
            return nn.Parameter(torch.empty(shape, **dd)) if wanted else None

        self.weight = nn.Parameter(torch.empty(out_features, in_features, self.num_bases, **dd))
        self.edge_scale = parameter(bool(edge_scale), out_features, in_features)
        self.base_weight = parameter(base_activation is not None, out_features, in_features)
        self.bias = parameter(bool(bias), out_features)
        self.register_buffer("mask", None)
        self._draw()

    @classmethod
    def efficient(cls, in_features: int, out_features: int, **options: Any) -> "KANLinear":
        """As efficient-kan's `KANLinear`: cubic B-splines over 5 intervals of [-1, 1], SiLU base, scaled edges.

        Args:
            in_features, out_features, options: see the class, whose defaults these are.
        """
        return cls(in_features, out_features, **options)

    @classmethod
    def fast(
        cls,
        in_features: int,
        out_features: int,
        *,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-2.0, 2.0),
        width: float | None = None,
        base_activation: str | nn.Module | None = "silu",
        norm: str | nn.Module | None = "layer",
        **options: Any,
    ) -> "KANLinear":
        """As fast-kan's layer: 8 Gaussians on [-2, 2] after a layer norm, SiLU base with a bias.

        Args:
            in_features, out_features, base_activation, norm, options: see the class.
            num_centres, grid_range, width: see `GaussianBasis`.
        """
        _check_preset("fast", options, "num_centres, grid_range and width")
        basis = GaussianBasis(num_centres, grid_range, width=width, **_place(options))
        options = {"edge_scale": False, "bias": base_activation is not None, **options}
        return cls(in_features, out_features, basis=basis, base_activation=base_activation, norm=norm, **options)

    @classmethod
    def faster(
        cls,
        in_features: int,
        out_features: int,
        *,
        num_centres: int = 8,
        grid_range: tuple[float, float] = (-1.2, 0.2),
        inv_width: float = 1.0,
        compat_gradient: bool = False,
        **options: Any,
    ) -> "KANLinear":
        """As faster-kan's layer: 8 switches on [-1.2, 0.2] after a layer norm, nothing else.

        The network of that library has its centres on [-1.2, 1.2].

        Args:
            in_features, out_features, options: see the class.
            num_centres, grid_range, inv_width, compat_gradient: see `SwitchBasis`.
        """
        _check_preset("faster", options, "num_centres, grid_range, inv_width and compat_gradient")
        basis = SwitchBasis(
            num_centres, grid_range, inv_width=inv_width, compat_gradient=compat_gradient, **_place(options)
        )
        options = {"base_activation": None, "edge_scale": False, "norm": "layer", **options}
        return cls(in_features, out_features, basis=basis, **options)

    @classmethod
    def chebyshev(cls, in_features: int, out_features: int, *, degree: int = 4, **options: Any) -> "KANLinear":
        """As ChebyKAN's layer: Chebyshev polynomials of tanh(x), nothing else.

        Args:
            in_features, out_features, options: see the class.
            degree: see `ChebyshevBasis`; that library has no default.
        """
        _check_preset("chebyshev", options, "degree")
        options = {"base_activation": None, "edge_scale": False, **options}
        return cls(in_features, out_features, basis=ChebyshevBasis(degree), **options)

    @property
    def num_bases(self) -> int:
        """Basis functions an input, K."""
        return int(self.basis.num_bases)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def reset_parameters(self) -> None:
        """Draw the parameters anew; knots, centres and the norm as the constructor made them, and no edge masked."""
        self.mask = None
        for part in (self.basis, self.norm, self.base_activation):
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()  # pyright: ignore[reportCallIssue, reportOptionalMemberAccess]
        self._draw()

    @torch.no_grad()
    def _draw(self) -> None:
        if hasattr(self.basis, "draw_"):
            self.basis.draw_(self.weight, self.scale_noise)  # pyright: ignore[reportCallIssue]
        else:
            nn.init.normal_(self.weight, std=1 / math.sqrt(self.weight.shape[1:].numel()))
        if self.edge_scale is None or self._unit_scales:
            self.weight.mul_(self.scale_spline)
        if self.edge_scale is not None and self._unit_scales:
            nn.init.ones_(self.edge_scale)
        elif self.edge_scale is not None:
            nn.init.kaiming_uniform_(self.edge_scale, a=math.sqrt(5) * self.scale_spline)
        if self.base_weight is not None:
            nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5) * self.scale_base)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        check_input(x, self.in_features)
        check_same_dtype(x, self.weight)
        return kan_linear(
            x,
            self.weight,
            self.basis,
            norm=self.norm,
            edge_scale=self._edge_factor(),
            base_weight=self.masked_base_weight(),
            base_activation=self.base_activation,
            bias=self.bias,
            backend=self.backend,
        )

    def normalised(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features"]:
        """The inputs of the basis: x after the norm, in float32 or float64."""
        return normalised(x, self.norm)

    def expand(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features bases"]:
        """The basis functions of the normed inputs, in float32 or float64."""
        with no_autocast(x):
            return checked_bases(self.basis, self.normalised(x), self.num_bases)

    def scaled_weight(self) -> Float[Tensor, "out in_features bases"]:
        """The coefficients of the basis functions with their edges' scales, s_oi c_oij; 0 for masked edges."""
        scale = self._edge_factor()
        return self.weight if scale is None else self.weight * scale.unsqueeze(-1)

    def _edge_factor(self) -> Tensor | None:
        """What the coefficients of every edge are multiplied by: its scale, 0 if masked; None for 1 everywhere."""
        if self.edge_scale is not None:
            return self._masked(self.edge_scale)
        return None if self.mask is None else self.mask.to(self.weight.dtype)

    def masked_base_weight(self) -> Float[Tensor, "out in_features"] | None:
        """The weights of the base branch, 0 for masked edges; None without that branch."""
        return None if self.base_weight is None else self._masked(self.base_weight)

    def _masked(self, edges: Tensor) -> Tensor:
        return edges if self.mask is None else edges * self.mask

    @torch.no_grad()
    def mask_edges(self, keep: Bool[Tensor, "out in_features"]) -> None:
        """Set edges to 0 for good, beside those that are already.

        Args:
            keep: False for the edges that go.

        Raises:
            ValueError: no boolean tensor of the shape (out_features, in_features).
        """
        shape = (self.out_features, self.in_features)
        if keep.dtype != torch.bool or keep.shape != shape:
            raise ValueError(
                f"keep must be boolean of the shape (out_features, in_features) = {shape}, got {keep.dtype} of the "
                f"shape {tuple(keep.shape)}"
            )
        keep = keep.to(self.weight.device)
        self.mask = keep.clone() if self.mask is None else self.mask & keep

    def edge_curve(
        self, x: Float[Tensor, " points"], in_index: int, out_index: int, *, base: bool = True
    ) -> Float[Tensor, " points"]:
        """The curve phi of one edge at points of its argument: what comes out of the norm, where there is one.

        Args:
            x: points.
            in_index, out_index: the edge.
            base: with the base branch. After a norm that branch has another argument, and is left out.

        Raises:
            IndexError: there is no such edge.
        """
        for name, index, size in (
            ("in_index", in_index, self.in_features),
            ("out_index", out_index, self.out_features),
        ):
            if not -size <= index < size:
                raise IndexError(f"{name} must be from {-size} to {size - 1}, got {index}")
        bases = self.basis(x.unsqueeze(-1).expand(-1, self.in_features))[:, in_index]
        curve = bases @ self.scaled_weight()[out_index, in_index].to(bases.dtype)
        base_weight = self.masked_base_weight()
        if base and self.norm is None and self.base_activation is not None and base_weight is not None:
            curve = curve + base_weight[out_index, in_index] * self.base_activation(x)
        return curve

    def imitate(self, reference: nn.Module, inputs: Float[Tensor, "*batch features"]) -> bool:
        """Change the parameters so that the layer computes what `reference` computes, as nearly as it can.

        A layer norm is scaled so that every feature fills the range of the basis; the reference's linear part is copied
        curve by curve, what is left by ridge regression. Eight bells copy a linear map with an error of 7 to 8 % of
        its output.

        Args:
            reference: a module (n, in_features) -> (n, out_features).
            inputs: examples of what it gets; a thousand rows or more serve best.

        Returns:
            False, with nothing changed, if the widths do not agree, values are not finite or rows are fewer
            than 16.
        """
        return imitate_layer(self, reference, inputs)

    def design(self, x: Float[Tensor, "rows in_features"]) -> Float[Tensor, "rows columns"]:
        """The columns of which the output is a linear function: `self(x) == self.design(x) @ self.solution()`.

        The bases, then the activated inputs if there is a base branch, then a column of ones if there is a bias.
        """
        bases = self.expand(x)
        columns = [bases.flatten(-2)]
        if self.base_activation is not None:
            columns.append(self.base_activation(x).to(bases.dtype))
        if self.bias is not None:
            columns.append(bases.new_ones(len(bases), 1))
        return torch.cat(columns, -1)

    def solution(self) -> Float[Tensor, "columns out_features"]:
        """The coefficients of the columns of `design`, in float32 or float64."""
        rows = [self.scaled_weight().flatten(1).t()]
        base_weight = self.masked_base_weight()
        if base_weight is not None:
            rows.append(base_weight.t())
        if self.bias is not None:
            rows.append(self.bias.unsqueeze(0))
        solution = torch.cat(rows)
        return solution if solution.dtype == torch.float64 else solution.float()

    @torch.no_grad()
    def take(self, solution: Float[Tensor, "columns out_features"]) -> None:
        """Set the parameters to coefficients of the columns of `design`; every scale of an edge to 1."""
        splines, base, _ = solution.split(
            [
                self.in_features * self.num_bases,
                self.in_features * (self.base_weight is not None),
                self.bias is not None,
            ]
        )
        self.weight.copy_(splines.t().unflatten(1, (self.in_features, -1)))
        if self.edge_scale is not None:
            self.edge_scale.fill_(1.0)
        if self.base_weight is not None:
            self.base_weight.copy_(base.t())
        if self.bias is not None:
            self.bias.copy_(solution[-1])

    def regularization_loss(self, l1: float = 1.0, entropy: float = 1.0) -> Float[Tensor, ""]:
        """l1 sum(A) + entropy H(A / sum(A)), with A_oi = mean_j |c_oij| and H(p) = -sum p ln p.

        The first term makes curves small, the second makes few of them large. Scales, the base branch and masked
        edges are no part of it. A layer whose curves are all 0 gives 0.

        Args:
            l1, entropy: weights of the two.

        Source: efficient-kan (2024).
        """
        sizes = self._masked(self.weight.abs().mean(-1))
        sizes = sizes if sizes.dtype == torch.float64 else sizes.float()
        total = sizes.sum()
        tiny = torch.finfo(sizes.dtype).tiny
        # p ln p has an infinite slope at 0, where a curve that is 0 would get NaN for its gradient.
        shares = (sizes / total.clamp_min(tiny)).clamp_min(tiny)
        return l1 * total + entropy * torch.special.entr(shares).sum()

    def state_shapes(self, given: Mapping[str, Tensor]) -> dict[str, torch.Size | None]:
        """What of a state dict need not have the shape that it has here: the mask, which may be there or not.

        Args:
            given: the layer's part of the state dict.

        Returns:
            name -> the shape that is taken, None where nothing need be there.
        """
        mask = given.get("mask")
        if mask is None:
            return {"mask": None} if "weight" in given else {}
        return {"mask": torch.Size((self.out_features, self.in_features))} if mask.dtype == torch.bool else {}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if prefix + "mask" in state_dict:
            if self.mask is None:
                self.mask = torch.ones_like(self.weight[..., 0], dtype=torch.bool)
        elif prefix + "weight" in state_dict:
            self.mask = None  # the whole layer is in the file, and there no edge was masked
        super()._load_from_state_dict(state_dict, prefix, *args)

    def stages(self) -> list[Stage]:
        """This layer alone."""
        return [(self, None)]

    def extra_repr(self) -> str:
        kept = (self.edge_scale is not None, self.bias is not None, sum(p.numel() for p in self.parameters()))
        return "{}, {}, edge_scale={}, bias={}, parameters={:,}".format(self.in_features, self.out_features, *kept)


def _place(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options.get(name) for name in ("device", "dtype")}


def _check_preset(preset: str, options: dict[str, Any], names: str) -> None:
    """Refuse options of the class that say nothing to the basis of a preset, whose own are `names`."""
    unheard = [name for name in ("basis", "grid_size", "spline_order", "grid_range") if name in options]
    if unheard:
        raise TypeError(f"KANLinear.{preset} takes {names} for its basis, got {', '.join(unheard)}")


def _checked_basis(basis: Any) -> nn.Module:
    if not isinstance(basis, nn.Module) or not hasattr(basis, "num_bases"):
        raise TypeError(
            f"basis must be a name or a module with num_bases and forward(x) -> (*, in_features, num_bases), "
            f"got {type(basis).__name__}"
        )
    check_count("basis.num_bases", basis.num_bases)  # pyright: ignore[reportArgumentType]
    return basis


def _norm(norm: str | nn.Module | None, in_features: int, **dd: Any) -> nn.Module | None:
    if norm is None or isinstance(norm, nn.Module):
        return norm
    if not isinstance(norm, str):
        raise TypeError(f"norm must be None, 'layer' or a module, got {norm!r}")
    check_choice("norm", norm, ("layer",))
    if in_features == 1:
        raise ValueError("norm='layer' of a single input is 0 whatever the input: in_features = 1 needs norm=None")
    return nn.LayerNorm(in_features, **dd)
